"""Steps and path KLs of residual codebooks beyond enumeration: against grids that they equal.

Every statistical test may fail by chance with probability 2e-5 at most; keys are fixed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import tokenkl as tk
from tokenkl.codebooks import ResidualCodebook
from tokenkl.divergence import ancestral_kl_curve, brackets
from tokenkl.divergence.brackets import bracketed_curve, bracketed_path_kl
from tokenkl.divergence.search import best_grid
from tokenkl.information import MonteCarlo
from tokenkl.information.residual.profile import prepare, too_large_to_enumerate

LEVEL = 1 - 2e-5


def digits_of_a_grid(n: int, base: int, stages: int) -> tuple[ResidualCodebook, tk.FSQ]:
    """The base^stages levels of every coordinate as digits, one a stage, and turned in R^n."""
    size = base**stages
    digit = np.arange(base) - (base - 1) / 2
    grid = np.stack(np.meshgrid(*[digit] * n, indexing="ij"), axis=-1).reshape(-1, n)
    turn = np.linalg.qr(np.random.default_rng(n).standard_normal((n, n)))[0]
    scales = [2 / (size - 1) * base ** (stages - 1 - s) for s in range(stages)]
    return ResidualCodebook([scale * grid @ turn for scale in scales]), tk.FSQ([size] * n)


LARGE = [pytest.param((8, 2, 4), marks=pytest.mark.slow), (4, 4, 4)]
LOW, HIGH = 1e-2, 3e3


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_path_kl_beyond_enumeration(shape: tuple[int, int, int]) -> None:
    """Exact path KLs of the same grid lie in the intervals."""
    residual, grid = digits_of_a_grid(*shape)
    assert too_large_to_enumerate(residual)
    grids = [tk.step_grid("log-snr", N, LOW, HIGH) for N in (1, 4, 8)]
    exact = ancestral_kl_curve(grid, grids)
    found = ancestral_kl_curve(residual, grids, method=MonteCarlo(256), key=1)
    low, high, _ = found.confidence_interval(LEVEL)
    assert (low <= exact.value).all()
    assert (exact.value <= high).all()
    # The bracket and four standard errors hold it, too, whatever interval is claimed.
    slack = found.numerical_error + 4.3 * found.standard_error
    assert (np.abs(found.value - exact.value) <= slack).all()
    assert (slack < 0.15 * exact.value).all()
    assert found.seed == 1


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_steps_are_as_good_as_the_exact_ones(shape: tuple[int, int, int]) -> None:
    """They lose less than 1 % of the best path KL, for few steps and for more."""
    residual, grid = digits_of_a_grid(*shape)
    curve = bracketed_curve(residual, LOW, HIGH, MonteCarlo(), 0)
    assert (np.diff(curve.value) <= 0).all()
    for N in (2, 8, 32):
        ours = tk.ancestral_kl(grid, best_grid(curve, N, LOW, HIGH))
        best = tk.optimal_steps(grid, N, LOW, HIGH).kl
        assert best.value <= ours.value * (1 + 1e-9)
        assert ours.value < 1.01 * best.value


def test_optimal_steps_and_their_limit() -> None:
    residual, grid = digits_of_a_grid(8, 2, 4)
    found = tk.optimal_steps(residual, 6, LOW, HIGH, method=MonteCarlo(128), key=2)
    best = tk.optimal_steps(grid, 6, LOW, HIGH)
    assert found.snr[[0, -1]].tolist() == [LOW, HIGH]
    slack = found.kl.numerical_error + 4.3 * found.kl.standard_error
    assert abs(found.kl.value - best.kl.value) <= slack + 0.01 * best.kl.value
    assert best.asymptotic_kl <= found.asymptotic_kl + found.asymptotic_error
    with pytest.raises(ValueError, match=r"^key must be an integer seed"):
        tk.optimal_steps(residual, 6, LOW, HIGH)


def test_noise_to_train_on() -> None:
    """The law of noise levels is that of the grid, within its errors."""
    residual, grid = digits_of_a_grid(8, 2, 4)
    found = tk.information_uniform_schedule(residual, LOW, HIGH, key=3)
    exact = tk.information_uniform_schedule(grid, LOW, HIGH)
    x = np.linspace(exact.log_snr[0], exact.log_snr[-1], 101)
    off = np.abs(found.cdf(x) - exact.cdf(x)).max()
    assert off <= found.numerical_error + 4.3 * found.standard_error
    assert off < 0.01
    assert found.numerical_error < 0.1


@pytest.mark.slow
def test_the_area_is_the_entropy() -> None:
    """I-MMSE: half of the area over all SNRs is H(prior)."""
    residual, _ = digits_of_a_grid(8, 2, 4)
    curve = bracketed_curve(residual, 0.0, 1e5, MonteCarlo(), 0)
    off = abs(float(curve.area(1e5)) - 2 * float(residual.prior_entropy()))
    assert off <= curve.area_slack + 4.3 * curve.area_error
    assert off < 0.03 * float(residual.prior_entropy())


def test_steps_choose_by_the_curve_of_a_noise_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one codebook, range, key and method it is found once; with another key anew."""
    residual, _ = digits_of_a_grid(4, 4, 4)
    found, original = [], brackets.bracketed_curve

    def counted(*how: Any) -> Any:
        found.append(how[4])
        return original(*how)

    monkeypatch.setattr(brackets, "bracketed_curve", counted)
    method = MonteCarlo(64)
    tk.information_uniform_schedule(residual, LOW, HIGH, method=method, key=3)
    one = tk.optimal_steps(residual, 2, LOW, HIGH, method=method, key=3)
    assert found == [3]
    other, _ = digits_of_a_grid(4, 4, 4)  # equal, and another object
    assert tk.optimal_steps(other, 2, LOW, HIGH, method=method, key=3).snr[1] == one.snr[1]
    assert found == [3, 3]


def test_ends_of_the_range_are_whole_decibels() -> None:
    residual, _ = digits_of_a_grid(4, 4, 4)
    decibels = 10 * np.log10(tk.optimality.information_range(residual, key=0))
    np.testing.assert_allclose(decibels, np.round(decibels), atol=1e-9)


def vectors(*sizes: float, tokens: int = 6, n: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [size * rng.standard_normal((tokens, n)) for size in sizes]


SMALL: dict[str, tuple[ResidualCodebook, Any]] = {
    "random": (ResidualCodebook(vectors(1, 0.5, 0.25, n=3)), (0.05, 40.0)),
    "one size": (ResidualCodebook(vectors(1, 1, 1, n=3)), (0.05, 20.0)),
    "scales": (ResidualCodebook(vectors(1, 1e-3, 30)), (1e-4, 1e7)),
    "clusters": (ResidualCodebook(vectors(10, 0.05, 1)), (1e-3, 1e3)),
    "priors": (
        ResidualCodebook(
            vectors(1, 0.6, 0.3, n=3),
            stage_priors=np.random.default_rng(1).dirichlet(np.full(6, 0.3), 3).tolist(),
        ),
        (0.05, 40.0),
    ),
    "near-certain": (
        ResidualCodebook(vectors(2, 0.3), stage_priors=[[0.995, *[1e-3] * 5], [0.5, *[0.1] * 5]]),
        (0.05, 60.0),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_path_kl_against_enumeration(name: str) -> None:
    """What the particles say is what sampling of all tokens says, in hostile regimes as well."""
    codebook, ends = SMALL[name]
    grids = [tk.step_grid("log-snr", N, *ends) for N in (2, 6)]
    listed = ancestral_kl_curve(codebook, grids, method=MonteCarlo(2**13), key=5)
    found = bracketed_path_kl(codebook, grids, MonteCarlo(512), 6)
    one, other = listed.confidence_interval(1 - 1e-5), found.confidence_interval(1 - 1e-5)
    assert (one.low <= other.high).all()
    assert (other.low <= one.high).all()
    central = found.interval_supported & listed.interval_supported
    sampling = np.hypot(found.standard_error, listed.standard_error)
    slack = 4.3 * sampling + found.numerical_error + listed.numerical_error
    assert (np.abs(found.value - listed.value) <= slack)[central].all()


def test_parts_beyond_enumeration() -> None:
    """Groups of residual codebooks: path KLs add up, and steps are chosen for their sum."""
    residual, _ = digits_of_a_grid(8, 2, 4)
    both = tk.Product([residual, tk.FSQ((16, 3))])
    same = tk.FSQ((16,) * 9 + (3,))
    found = tk.optimal_steps(both, 4, LOW, HIGH, method=MonteCarlo(128), key=2)
    best = tk.optimal_steps(same, 4, LOW, HIGH)
    slack = found.kl.numerical_error + 4.3 * found.kl.standard_error
    assert abs(found.kl.value - best.kl.value) <= slack + 0.01 * best.kl.value


def test_dimensions_without_tokens_cost_nothing() -> None:
    """Stages in a subspace are turned into it; a stage of any size keeps its directions."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((40, 40)))[0][:5]
    stages = [size * rng.standard_normal((64, 5)) for size in (1, 0.3, 0.1, 0.03)]
    stages[3][:, :3] *= 1e-9
    stages[0][:, 4] = stages[1][:, 4] = stages[2][:, 4] = 0
    stages[3][:, 4] *= 1e-9
    low, high = ResidualCodebook(stages), ResidualCodebook([stage @ turn for stage in stages])
    assert prepare(high).vectors[0].shape[1] == 5
    method, snr = MonteCarlo(64), np.array([1.0, 1e4])
    for name in ("mmse", "conditional_entropy"):
        one, other = (getattr(tk, name)(cb, snr, method=method, key=1) for cb in (low, high))
        slack = np.hypot(one.standard_error, other.standard_error)
        off = np.abs(one.value - other.value)
        assert (off <= 4.3 * slack + one.numerical_error + other.numerical_error).all()


def test_far_rivals_by_groups_are_on_the_safe_side() -> None:
    """Against one rival after the other; most of what beats a rare vector here is far away."""
    rng = np.random.default_rng(6)
    stage = np.concatenate([rng.standard_normal((400, 24)), 3 * rng.standard_normal((6, 24))])
    prior = np.append(np.full(400, 1.0), np.full(6, 1e-3))
    prior = prior * rng.uniform(0.5, 1.5, prior.size)
    prior, snr = prior / prior.sum(), np.array([0.1, 0.3, 0.5, 0.8])
    found = brackets._by_rare_vectors(stage, prior, snr, 64)
    centred = stage - prior @ stage
    squared = (centred**2).sum(axis=1)
    unlike = np.abs(squared - prior @ squared)
    order = np.argsort(-unlike)
    rare = order[: np.searchsorted(64 * np.cumsum(prior[order]), brackets.MIN_CARRIERS)]
    right = np.zeros(snr.size)
    for k in rare:
        others = np.delete(np.arange(prior.size), k)
        apart = np.linalg.norm(stage[k] - stage[others], axis=1)
        for i, root in enumerate(np.sqrt(snr)):
            # One of two is taken for the other beyond the middle, moved by their odds.
            distance = root * apart
            beaten = stats.norm.sf(distance / 2 + np.log(prior[k] / prior[others]) / distance)
            share = min(beaten.sum(), 1.0) * min(root**2 * squared[k], 1.0)
            right[i] += prior[k] * (unlike[k] * share) ** 2
    assert (found >= right * (1 - 1e-12)).all()
    assert (found <= 1.5 * right).all()
    assert right[-1] < 0.6 * right.max()  # where they are not beaten for sure
