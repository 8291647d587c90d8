"""Every kind of source against the listing of all its sequences."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from scipy import sparse

from tokenkl.sources import (
    GIVEN,
    Given,
    HiddenMarkov,
    Independent,
    Joint,
    Markov,
    Source,
    Stochastic,
    bilinear,
)

K, LENGTH = 4, 4


class Listed(Source):
    """Another source, of which only the probabilities are taken: all else is by enumeration."""

    of: Source

    @property
    def K(self) -> int:
        return self.of.K

    @property
    def length(self) -> int:
        return self.of.length

    def log_prob(self, tokens: Any) -> np.ndarray:
        return self.of.log_prob(tokens)


def _transition(rng: np.random.Generator) -> np.ndarray:
    """With a zero, a near zero, and rows far from each other."""
    rows = rng.dirichlet(np.full(K, 0.4), K)
    rows[0, 1], rows[2, 3] = 0.0, 1e-250
    found: np.ndarray = rows / rows.sum(axis=1, keepdims=True)
    return found


def _mixed(rng: np.random.Generator) -> Stochastic:
    part = sparse.csr_array(0.7 * _transition(rng))
    return Stochastic.mixed(part, np.full((K, 1), 0.3), rng.dirichlet(np.ones(K), 1))


def _law(rng: np.random.Generator) -> np.ndarray:
    law = rng.dirichlet(np.full(K**LENGTH, 0.3))
    law[::7] = 0
    return law.reshape((K,) * LENGTH) / law.sum()


KINDS: dict[str, Callable[[np.random.Generator], Source]] = {
    "markov": lambda rng: Markov(_transition(rng), LENGTH, rng.dirichlet(np.ones(K))),
    "stationary": lambda rng: Markov(_transition(rng), LENGTH),
    "sparse": lambda rng: Markov(sparse.csr_array(_transition(rng)), LENGTH),
    "mixed": lambda rng: Markov(_mixed(rng), LENGTH, [1.0, 0.0, 0.0, 0.0]),
    "hidden": lambda rng: HiddenMarkov(
        rng.dirichlet(np.ones(3), 3), rng.dirichlet(np.full(K, 0.3), 3), LENGTH
    ),
    "hidden sparse": lambda rng: HiddenMarkov(
        sparse.csr_array(np.roll(np.eye(3), 1, axis=1)), _transition(rng)[:3], LENGTH, np.eye(3)[0]
    ),
    "independent": lambda rng: Independent(rng.dirichlet(np.full(K, 0.3), LENGTH)),
    "joint": lambda rng: Joint(_law(rng)),
    "one token": lambda rng: Markov(_transition(rng), 1, rng.dirichlet(np.ones(K))),
}


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest) -> Source:
    return KINDS[request.param](np.random.default_rng(len(request.param)))


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 3000.0])
def test_messages(source: Source, scale: float) -> None:
    """Also where what is seen contradicts the law by thousands of nats."""
    rng = np.random.default_rng(1)
    seen = scale * rng.standard_normal((40, source.length, source.K))
    seen[:5, 0, 0] = -np.inf
    messages, evidence = source.messages(seen)
    listed, log_sum = Listed(source).messages(seen)
    assert np.allclose(evidence, log_sum, rtol=1e-13, atol=1e-12)
    assert np.array_equal(np.isneginf(messages), np.isneginf(listed))
    rounding = 1e-13 * max(1.0, scale) * LENGTH  # of logs, whose sums are that large
    assert np.allclose(messages, listed, rtol=0, atol=rounding)


def test_a_contradiction_has_no_evidence() -> None:
    chain = Markov([[0.0, 1.0], [1.0, 0.0]], 2, [0.5, 0.5])
    seen = np.full((1, 2, 2), -np.inf)
    seen[0, :, 0] = 0.0  # the same token twice, which never occurs
    assert np.isneginf(chain.messages(seen)[1]).all()


@pytest.mark.parametrize("given", GIVEN)
def test_conditional(source: Source, given: Given) -> None:
    tokens = source.sample(60, key=1)
    found, listed = source.conditional(tokens, given), Listed(source).conditional(tokens, given)
    assert np.allclose(np.exp(found), np.exp(listed), rtol=1e-12, atol=1e-14)
    assert np.allclose(np.exp(found).sum(axis=-1), 1, atol=1e-12)


def test_marginals_pairs_and_entropy(source: Source) -> None:
    listed = Listed(source)
    assert np.allclose(source.marginals(), listed.marginals(), atol=1e-14)
    assert abs(source.entropy() - listed.entropy()) < 1e-12
    assert abs(listed.joint().sum() - 1) < 1e-12
    if source.length > 1:
        assert np.allclose(source.pair(0, 1), listed.pair(0, 1), atol=1e-14)
        assert np.allclose(source.pair(1, 3), listed.pair(1, 3), atol=1e-14)
        operator = source.pair_operator(1, 3)
        assert np.allclose(operator @ np.eye(K), listed.pair(1, 3), atol=1e-14)
        assert np.allclose(operator.T @ np.eye(K), listed.pair(1, 3).T, atol=1e-14)


def test_sample(source: Source) -> None:
    """Frequencies of all sequences: a chi-squared statistic within its 2e-5 quantiles."""
    size = 40_000
    tokens, law = source.sample(size, key=3), Listed(source).joint().ravel()
    where = np.ravel_multi_index(tuple(tokens.T), (source.K,) * source.length)
    counts = np.bincount(where, minlength=law.size)
    assert counts[law == 0].sum() == 0
    order = np.argsort(-law)
    pool = np.minimum(np.cumsum(law[order]) * 60, 59).astype(int)  # pools of about 1/60 each
    seen, expected = np.bincount(pool, counts[order]), np.bincount(pool, size * law[order])
    seen, expected = seen[expected > 0], expected[expected > 0]
    assert ((seen - expected) ** 2 / expected).sum() < 59 + 4.2 * np.sqrt(2 * 59) + 12
    assert np.array_equal(tokens[:5], source.sample(size, key=3)[:5])


def test_entropy_rate_and_long_chains() -> None:
    """H(X) of a stationary chain is that of a token and the rate for every other; no underflow."""
    rng = np.random.default_rng(5)
    chain = Markov(_transition(rng), 2000)
    first = -(chain.initial * np.log(chain.initial)).sum()
    assert abs(chain.entropy() - first - 1999 * chain.entropy_rate()) < 1e-9
    tokens = chain.sample(2, key=1)
    messages, _ = chain.messages(np.zeros((2, 2000, K)))
    assert np.allclose(np.exp(messages), chain.marginals(), atol=1e-10)
    assert np.isfinite(chain.log_prob(tokens)).all()


@pytest.mark.parametrize("size", [5, 600])
def test_the_law_that_a_step_keeps(size: int) -> None:
    """Also of a chain with a period, and of one that is nearly apart; few states and many."""
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(size), size)
    law = Stochastic.of(rows).stationary()
    assert np.allclose(law @ rows, law, rtol=1e-12)
    turning = Stochastic.of(np.roll(np.eye(5), 1, axis=1)).stationary()
    assert np.allclose(turning, 0.2)
    slow = Stochastic.of([[1 - 1e-9, 1e-9], [3e-9, 1 - 3e-9]]).stationary()
    assert np.allclose(slow, [0.75, 0.25], rtol=1e-6)  # as well as the diagonal knows


@pytest.mark.parametrize("size", [20, 600])
@pytest.mark.parametrize("kind", ["dense", "sparse", "factors"])
def test_two_sets_that_are_never_left_have_no_single_law(kind: str, size: int) -> None:
    """States before `cut`, those behind it, and a first one that leads to both."""
    cut = size // 2
    left = np.zeros((size, 2))
    left[:cut, 0] = left[cut:, 1] = 1.0
    # It leads to either as a state drawn at random does: two starts alone end in the same law.
    left[0] = (cut - 1) / (size - 1), (size - cut) / (size - 1)
    right = np.zeros((2, size))
    right[0, 1:cut], right[1, cut:] = 1 / (cut - 1), 1 / (size - cut)
    rows: Any = left @ right
    if kind == "sparse":
        rows = sparse.csr_array(rows)
    if kind == "factors":
        rows = Stochastic.mixed(sparse.csr_array((size, size)), left, right)
    with pytest.raises(ValueError, match="keep a single law"):
        Stochastic.of(rows).stationary()
    left[cut:] = [1.0, 0.0]  # what is behind leads back
    kept = Stochastic.mixed(sparse.csr_array((size, size)), left, right).stationary()
    assert np.allclose(kept[1:cut], 1 / (cut - 1), rtol=1e-9)


@pytest.mark.parametrize("farthest", [1e3, 1e9, 1e15])
def test_a_step_takes_no_longer_for_logs_that_spread(farthest: float) -> None:
    """Bands between which nothing is are not gone through."""
    rows = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    logs = np.array([[-farthest, 0.0, -2 * farthest], [0.0, -np.inf, -farthest]])
    with np.errstate(divide="ignore"):
        expected = np.logaddexp.reduce(logs[:, :, None] + np.log(rows), axis=1)
    np.testing.assert_allclose(Stochastic.of(rows).step(logs), expected, rtol=1e-13)


def test_a_matrix_without_states_is_refused() -> None:
    with pytest.raises(ValueError, match="transition must be one with rows and columns"):
        Markov(sparse.csr_array((0, 0)), 3)


def test_bilinear() -> None:
    rng = np.random.default_rng(2)
    u, v, A = rng.standard_normal((5, 3)), rng.standard_normal((5, 2)), rng.standard_normal((3, 2))
    base = rng.random((5, 5))
    law = bilinear(u, v, A, base=base).law
    energy = np.log(law / base)
    assert np.allclose(energy - energy[0, 0], u @ A @ v.T - (u @ A @ v.T)[0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Markov([[0.5, 0.6], [0.5, 0.5]], 3), "transition must be laws, which sum to 1"),
        (lambda: Markov([[0.5, 0.5]], 3), "transition must be square"),
        (lambda: Markov(np.eye(2), 3), "transition must be one whose steps keep a single law"),
        (lambda: Markov(np.eye(2), 0, [0.5, 0.5]), "length must be"),
        (lambda: Markov(np.eye(2), 2, [0.5, 0.4]), "initial must be laws"),
        (lambda: HiddenMarkov(np.eye(2), np.ones((3, 1)), 2), r"of shape \(3, 3\)"),
        (lambda: Independent([[1.5, -0.5]]), "laws must be probabilities, at least 0"),
        (lambda: Joint(np.ones((2, 3)) / 6), "law must be axes of one size"),
        (lambda: bilinear(np.eye(2), np.eye(3), np.eye(2)), "second must be 2"),
        (lambda: Joint(np.eye(2) / 2).conditional([[0, 1]], "left"), "sequences that can occur"),
        (lambda: Joint(np.eye(2) / 2).conditional([[0, 2]], "left"), "tokens must be"),
        (lambda: Joint(np.eye(2) / 2).messages(np.zeros((1, 2, 3))), r"shape \(N, 2, 2\)"),
        (lambda: Joint(np.eye(2) / 2).messages(np.full((1, 2, 2), np.nan)), "finite or -inf"),
        (lambda: Joint(np.eye(2) / 2).pair(1, 1), "the first before the second"),
        (lambda: Markov(np.eye(2), 3, [0.5, 0.5]).pair(cast(Any, 0.0), 1), "positions must be"),
        (lambda: Markov(np.eye(2), 3, [0.5, 0.5]).messages(np.zeros((0, 3, 2))), "N >= 1"),
        (lambda: Markov(np.full((9, 9), 1 / 9), 9).joint(), "one of at most 4,194,304"),
    ],
)
def test_refusals(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
