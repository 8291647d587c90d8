"""The N-step evidence bound against -log p_N by quadrature, closed forms and the path KL."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy import special

import tokenkl as tk
from tokenkl.channels.gaussian import log_posterior, sample

Z = special.ndtri(1 - 1e-5)
LINE = tk.PointCodebook([[-1.0], [0.2], [1.5]], [0.6, 0.3, 0.1])
GRIDS = (np.array([0.3, 2.0]), np.array([0.1, 1.0, 4.0]))


def exact(codebook: tk.Codebook) -> Callable[..., Any]:
    return lambda y, snr: log_posterior(codebook, y, snr)


def skewed(y: np.ndarray, snr: np.ndarray) -> np.ndarray:
    """A denoiser that is wrong everywhere."""
    return np.concatenate([np.sin(2 * y), y, 0.3 - y * np.sqrt(snr)[:, None]], axis=1)


def of_each(denoiser: Callable[..., Any], grid: np.ndarray, **options: Any) -> list[tk.Estimate]:
    """The bound of every token of LINE, with little noise."""
    each = (np.full(4000, k) for k in range(LINE.K))
    return [
        tk.evidence_bound(LINE, denoiser, ids, grid, key=k, **options).given_tokens
        for k, ids in enumerate(each)
    ]


@pytest.mark.parametrize("start", [1.0, 1.3])
@pytest.mark.parametrize("grid", GRIDS, ids=len)
@pytest.mark.parametrize("denoiser", [exact(LINE), skewed], ids=["exact", "skewed"])
def test_above_the_samplers_own_law(
    denoiser: Callable[..., Any], grid: np.ndarray, start: float
) -> None:
    """p_N of the library's sampler by Gauss-Hermite quadrature over all of its noise."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    x, mass = start * nodes[:, None], weights
    for low, high in itertools.pairwise(grid):
        level = np.full(len(x), low)
        moved = np.exp(special.log_softmax(denoiser(x, level), axis=1)) @ LINE.points
        now, then = tk.Level.of_snr(low), tk.Level.of_snr(high)
        fresh = np.tile(nodes, len(x))[:, None]
        state, mean = (np.repeat(part, nodes.size, axis=0) for part in (x, moved))
        x = tk.Ancestral().step(state, mean, now, then, fresh)
        mass = np.outer(mass, weights).ravel()
    law = mass @ special.softmax(denoiser(x, np.full(len(x), grid[-1])), axis=1)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    for found, p in zip(of_each(denoiser, grid, start=start), law, strict=True):
        assert found.value + Z * found.standard_error > -math.log(p)
        assert found.value > -math.log(p) - 1e-3


def test_a_constant_denoiser_in_closed_form() -> None:
    """Nothing is random then, and only the moves and the start are lost."""
    logits, grid, start = np.array([0.3, -1.0, 0.5]), np.array([0.5, 1.0, 4.0]), 1.25
    constant = lambda y, snr: np.broadcast_to(logits, (len(y), 3))  # noqa: E731
    at = special.softmax(logits) @ LINE.points
    for found, k in zip(of_each(constant, grid, start=start), range(3), strict=True):
        e = LINE.points[k]
        first = (0.5 * e @ e / start**2 + 1 / start**2 - 1) / 2 + math.log(start)
        expected = first + 3.5 / 2 * (e - at) @ (e - at) - special.log_softmax(logits)[k]
        assert abs(found.value - expected) < 1e-12
        assert abs(found.value - expected) <= found.numerical_error
        assert found.interval_supported


@pytest.mark.parametrize(("grid", "start"), [(GRIDS[1], 1.0), (np.array([0.0, 0.7, 5.0]), 1.2)])
def test_exact_denoiser_costs_the_path_kl(grid: np.ndarray, start: float) -> None:
    """E bound - H(prior) = path KL + mismatch of the start, for unequal priors."""
    each = of_each(exact(LINE), grid, start=start)
    mean = sum(p * float(one.value) for p, one in zip(LINE.prior, each, strict=True))
    error = math.hypot(
        *(p * float(one.standard_error) for p, one in zip(LINE.prior, each, strict=True))
    )
    entropy = float(special.entr(LINE.prior).sum())
    path = tk.ancestral_kl(LINE, grid) + tk.prior_mismatch(LINE, grid[0], start=start)
    assert path.standard_error == 0
    assert abs(mean - entropy - path.value) < Z * error
    assert error < 0.02 * float(path.value) + 0.01


def test_sequences_pay_for_drawing_tokens_apart() -> None:
    """For a chain the bound is H(X) + path KL of its sequences + E KL(posterior || product)."""
    kept = np.array([[0.9, 0.1, 0.0], [0.0, 0.9, 0.1], [0.05, 0.05, 0.9]])
    chain = tk.sources.Markov(kept, 3, [0.2, 0.5, 0.3])
    grid = np.array([0.0, 0.1, 0.4])

    def logits(y: np.ndarray, snr: np.ndarray) -> np.ndarray:
        seen = np.sqrt(snr)[:, None, None] * (y @ LINE.points.T)
        seen = seen - snr[:, None, None] * (LINE.points[:, 0] ** 2) / 2
        return seen + chain.messages(seen)[0]

    tokens = chain.sample(20_000, key=1)
    found = tk.evidence_bound(LINE, logits, tokens, grid, key=2, n_noise=2).per_token
    every = np.array(list(itertools.product(range(3), repeat=3)))
    law = np.exp(chain.log_prob(every))
    some = law > 0
    whole = tk.PointCodebook(LINE.points[every[some]][..., 0], law[some])
    path = tk.ancestral_kl(whole, grid, method=tk.MonteCarlo(n_samples=2**14), key=3)
    # What the decision loses, at fresh observations.
    ids, y = sample(whole, grid[-1], 20_000, key=4)
    alone = special.log_softmax(logits(y[..., None], np.full(len(y), grid[-1])), axis=-1)
    apart = np.take_along_axis(alone, every[some][ids][..., None], axis=-1)[..., 0].sum(axis=1)
    lost = log_posterior(whole, y, grid[-1])[np.arange(len(y)), ids] - apart
    expected = chain.entropy() + float(path.value) + lost.mean()
    error = math.hypot(3 * found.standard_error, path.standard_error, lost.std() / len(y) ** 0.5)
    assert abs(3 * found.value - expected) < Z * error
    assert error < 0.02
    assert lost.mean() > 10 * error  # it is there


@pytest.mark.parametrize("kind", ["skewed", "tempered"])
def test_a_wrong_denoiser_costs_its_squared_error(kind: str) -> None:
    """The difference to the exact one, paired, is the denoiser's part of `learned_path_kl`."""
    tempered = lambda y, snr: log_posterior(LINE, y, snr) / 1.5  # noqa: E731
    denoiser = {"skewed": skewed, "tempered": tempered}[kind]
    grid = np.array([0.2, 0.8, 2.0, 5.0])
    ids = np.random.default_rng(3).choice(3, 60_000, p=LINE.prior)
    wrong, right = (
        tk.evidence_bound(LINE, one, ids, grid, key=5, n_noise=2) for one in (denoiser, exact(LINE))
    )
    gap = wrong - right
    parts = tk.learned_path_kl(LINE, denoiser, grid, key=6, n_samples=2**16)
    expected = float(parts.denoiser.value + parts.decoding.value)
    errors = (gap, parts.denoiser, parts.decoding)
    error = math.hypot(*(float(one.standard_error) for one in errors))
    assert abs(gap.value - expected) < Z * error
    if kind == "tempered":  # most of the spread is common
        assert gap.standard_error < wrong.per_token.standard_error / 2
    same = tk.evidence_bound(LINE, denoiser, ids[:500], grid, key=5, n_noise=2)
    assert (same - same).value == 0


def test_errors_cover_the_law_of_the_sequences() -> None:
    """Also of sequences of unequal lengths, with a token that few have."""
    law, length, size = np.array([0.9, 0.07, 0.03]), 6, 60
    logits = np.log([0.8, 0.15, 0.05])
    constant = lambda y, snr: np.broadcast_to(logits, (*y.shape[:2], 3))  # noqa: E731
    grid, rng = np.array([0.0, 1.0]), np.random.default_rng(4)
    at = np.exp(logits) @ LINE.points
    cost = ((LINE.points - at) ** 2).sum(axis=1) / 2 - logits
    # Runs of one token: what is rare comes in bulk.
    lengths = np.array([1, 4, 6])
    truth = law @ cost
    # The variance of a ratio of means, by hand.
    spread = (lengths**2).mean() / lengths.mean() ** 2 * (law @ (cost - truth) ** 2) / size
    covered, claimed = 0, []
    for key in range(200):
        kind = rng.choice(3, size, p=law)
        tokens = np.repeat(kind[:, None], length, axis=1)
        mask = np.arange(length) < rng.choice(lengths, size)[:, None]
        found = tk.evidence_bound(
            LINE, constant, tokens, grid, key=key, mask=mask, n_noise=2
        ).per_token
        low, high, _ = found.confidence_interval(0.95)
        covered += bool(low <= truth <= high)
        claimed.append(float(found.standard_error) ** 2)
    assert covered >= 174  # of 200; P(fewer) < 2e-5 at a coverage of 0.95
    error = np.std(claimed) / 200**0.5
    assert abs(np.mean(claimed) - spread) < 4.3 * error + 2 * spread / size
    assert error < 0.1 * spread


def test_longer_sequences_are_no_spread() -> None:
    """What every token costs alike is known, however many of them a sequence has."""
    constant = lambda y, snr: np.zeros((*y.shape[:2], 3))  # noqa: E731
    mask = np.arange(6) < np.arange(24)[:, None] % 6 + 1
    tokens = np.zeros(mask.shape, int)
    found = tk.evidence_bound(LINE, constant, tokens, [0.0, 1.0], key=0, mask=mask).per_token
    cost = (LINE.points[0, 0] - LINE.points.mean()) ** 2 / 2 + math.log(3)
    assert found.value == pytest.approx(cost, rel=1e-13)
    assert found.standard_error < 1e-14
    assert found.interval_supported


def test_errors_cover_the_noise() -> None:
    """For tokens that are given: few draws, and a denoiser that is wrong in its tails."""
    ids, grid = np.arange(3).repeat(8), np.array([0.0, 1.0, 3.0])
    many = tk.evidence_bound(LINE, skewed, ids, grid, key=0, n_noise=1500).given_tokens
    covered = 0
    for key in range(1, 201):
        found = tk.evidence_bound(LINE, skewed, ids, grid, key=key, n_noise=4).given_tokens
        low, high, _ = found.confidence_interval(0.95)
        covered += bool(low <= many.value <= high)
    assert covered >= 174  # of 200; P(fewer) < 2e-5 at a coverage of 0.95


def test_far_from_the_origin() -> None:
    """An offset that the start knows nothing of leaves the digits of the gaps."""
    grid, ids = np.array([0.0, 1e4]), np.arange(3).repeat(10)
    logits = lambda y, snr: np.broadcast_to([8.0, 0.0, -2.0], (len(y), 3))  # noqa: E731
    near = tk.evidence_bound(LINE, logits, ids, grid, key=0)
    far = tk.PointCodebook(LINE.points + 2.0**20, LINE.prior)
    moved = tk.evidence_bound(far, logits, ids, grid, key=0)
    size = 1e4 * 2.5 * 2.0**20 * np.finfo(float).eps  # of what the points themselves have lost
    assert abs(float(moved.per_token) - float(near.per_token)) < 4 * size


def test_backends_masks_and_batches() -> None:
    torch = pytest.importorskip("torch")
    codebook, grid = tk.FSQ((3, 2)), np.array([0.1, 1.0, 3.0])
    weights = np.random.default_rng(5).standard_normal((2, 6))
    tokens = np.random.default_rng(6).integers(6, size=(30, 4))
    kept = np.arange(4) < np.random.default_rng(7).integers(1, 5, size=30)[:, None]
    options: dict[str, Any] = {"key": 8, "mask": kept, "n_noise": 2}
    plain = tk.evidence_bound(codebook, lambda y, snr: y @ weights, tokens, grid, **options)
    traced = tk.evidence_bound(codebook, lambda y, snr: jnp.asarray(y @ weights), tokens, grid,
                               **options)  # fmt: skip
    layer = torch.as_tensor(weights)
    of_torch = tk.evidence_bound(
        codebook, lambda y, snr: y @ layer, tokens, grid, backend="torch", **options
    )
    assert np.allclose(plain.values, of_torch.values, rtol=1e-12)
    assert np.allclose(plain.values, traced.values, rtol=1e-4)
    # What is under the mask is of no account.
    other = np.where(kept, tokens, 0)
    again = tk.evidence_bound(codebook, lambda y, snr: y @ weights, other, grid, **options)
    assert np.array_equal(plain.values, again.values)
    # The mean by itself, and batches.
    given = tk.evidence_bound(
        codebook,
        lambda y, snr: y @ weights,
        tokens,
        grid,
        mean=lambda y, snr: special.softmax(y @ weights, axis=-1) @ codebook.points,
        **options,
    )
    assert np.allclose(plain.values, given.values, rtol=1e-12)
    both = tk.EvidenceBound.joined([plain, given])
    assert both.values.shape == (2, 60)
    assert float(both.per_token) == pytest.approx(float(plain.per_token), rel=1e-12)


def test_an_impossible_token_costs_everything() -> None:
    never = lambda y, snr: np.broadcast_to([0.0, 0.0, -np.inf], (len(y), 3))  # noqa: E731
    grid, tokens = np.array([0.0, 1.0]), np.arange(3).repeat(10)
    found = tk.evidence_bound(LINE, never, tokens, grid, key=0)
    assert found.per_token.value == math.inf
    assert "probability 0" in found.per_token.note
    fine = tk.evidence_bound(LINE, exact(LINE), tokens, grid, key=0)
    assert (fine - found).value == -math.inf


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tokens": [[[0]]]}, "tokens must be of shape"),
        ({"tokens": [0, 3]}, "tokens must be whole numbers from 0 to 2"),
        ({"grid": [1.0]}, "grid must be at least two SNRs"),
        ({"grid": [1.0, 1.0]}, "grid must be strictly increasing"),
        ({"n_noise": 1}, "n_noise must be"),
        ({"start": 0.0}, "start must be"),
        ({"mask": [1, 0]}, "mask must be True and False"),
        ({"mask": [True, False]}, "mask must be at least one in each"),
        ({"denoiser": lambda y, snr: y}, r"whose result has shape \(2, 3\)"),
        ({"denoiser": lambda y, snr: np.full((2, 3), np.nan)}, "a function with numbers"),
        ({"denoiser": lambda y, snr: np.full((2, 3), np.inf)}, "logits below inf"),
        ({"mean": lambda y, snr: y[:, 0]}, r"mean must be a function whose result has shape"),
    ],
)
def test_refusals(changed: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"tokens": [0, 1], "grid": [0.0, 1.0], "denoiser": exact(LINE)}
    with pytest.raises((ValueError, TypeCheckError), match=said):
        tk.evidence_bound(LINE, key=0, **(given | changed))


def test_differences_are_of_the_same_sequences() -> None:
    two, three = (tk.evidence_bound(LINE, exact(LINE), [0] * n, [0.0, 1.0], key=0) for n in (2, 3))
    with pytest.raises(ValueError, match="of the same sequences"):
        two - three
    with pytest.raises(ValueError, match="of one number of draws"):
        tk.EvidenceBound.joined([])


def test_one_sequence_does_not_tell_how_they_vary() -> None:
    grid = [0.1, 1.0, 4.0]
    first, second = (
        tk.evidence_bound(LINE, exact(LINE), np.array([[0, 2, 1]]), grid, key=key) for key in (1, 2)
    )
    for found in (first.per_token, first - second):
        assert found.standard_error == math.inf
        assert not found.interval_supported
        low, high, _ = found.confidence_interval()
        assert (low, high) == (-math.inf, math.inf)
    # An infinite error that is supported has an interval all the same.
    assert tk.Estimate(1.0, math.inf, 0.0, n_samples=9).confidence_interval().high == math.inf
