"""Control variates: exact means, exact answers kept, honest intervals, and fewer samples."""

import json

import numpy as np
import pytest
from information.test_montecarlo import CASES, FALSE_ALARM
from scipy import stats

import tokenkl as tk
from benchmarks.coverage import (
    CLOSE,
    CLUSTERED,
    METHODS,
    RESULTS,
    Tally,
    as_points,
    at_errors,
    cases,
    close_cases,
    clustered_cases,
    rotated,
    studies,
)
from tokenkl.information.sampling import controls, montecarlo, pilot, sobol

#: Grids moved by noise, with their SNRs: at them the error probability goes from 1 to 0.06.
SNR = 10 ** (np.array([-10.0, 0.0, 5.0, 8.0, 10.0, 12.0, 14.0]) / 10)
PLAIN = tk.MonteCarlo(n_samples=16_384, variance_reduction=False)
REDUCED = tk.MonteCarlo(n_samples=16_384, variance_reduction=True)


def perturbed(
    codebook: tk.Codebook, sd: float, seed: int = 0, shuffled: bool = False
) -> tk.PointCodebook:
    rng = np.random.default_rng(seed)
    points = codebook.points + sd * rng.standard_normal(codebook.points.shape)
    return tk.PointCodebook(points[rng.permutation(codebook.K)] if shuffled else points)


def factors(codebook: tk.Codebook, snr: np.ndarray, key: int = 1) -> np.ndarray:
    """How many times fewer samples the controls need, for every quantity and SNR.

    NaN where the plain sample says itself that it saw too little.
    """
    plain = tk.profile(codebook, snr, method=PLAIN, key=key)
    reduced = tk.profile(codebook, snr, method=REDUCED, key=key)
    found = []
    for name in tk.QUANTITIES:
        seen = np.where(plain[name].interval_supported, plain[name].standard_error, np.nan)
        with np.errstate(all="ignore"):  # 0 / 0 where an error never occurred
            found.append((seen / reduced[name].standard_error) ** 2)
    return np.array(found)


# --- what is known exactly


@pytest.mark.parametrize("d", [0.0, 1e-6, 3e-3, 0.05, 0.7, 3.0, 9.0, 27.0])
def test_means_over_one_rival(d: float) -> None:
    z = np.arange(-40, 40, 1 / 512)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / 512
    exact = [part @ density for part in controls._rival(d * z - d * d / 2)]
    assert np.abs(controls._rival_means()(d) - exact).max() < controls.RIVAL_ERROR


@pytest.mark.parametrize("name", ["FSQ (3, 3, 3)", "uneven levels, skewed prior", "one-hot 16"])
def test_every_control_has_mean_zero(name: str) -> None:
    codebook = CASES[name]
    rng = np.random.default_rng(3)
    size, h = 100_000, np.array([0.0, 0.5, 2.0, 5.0])
    grid = codebook if isinstance(codebook, tk.ProductCodebook) else None
    points = np.asarray(codebook.points)
    made = controls.Controls(codebook, points, h, grid, 2**27)
    ids = rng.choice(codebook.K, size, p=codebook.prior)
    block = made.block(ids, rng.standard_normal((size, codebook.n)))
    for level in range(h.size):
        values = block(level)
        assert len(values) == made.rounding(level).size
        error = np.abs(values.mean(axis=1)) / np.maximum(stats.sem(values, axis=1), 1e-12)
        assert error.max() < stats.norm.isf(FALSE_ALARM / 300)


@pytest.mark.parametrize("equal_points", [False, True])
@pytest.mark.parametrize("n", [2, 12])
def test_nearest_neighbours(n: int, equal_points: bool) -> None:
    points = np.random.default_rng(0).standard_normal((300, n))
    if equal_points:
        points[:40] = points[0]
    found = controls._nearest(points, 16)
    assert found is not None
    ids, distances = found
    every = np.linalg.norm(points[:, None] - points, axis=2)
    np.testing.assert_allclose(distances, every[np.arange(300)[:, None], ids], atol=1e-14)
    assert (ids != np.arange(300)[:, None]).all()
    assert all(len(set(row)) == 16 for row in ids)
    np.fill_diagonal(every, np.inf)
    np.testing.assert_allclose(np.sort(distances), np.sort(every)[:, :16], atol=1e-7)


# --- a grid nearby


@pytest.mark.parametrize("levels", [(3,) * 4, (8, 5, 5, 5), (2,) * 6, (4, 2, 7)])
@pytest.mark.parametrize("shuffled", [False, True])
def test_the_grid_is_found(levels: tuple[int, ...], shuffled: bool) -> None:
    exact = tk.FSQ(levels)
    gap = min(np.diff(np.sort(column)).min() for column in exact.levels)
    codebook = perturbed(exact, 0.08 * gap, shuffled=shuffled)
    found = controls._nearby_grid(codebook)
    assert found is not None
    grid, ids = found
    assert grid.shape == exact.shape
    assert np.abs(grid.points_at(ids) - codebook.points).max() < gap / 2


def test_no_grid_where_there_is_none_or_nothing_but_one() -> None:
    assert controls._nearby_grid(tk.PointCodebook(np.random.default_rng(0).random((81, 4)))) is None
    assert controls._nearby_grid(rotated(tk.FSQ((3, 3, 3)))) is None
    assert controls._nearby_grid(as_points(tk.FSQ((3, 3, 3)))) is None
    assert controls._nearby_grid(as_points(CASES["skewed prior"])) is None


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
    gained = factors(codebook, SNR)
    assert gained.min() > 2
    assert np.median(gained) > 8
    found = tk.mmse(codebook, SNR, key=1, method=tk.MonteCarlo())
    used = {kind for way in found.method for kind in dict(way.settings)["control variates"]}
    assert used >= {"grid", "moments", "neighbours"}
    assert str(found.method).startswith("Monte-Carlo (control variates: grid, ")


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
def test_never_worse_than_plain(codebook: tk.PointCodebook) -> None:
    """Where nothing helps the samples are the plain ones; 16 replicates know a variance roughly."""
    values = factors(codebook, np.geomspace(1e-4, 1e3, 15))
    assert np.nanmin(values) >= 0.3
    assert (values[np.isfinite(values)] < 0.99).mean() < 0.05
    assert np.nanmax(values) > 2


def test_same_key_same_bits_on_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
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
    plain = tk.mmse(codebook, SNR, method=tk.MonteCarlo(4095, variance_reduction=False), key=1)
    few = tk.mmse(codebook, SNR, method=tk.MonteCarlo(4095), key=1)
    assert str(few.method) == "Monte-Carlo"
    assert (few.value == plain.value).all()


def test_rare_errors_are_as_rare_with_controls() -> None:
    """The grid's exact mean must not pass for support of an interval."""
    estimate = tk.error_probability(perturbed(tk.FSQ((3,) * 4), 0.02), 100.0, method=REDUCED, key=1)
    assert not estimate.interval_supported
    assert "empirical Bernstein" in estimate.note


def test_small_blocks_fit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot and replicates in several blocks."""
    codebook = perturbed(tk.FSQ((3,) * 4), 0.05)
    whole = tk.mmse(codebook, SNR, method=REDUCED, key=2)
    monkeypatch.setattr(montecarlo, "MAX_BLOCK", 150)
    parts = tk.mmse(codebook, SNR, method=REDUCED, key=2)
    np.testing.assert_allclose(parts.standard_error, whole.standard_error, rtol=0.5)
    assert (np.abs(parts.value - whole.value) < 7 * whole.standard_error).all()


def test_a_target_needs_fewer_samples() -> None:
    codebook = perturbed(tk.FSQ((3,) * 4), 0.05)
    wanted = [
        tk.mmse(codebook, 3.0, method=tk.MonteCarlo(rtol=2e-3, variance_reduction=v), key=2)
        for v in (False, True)
    ]
    assert all(np.all(e.standard_error <= 2e-3 * e.value) for e in wanted)
    assert wanted[1].n_samples * 4 < wanted[0].n_samples


def test_one_sobol_replicate_is_uniform_and_even() -> None:
    """Two counts in every box of a net; every point uniform; replicates differ."""
    codebook = tk.PointCodebook(np.eye(3), prior=np.array([0.5, 0.25, 0.25]))
    nets = sobol.Nets(codebook, np.array([2, 0, 1]), key=1)
    ids, noise = nets.replicate(64, 7)
    assert np.bincount(ids).tolist() == [32, 16, 16]
    for column in noise.T:
        cells = np.floor(stats.norm.cdf(column) * 64).astype(int)
        assert np.unique(cells).size == 64
    assert (nets.replicate(64, 7)[1] == noise).all()
    assert (nets.replicate(64, 8)[1] != noise).all()
    pooled = np.concatenate([nets.replicate(64, r)[1] for r in range(200)])
    test = stats.kstest(pooled[::64].ravel(), "norm")  # first points only: independent
    assert test.pvalue > FALSE_ALARM


@pytest.mark.parametrize("count", [1, 1024, 4096, 5000, 16_384, 10**6])
def test_replicates_make_up_the_count(count: int) -> None:
    replicates, points = sobol.shape(count)
    assert replicates >= sobol.REPLICATES
    assert replicates * points >= count
    assert points & (points - 1) == 0


def test_nets_help_in_few_dimensions_only() -> None:
    rng = np.random.default_rng(3)
    for n, expected in ((2, True), (16, False)):
        codebook = tk.PointCodebook(rng.standard_normal((64, n)))
        found = tk.mmse(codebook, 0.1, method=tk.MonteCarlo(), key=1)
        assert ("Sobol" in str(found.method)) == expected
        assert np.isfinite(found.degrees_of_freedom) == expected


def test_regression_leaves_out_what_does_not_vary() -> None:
    rng = np.random.default_rng(0)
    controls = rng.standard_normal((3, 500))
    controls[2] = 0.25
    values = 2 * controls[:1] - controls[1:2] + 1e-3 * rng.standard_normal((1, 500))
    rows = np.concatenate([controls, values, np.ones((1, 500))])
    beta = pilot.regress(rows @ rows.T, np.full(3, 1e-14))
    np.testing.assert_allclose(beta, [[2, -1, 0]], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FSQ (3, 3, 3)", "uneven levels, skewed prior"])
def test_unbiased(name: str) -> None:
    """The mean of many runs, each with a pilot of its own, is the exact answer."""
    codebook = CASES[name]
    snr = np.append(at_errors(codebook, (0.5, 0.1)), 1e-3)
    exact, runs = tk.profile(codebook, snr), 24
    method = tk.MonteCarlo(n_samples=4096)
    profiles = [tk.profile(rotated(codebook), snr, method=method, key=k) for k in range(runs)]
    for q in tk.QUANTITIES:
        values = np.array([profile[q].value for profile in profiles])
        error = np.abs(values.mean(axis=0) - exact[q].value) - profiles[0][q].numerical_error
        limit = stats.t.isf(FALSE_ALARM / 60, runs - 1) * stats.sem(values, axis=0)
        assert (error <= limit).all(), q


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("FSQ 3^3", "4096 samples"),
        ("uneven grid 3^2, unequal priors, rotated", "target"),
        ("one-hot 16, Zipf", "target"),
    ],
)
def test_intervals_cover_what_they_say(name: str, method: str) -> None:
    """With other keys, and fewer of them, than the study that `benchmarks.coverage` keeps."""
    tally = Tally(cases()[name])
    tally.run(METHODS[method], range(10_000, 10_030))
    assert not tally.wrong(FALSE_ALARM).any(), tally.covered / tally.runs


def test_the_study_of_intervals_is_kept_and_within_its_bounds() -> None:
    record = json.loads(RESULTS.read_text())
    assert set(record) == {f"{name}; {method}" for name, method in studies()}
    for label, entry in record.items():
        tally = Tally(cases()[label.split("; ")[0]])
        tally.restore(entry)
        assert tally.runs >= 1000, label
        assert not tally.wrong(FALSE_ALARM / len(record)).any(), label


def test_the_study_of_clusters_is_within_its_bounds() -> None:
    record = json.loads(CLUSTERED.read_text())
    assert set(record) <= {f"{name}; {method}" for name, method in studies("clustered")}
    for label, entry in record.items():
        tally = Tally(clustered_cases()[label.split("; ")[0]])
        tally.restore(entry)
        assert tally.runs >= 50, label
        assert not tally.wrong(FALSE_ALARM / len(record)).any(), label


def test_the_study_of_many_levels_is_within_its_bounds() -> None:
    record = json.loads(CLOSE.read_text())
    assert set(record) == {f"{name}; {method}" for name, method in studies("close")}
    for label, entry in record.items():
        tally = Tally(close_cases()[label.split("; ")[0]])
        tally.restore(entry)
        assert tally.runs >= 300, label
        assert not tally.wrong(FALSE_ALARM / len(record)).any(), label
