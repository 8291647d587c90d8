"""Control variates: exact means, exact answers kept, honest intervals, and fewer samples."""

import numpy as np
import pytest
from scipy import stats
from test_montecarlo import (
    CASES,
    FALSE_ALARM,
    as_points,
    at_errors,
)

import tokenkl as tk
from tokenkl.information import _controls, _montecarlo

#: Grids moved by noise, with their SNRs: at them the error probability goes from 1 to 0.06.
SNR = 10 ** (np.array([-10.0, 0.0, 5.0, 8.0, 10.0, 12.0, 14.0]) / 10)
PLAIN = tk.MonteCarlo(n_samples=16_384, variance_reduction=False)
REDUCED = tk.MonteCarlo(n_samples=16_384, variance_reduction=True)


def perturbed(codebook, sd, seed=0, shuffled=False):
    rng = np.random.default_rng(seed)
    points = codebook.points + sd * rng.standard_normal(codebook.points.shape)
    return tk.PointCodebook(points[rng.permutation(codebook.K)] if shuffled else points)


def rotated(codebook, seed=0):
    """The same answers, but no grid along the axes."""
    rotation = stats.ortho_group.rvs(codebook.n, random_state=seed)
    prior = None if codebook.has_equal_priors else codebook.prior
    return tk.PointCodebook(codebook.points @ rotation, prior)


def factors(codebook, snr, key=1):
    """How many times fewer samples the controls need, for every quantity and SNR."""
    plain = tk.profile(codebook, snr, method=PLAIN, key=key)
    reduced = tk.profile(codebook, snr, method=REDUCED, key=key)
    with np.errstate(all="ignore"):  # 0 / 0 where an error never occurred
        return np.array(
            [(plain[q].standard_error / reduced[q].standard_error) ** 2 for q in tk.QUANTITIES]
        )


# --- what is known exactly


@pytest.mark.parametrize("d", [0.0, 1e-6, 3e-3, 0.05, 0.7, 3.0, 9.0, 27.0])
def test_means_over_one_rival(d) -> None:
    z = np.arange(-40, 40, 1 / 512)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / 512
    exact = [part @ density for part in _controls._rival(d * z - d * d / 2)]
    assert np.abs(_controls._rival_means()(d) - exact).max() < _controls.RIVAL_ERROR


@pytest.mark.parametrize("name", ["FSQ (3, 3, 3)", "uneven levels, skewed prior", "one-hot 16"])
def test_every_control_has_mean_zero(name) -> None:
    codebook = CASES[name]
    rng = np.random.default_rng(3)
    size, h = 100_000, np.array([0.0, 0.5, 2.0, 5.0])
    grid = codebook if isinstance(codebook, tk.ProductCodebook) else None
    points = np.asarray(codebook.points)
    controls = _controls.Controls(codebook, points, h, grid, 2**27)
    ids = rng.choice(codebook.K, size, p=codebook.prior)
    block = controls.block(ids, rng.standard_normal((size, codebook.n)))
    for level in range(h.size):
        values = block(level)
        assert len(values) == controls.count
        error = np.abs(values.mean(axis=1)) / np.maximum(stats.sem(values, axis=1), 1e-12)
        assert error.max() < stats.norm.isf(FALSE_ALARM / 300)


@pytest.mark.parametrize("equal_points", [False, True])
@pytest.mark.parametrize("n", [2, 12])
def test_nearest_neighbours(n, equal_points) -> None:
    points = np.random.default_rng(0).standard_normal((300, n))
    if equal_points:
        points[:40] = points[0]
    ids, distances = _controls._nearest(points, 16)
    every = np.linalg.norm(points[:, None] - points, axis=2)
    np.testing.assert_allclose(distances, every[np.arange(300)[:, None], ids], atol=1e-14)
    assert (ids != np.arange(300)[:, None]).all()
    assert all(len(set(row)) == 16 for row in ids)
    np.fill_diagonal(every, np.inf)
    np.testing.assert_allclose(np.sort(distances), np.sort(every)[:, :16], atol=1e-7)


# --- a grid nearby


@pytest.mark.parametrize("levels", [(3,) * 4, (8, 5, 5, 5), (2,) * 6, (4, 2, 7)])
@pytest.mark.parametrize("shuffled", [False, True])
def test_the_grid_is_found(levels, shuffled) -> None:
    exact = tk.FSQ(levels)
    gap = min(np.diff(np.sort(column)).min() for column in exact.levels)
    codebook = perturbed(exact, 0.08 * gap, shuffled=shuffled)
    grid, ids = _controls._nearby_grid(codebook)
    assert grid.shape == exact.shape
    assert np.abs(grid.points_at(ids) - codebook.points).max() < gap / 2


def test_no_grid_where_there_is_none_or_nothing_but_one() -> None:
    assert (
        _controls._nearby_grid(tk.PointCodebook(np.random.default_rng(0).random((81, 4)))) is None
    )
    assert _controls._nearby_grid(rotated(tk.FSQ((3, 3, 3)))) is None
    assert _controls._nearby_grid(as_points(tk.FSQ((3, 3, 3)))) is None
    assert _controls._nearby_grid(as_points(CASES["skewed prior"])) is None


def test_what_is_not_a_control_is_refused() -> None:
    codebook = perturbed(tk.FSQ((3, 3, 3)), 0.1)
    for control in (
        tk.OneHot(27),
        tk.FSQ((3, 3)),
        tk.FSQ((3, 3, 3), priors=[None, None, [0.2, 0.3, 0.5]]),
    ):
        with pytest.raises(ValueError, match="control must be"):
            tk.mmse(codebook, 1.0, method=tk.MonteCarlo(control=control), key=1)


# --- estimates


def test_fewer_samples_near_a_grid() -> None:
    codebook = perturbed(tk.FSQ((3,) * 4), 0.05)
    assert factors(codebook, SNR).min() > 4
    method = tk.mmse(codebook, SNR, method=REDUCED, key=1).method
    assert method == "Monte-Carlo, control variates: grid, moments, neighbours"


@pytest.mark.parametrize(
    "codebook",
    [
        perturbed(tk.FSQ((3,) * 4), 0.4),
        tk.PointCodebook(np.random.default_rng(1).standard_normal((300, 16))),
        tk.PointCodebook(np.random.default_rng(2).standard_cauchy((200, 3))),
        rotated(CASES["uneven levels, skewed prior"]),
        tk.PointCodebook(np.repeat(np.eye(5), 3, axis=0), allow_duplicates=True),
        tk.PointCodebook([[0.0, 1.0], [1.0, 1.5]]),
    ],
)
def test_never_worse_than_plain(codebook) -> None:
    values = factors(codebook, np.geomspace(1e-4, 1e3, 15))
    assert np.nanmin(values) >= 1
    assert np.nanmax(values) > 2


def test_same_key_same_bits_on_any_thread(monkeypatch) -> None:
    codebook = perturbed(tk.FSQ((3,) * 4), 0.1)
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        found.append(
            tk.profile(
                codebook, SNR, method=tk.MonteCarlo(n_samples=5000, variance_reduction=True), key=7
            )
        )
    for name in tk.QUANTITIES:
        for field in ("value", "standard_error", "skewness", "numerical_error"):
            first, second = (getattr(profile[name], field) for profile in found)
            assert (first == second).all()


def test_few_samples_are_left_as_they_are() -> None:
    codebook = perturbed(tk.FSQ((3,) * 4), 0.1)
    plain = tk.mmse(codebook, SNR, method=tk.MonteCarlo(1023, variance_reduction=False), key=1)
    few = tk.mmse(codebook, SNR, method=tk.MonteCarlo(1023, variance_reduction=True), key=1)
    assert few.method == "Monte-Carlo"
    assert (few.value == plain.value).all()


def test_rare_errors_are_as_rare_with_controls() -> None:
    """The grid's exact mean must not pass for support of an interval."""
    estimate = tk.error_probability(perturbed(tk.FSQ((3,) * 4), 0.02), 100.0, method=REDUCED, key=1)
    assert not estimate.interval_supported
    assert "empirical Bernstein" in estimate.note


def test_small_blocks_fit_too(monkeypatch) -> None:
    """A pilot of several blocks, and coefficients that are fitted again on the way."""
    codebook = perturbed(tk.FSQ((3,) * 4), 0.05)
    whole = tk.mmse(codebook, SNR, method=REDUCED, key=2)
    monkeypatch.setattr(_montecarlo, "MAX_BLOCK", 150)
    parts = tk.mmse(codebook, SNR, method=REDUCED, key=2)
    np.testing.assert_allclose(parts.standard_error, whole.standard_error, rtol=0.1)
    assert (np.abs(parts.value - whole.value) < 7 * whole.standard_error).all()


def test_a_target_needs_fewer_samples() -> None:
    codebook = perturbed(tk.FSQ((3,) * 4), 0.05)
    wanted = [
        tk.mmse(codebook, 3.0, method=tk.MonteCarlo(rtol=2e-3, variance_reduction=v), key=2)
        for v in (False, True)
    ]
    assert all(np.all(e.standard_error <= 2e-3 * e.value) for e in wanted)
    assert wanted[1].n_samples * 4 < wanted[0].n_samples


@pytest.mark.parametrize("name", ["FSQ (3, 3, 3)", "uneven levels, skewed prior"])
def test_unbiased(name) -> None:
    """The mean of many short runs, whose pilots are their whole samples, is the exact answer."""
    codebook = CASES[name]
    snr = np.append(at_errors(codebook, (0.5, 0.1)), 1e-3)
    exact, runs = tk.profile(codebook, snr), 400
    method = tk.MonteCarlo(n_samples=1024, variance_reduction=True)
    profiles = [tk.profile(rotated(codebook), snr, method=method, key=k) for k in range(runs)]
    for q in tk.QUANTITIES:
        values = np.array([profile[q].value for profile in profiles])
        error = np.abs(values.mean(axis=0) - exact[q].value) / stats.sem(values, axis=0)
        assert error.max() < stats.norm.isf(FALSE_ALARM / 60), q


#: Codebooks with exact answers, as points without a visible grid, and controls to be given.
OTHER = tk.ProductCodebook(([-1.0, 0.1, 1.0], [0.0, 0.5, 1.4]), CASES["skewed prior"].priors)
COVERAGE = {
    "rotated FSQ (3, 3, 3)": (CASES["FSQ (3, 3, 3)"], rotated(CASES["FSQ (3, 3, 3)"]), None),
    "rotated, skewed prior": (CASES["skewed prior"], rotated(CASES["skewed prior"]), None),
    "one-hot 16": (CASES["one-hot 16"], as_points(CASES["one-hot 16"]), None),
    "uneven levels, near a grid": (
        CASES["uneven levels, skewed prior"],
        as_points(CASES["uneven levels, skewed prior"]),
        OTHER,
    ),
    "FSQ (5, 5), near a grid": (
        tk.FSQ((5, 5)),
        as_points(tk.FSQ((5, 5))),
        tk.ProductCodebook([[-2.1, -0.9, 0.05, 1.1, 1.9]] * 2),
    ),
}


def coverage(codebook, points, method, errors, runs):
    snr = np.append(at_errors(codebook, errors), 1e-3)
    exact = tk.profile(codebook, snr)
    covered = np.zeros((len(tk.QUANTITIES), snr.size))
    for key in range(runs):
        profile = tk.profile(points, snr, method=method, key=key)
        for row, name in zip(covered, tk.QUANTITIES, strict=True):
            low, high, _ = profile[name].confidence_interval()
            row += (low <= exact[name].value) & (exact[name].value <= high)
    return covered / runs


@pytest.mark.slow
@pytest.mark.parametrize("samples", [3000])
@pytest.mark.parametrize("name", COVERAGE)
def test_intervals_cover_what_they_say(name, samples) -> None:
    codebook, points, control = COVERAGE[name]
    method, runs = tk.MonteCarlo(n_samples=samples, control=control, variance_reduction=True), 1000
    covered = coverage(codebook, points, method, (0.9, 0.5, 0.1, 0.03), runs)
    share = FALSE_ALARM / covered.size / len(COVERAGE)
    # Plain averages have 0.907 in the worst cell (rare and uneven), where no controls are used.
    assert covered.min() >= stats.binom.ppf(share, runs, 0.90) / runs, covered
    # From above no limit: where few samples are informative the interval is a wide bound.
    assert covered.mean() >= 0.935, covered
