"""What XLA makes for users, with all its optimisations, gives the numbers of the tests' quick code.

Run as a program this file prints them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

import tokenkl as tk
from tokenkl.channels.gaussian import log_posterior


def numbers() -> dict[str, list[float]]:
    """Values and slopes of what is traced: exact, sampled, of one posterior, in both precisions."""
    points = np.random.default_rng(2).standard_normal((5, 3))
    levels, prior = np.array([-1.0, -0.3, 0.8]), np.array([0.5, 0.2, 0.3])
    sampled = tk.MonteCarlo(n_samples=256)
    functions: dict[str, tuple[Any, Any]] = {
        "exact": (
            lambda x: tk.conditional_entropy(tk.ProductCodebook([x], [prior]), 3.0).value,
            levels,
        ),
        "sampled": (
            lambda x: tk.mmse(tk.PointCodebook(x), 1.5, method=sampled, key=4).value,
            points,
        ),
        "posterior": (
            lambda x: log_posterior(tk.PointCodebook(points), x, 2.0)[0],
            np.array([0.3, -0.2, 1.0]),
        ),
    }
    found = {}
    for name, (function, at) in functions.items():
        for x64 in (True, False):
            with jax.enable_x64(x64):
                value, slope = jax.jit(jax.value_and_grad(function))(at)
            found[f"{name}, {x64}"] = [float(value), *np.ravel(slope).tolist()]
    return found


@pytest.mark.slow
def test_the_same_numbers() -> None:
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, __file__], env=plain, capture_output=True, text=True, check=True
    )
    users, ours = json.loads(done.stdout), numbers()
    assert users.keys() == ours.keys()
    for name, expected in users.items():
        tolerance = 1e-12 if name.endswith("True") else 3e-6
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=tolerance * scale)


if __name__ == "__main__":
    print(json.dumps(numbers()))
