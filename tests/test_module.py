"""Methods of immutable pytrees are Python's: fast to call, and JAX's transformations take them."""

import copy
import pickle
import types
from typing import Any

import jax
import numpy as np
import pytest

import tokenkl as tk

SCHEDULE = tk.LinearVP()
METHODS: dict[str, Any] = {
    "schedule": SCHEDULE.snr,
    "codebook": tk.FSQ((3, 3)).points_at,
    "source": tk.sources.Markov(np.full((2, 2), 0.5), 3).marginals,
    "channel": tk.channels.Masking([0.4, 0.6]).profile,
}


@pytest.mark.parametrize("name", METHODS)
def test_they_are_made_by_python(name: str) -> None:
    assert isinstance(METHODS[name], types.MethodType)
    assert METHODS[name] == getattr(METHODS[name].__self__, METHODS[name].__name__)


def test_they_are_transformed() -> None:
    t = np.array([0.2, 0.6])
    np.testing.assert_allclose(jax.jit(SCHEDULE.snr)(t), SCHEDULE.snr(t), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(SCHEDULE.snr)(t), SCHEDULE.snr(t), rtol=1e-6)
    slope = (SCHEDULE.snr(0.3 + 1e-6) - SCHEDULE.snr(0.3 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(SCHEDULE.snr)(0.3), slope, rtol=1e-5)


def test_what_a_compiled_function_is_given_is_the_schedule() -> None:
    found = jax.jit(lambda schedule, t: schedule.snr(t))(tk.BetaVP(0.1, 20.0), 0.5)
    np.testing.assert_allclose(found, tk.BetaVP(0.1, 20.0).snr(0.5), rtol=1e-6)


def test_they_are_copied() -> None:
    for again in (pickle.loads(pickle.dumps(SCHEDULE.snr)), copy.deepcopy(SCHEDULE).snr):
        assert again(0.3) == SCHEDULE.snr(0.3)


def test_they_stay_frozen() -> None:
    with pytest.raises(AttributeError):
        tk.FSQ((3, 3)).levels = ()
