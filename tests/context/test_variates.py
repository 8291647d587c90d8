"""Canonical variates against the law that they make up, and the test that finds none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.context import message_index
from tokenkl.context import variates as module
from tokenkl.context.variates import (
    canonical_variates,
    counted_variates,
    structure_test,
    weighted_features,
)
from tokenkl.sources import HiddenMarkov, Independent, Joint, Markov, Source, bigrams


def _sources() -> list[Source]:
    rng = np.random.default_rng(0)
    with_zeros = rng.dirichlet(np.full(5, 0.3), 5)
    with_zeros[:, 2] = 0  # a token that never comes second
    law = with_zeros / with_zeros.sum()
    hidden = HiddenMarkov(rng.dirichlet(np.ones(3), 3), rng.dirichlet(np.ones(7), 3), 4)
    return [Joint(law), Markov(rng.dirichlet(np.ones(6), 6), 3), hidden]


@pytest.mark.parametrize("which", range(3))
def test_they_make_up_the_law(which: int) -> None:
    source = _sources()[which]
    found = canonical_variates(source)
    a, b = found.marginals
    inner = 1 + (found.first * found.correlations) @ found.second.T
    assert np.allclose(a[:, None] * inner * b, source.pair(0, 1), atol=1e-14)
    real = found.correlations > 1e-9
    for law, side in ((a, found.first[:, real]), (b, found.second[:, real])):
        assert np.allclose(law @ side, 0, atol=1e-12)
        assert np.allclose(side.T @ (law[:, None] * side), np.eye(side.shape[1]), atol=1e-10)
    assert (np.diff(found.correlations) <= 1e-15).all()
    assert found.correlations[0] <= 1


@pytest.mark.parametrize("second", [1, 2])
def test_many_tokens_by_products(monkeypatch: pytest.MonkeyPatch, second: int) -> None:
    """The largest ones by products with vectors are those of the whole matrix."""
    rng = np.random.default_rng(1)
    chain = Markov(rng.dirichlet(np.full(40, 0.2), 40), 3)
    tokens = chain.sample(300, key=0)
    for source in (chain, bigrams(tokens, 40, 3)):
        whole = canonical_variates(source, 0, second, rank=6)
        monkeypatch.setattr(module, "MOST_DENSE", 0)
        found = canonical_variates(source, 0, second, rank=6)
        monkeypatch.undo()
        assert np.allclose(found.correlations, whole.correlations, rtol=1e-9)
        for one, other in ((found.first, whole.first), (found.second, whole.second)):
            signs = np.sign((one * other).sum(axis=0))
            assert np.allclose(one * signs, other, atol=1e-6)


def test_features_are_centred_and_weighted() -> None:
    pair = canonical_variates(_sources()[1])
    features, law = weighted_features([pair, pair], [1.0, 2.0])
    assert features.shape == (6, 20)
    assert np.allclose(law @ features, 0, atol=1e-14)
    assert np.isclose((law[:, None] * features**2).sum(), 10 * (pair.correlations**2).sum())


def test_false_alarms() -> None:
    """Independent tokens of very unequal frequencies: p-values are uniform, or larger."""
    law = np.random.default_rng(0).dirichlet(np.full(30, 0.3))
    source = Independent(np.tile(law, (25, 1)))
    found = [
        structure_test(source.sample(8, key=key), 30, permutations=19, key=key).p_value
        for key in range(200)
    ]
    # 200 tests at 10 %: above 20 by more than 4.2 standard deviations with chance 2e-5.
    assert (np.array(found) <= 0.1).sum() <= 20 + 4.2 * np.sqrt(200 * 0.09)
    assert np.mean(found) > 0.4


def test_weak_structure_is_found() -> None:
    K = 12
    u = np.random.default_rng(3).standard_normal((K, 1))
    rows = np.exp(0.35 * u * u.T)
    chain = Markov(rows / rows.sum(axis=1, keepdims=True), 40)
    test = structure_test(chain.sample(100, key=1), K, key=2)
    assert test.p_value == 0.01
    assert 1 <= test.significant <= 3


def test_many_tokens_are_tested_by_products(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = _sources()[1].sample(60, key=4)
    whole = structure_test(tokens, 6, permutations=19, rank=3, key=5)
    monkeypatch.setattr(module, "MOST_DENSE", 0)
    found = structure_test(tokens, 6, permutations=19, rank=3, key=5)
    assert np.allclose(found.correlations, whole.correlations, rtol=1e-8)
    assert np.allclose(found.null, whole.null, rtol=1e-8)


def test_one_token_tells_nothing() -> None:
    assert structure_test([[3, 3, 3]], 5, key=0).p_value == 1


def test_refusals() -> None:
    with pytest.raises(ValueError, match="rank must be a whole number, at most 5"):
        canonical_variates(_sources()[1], rank=6)
    with pytest.raises(ValueError, match="tokens must be longer sequences"):
        structure_test([[0, 1]], 2, gap=2, key=0)
    with pytest.raises(ValueError, match="permutations must be a whole number, at least 19"):
        structure_test([[0, 1]], 2, permutations=5, key=0)
    with pytest.raises(ValueError, match="one of at least 2 tokens"):
        canonical_variates(Independent([[1.0], [1.0]]))


def test_counted_correlations_are_honest() -> None:
    """Few tokens: those of the law are found, where counts themselves show what chance makes."""
    K = 40
    u = np.random.default_rng(3).standard_normal((K, 1))
    rows = np.exp(0.35 * u * u.T)
    chain = Markov(rows / rows.sum(axis=1, keepdims=True), 50)
    true = canonical_variates(chain).correlations
    tokens = chain.sample(300, key=1)
    found = counted_variates(tokens, K, key=2).correlations
    assert abs(found[:2] - true[:2]).max() < 0.06
    assert (found[2:] ** 2).sum() < 0.02
    again = counted_variates(tokens, K, gap=2, key=2).correlations
    assert abs(again[0] - canonical_variates(chain, 0, 2).correlations[0]) < 0.06
    noise = Independent(np.full((50, K), 1 / K)).sample(60, key=4)
    assert (counted_variates(noise, K, key=5).correlations ** 2).sum() < 0.01


@settings(deadline=None, max_examples=50)
@given(K=st.integers(2, 9), rank=st.integers(0, 8), seed=st.integers(0, 2**16))
def test_variates_are_of_mean_0_and_variance_1_at_any_correlation(
    K: int, rank: int, seed: int
) -> None:
    """Laws of any rank above independence: variates of correlation 0 are variates, too."""
    rng = np.random.default_rng(seed)
    a, b = rng.dirichlet(np.ones(K), 2) * 0.99 + 0.01 / K
    f, g = rng.standard_normal((2, K, rank))
    coupling = (f - a @ f) @ (g - b @ g).T
    law = np.outer(a, b) * (1 + 0.9 * coupling / max(abs(coupling).max(initial=0), 1e-300))
    found = canonical_variates(Joint(law / law.sum()))
    for prior, side in zip(found.marginals, (found.first, found.second), strict=True):
        assert np.allclose(prior @ side, 0, atol=1e-11)
        assert np.allclose(side.T @ (prior[:, None] * side), np.eye(K - 1), atol=1e-11)
    whole = np.outer(*found.marginals) * (1 + (found.first * found.correlations) @ found.second.T)
    assert np.allclose(whole, law / law.sum(), atol=1e-13)


@pytest.mark.parametrize("pair", [(0, 5), (0, 2), (2, 3)])
def test_positions_that_are_none(pair: tuple[int, int]) -> None:
    law = Joint([[0.4, 0.1], [0.2, 0.3]])
    with pytest.raises(ValueError, match="positions must be"):
        canonical_variates(law, *pair)
    with pytest.raises(ValueError, match="positions must be"):
        message_index(tk.FSQ((2,)), law, 1.0, pairs=[pair])


@pytest.mark.parametrize("gap", [0, -1, 1.5])
def test_gaps_that_are_none(gap: float) -> None:
    with pytest.raises(ValueError, match="gap must be a whole number"):
        counted_variates([[0, 1, 0, 1]] * 4, 2, gap=gap)  # type: ignore[arg-type]
