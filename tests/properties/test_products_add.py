"""A product of codebooks: entropies, informations and MMSEs add, accuracies multiply."""

import numpy as np
from hypothesis import given

import tokenkl as tk
from tokenkl.testing import grids, snrs


@given(grids(), grids(), snrs())
def test_product(first: tk.ProductCodebook, second: tk.ProductCodebook, snr: float) -> None:
    both = tk.ProductCodebook([*first.levels, *second.levels], [*first.priors, *second.priors])
    a, b, joint = (tk.profile(one, snr) for one in (first, second, both))
    for name in ("conditional_entropy", "mutual_information", "mmse"):
        expected = float(a[name].value) + float(b[name].value)
        np.testing.assert_allclose(float(joint[name].value), expected, rtol=1e-9, atol=1e-290)
    accuracy = float(a["accuracy"].value) * float(b["accuracy"].value)
    np.testing.assert_allclose(float(joint["accuracy"].value), accuracy, rtol=1e-12)
    # Errors: 1 - (1 - x)(1 - y) = x + y - x y, without cancellation.
    x, y = (float(one["error_probability"].value) for one in (a, b))
    expected = x + y - x * y
    np.testing.assert_allclose(
        float(joint["error_probability"].value), expected, rtol=1e-9, atol=1e-290
    )
