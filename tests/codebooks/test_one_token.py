"""A codebook of one token, of every kind: nothing is lost, and nothing is to be learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tokenkl as tk
from tokenkl import bounds
from tokenkl.quantities import QUANTITIES

SNR = np.array([0.0, 1e-3, 50.0])
KINDS = {
    "one-hot": tk.OneHot(1, scale=3.0),
    "grid": tk.ProductCodebook([[2.5], [-1.0]]),
    "points": tk.PointCodebook([[2.5, -1.0, 0.5]]),
    "one number": tk.PointCodebook([[2.5]]),
    "residual": tk.ResidualCodebook([[[2.5, -1.0]], [[0.5, 1.0]]]),
}


@pytest.mark.parametrize("codebook", KINDS.values(), ids=KINDS)
def test_every_quantity_is_known(codebook: tk.Codebook) -> None:
    for name in QUANTITIES:
        found = getattr(tk, name)(codebook, SNR)
        np.testing.assert_array_equal(found.value, np.full(3, float(name == "accuracy")))
        assert not np.signbit(found.value).any()
        assert (np.asarray(found.standard_error) == 0).all()
        assert (np.asarray(found.numerical_error) < 1e-14).all()
    assert (tk.decide(codebook, np.zeros((4, codebook.n)), 3.0) == 0).all()


@pytest.mark.parametrize("codebook", KINDS.values(), ids=KINDS)
def test_also_where_it_is_traced(codebook: tk.Codebook) -> None:
    for name in QUANTITIES:
        function = getattr(tk, name)
        found = jax.jit(lambda snr, function=function: function(codebook, snr).value)(SNR)
        np.testing.assert_array_equal(found, np.full(3, float(name == "accuracy")))
    gradient = jax.grad(lambda snr: tk.conditional_entropy(codebook, snr).value)(jnp.float32(2.0))
    assert gradient == 0


@pytest.mark.parametrize("codebook", KINDS.values(), ids=KINDS)
def test_every_bound_is_sharp(codebook: tk.Codebook) -> None:
    for bound in (bounds.union_bound, bounds.bonferroni_bound, bounds.de_caen_bound):
        np.testing.assert_array_equal(np.asarray(bound(codebook, SNR).value), 0.0)
    for quantity in QUANTITIES:
        found = tk.bracket(codebook, 2.0, quantity)
        expected = float(quantity == "accuracy")
        assert float(found.lower.value) == pytest.approx(expected, abs=1e-14)
        assert float(found.upper.value) == pytest.approx(expected, abs=1e-14)
