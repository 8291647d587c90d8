"""Weights carried from level to level by multiplication, against an exponential for each."""

import numpy as np
import pytest

from tokenkl.information.sampling import kernel

ERROR, ENTROPY, MMSE, DIVERGENCE, SHARES = range(5)
#: Levels: beyond one run in double precision; some of them, the last of that run among them.
COUNT = kernel.RUN + 7
SOME = np.array([0, 1, 2, 7, 8, 15, 16, kernel.RUN - 1, kernel.RUN, COUNT - 2, COUNT - 1])


def _codebooks() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(5)
    far = rng.standard_normal((300, 8))
    scales = 10.0 ** rng.uniform(-3, 1, (600, 1))
    falling = -np.linspace(0, 690, 700)
    return {
        "gaussian": (rng.standard_normal((1200, 5)), np.zeros(1200)),
        "64 dimensions": (rng.standard_normal((600, 64)), np.zeros(600)),
        "priors down to 1e-300": (rng.standard_normal((700, 3)), falling),
        "near-duplicates": (np.concatenate([far, far + 1e-3]), np.zeros(600)),
        "scales": (scales * rng.standard_normal((600, 4)), np.zeros(600)),
        "two tokens": (np.array([[0.0], [1.0]]), np.log([0.3, 0.7])),
    }


CODEBOOKS = _codebooks()


def _both(name: str, largest: float, single: bool) -> tuple[np.ndarray, np.ndarray]:
    """Statistics at some of evenly spaced levels, together with the others and alone."""
    points, log_weight = CODEBOOKS[name]
    log_prior = log_weight - np.log(np.exp(log_weight).sum())
    points = points - points.mean(axis=0)
    rng = np.random.default_rng(6)
    ids = rng.choice(len(points), size=40, p=np.exp(log_prior))
    noise = rng.standard_normal((40, points.shape[1]))
    table = kernel.lay_out(points, log_prior)
    h = np.linspace(largest / 8, largest, COUNT) / np.sqrt((points**2).sum(axis=1).mean())
    known = True, single, True
    even = kernel.block_statistics(table, ids, noise, h, *known)
    alone = [kernel.block_statistics(table, ids, noise, h[[i]], *known) for i in SOME]
    return even[SOME], np.concatenate(alone)


@pytest.mark.parametrize("largest", [0.1, 5.0, 100.0, 1e5])
@pytest.mark.parametrize("name", CODEBOOKS)
def test_every_sample_has_the_same_digits(name: str, largest: float) -> None:
    even, alone = _both(name, largest, False)
    scale = np.abs(alone)
    scale[:, MMSE] += alone[:, ERROR] * np.max(np.sum(CODEBOOKS[name][0] ** 2, axis=1))
    # What is below 2^-280 of the true token is left out, and a divergence is near 0 by difference.
    assert (np.abs(even - alone)[:, [0, 1, 2, 4]] <= 2e-11 * scale[:, [0, 1, 2, 4]] + 1e-80).all()
    assert np.abs(even - alone)[:, DIVERGENCE].max() <= 1e-10


@pytest.mark.parametrize("largest", [0.1, 5.0, 100.0, 1e5])
@pytest.mark.parametrize("name", CODEBOOKS)
def test_means_in_single_precision(name: str, largest: float) -> None:
    even, _ = _both(name, largest, True)
    _, exact = _both(name, largest, False)
    mean, apart = exact.mean(axis=-1), np.abs((even - exact).mean(axis=-1))
    allowed = kernel.SINGLE_ERROR * np.minimum(np.abs(mean), 1)
    # Rounded weights move the posterior mean: see `montecarlo`.
    radius = np.max(np.sum((CODEBOOKS[name][0] - CODEBOOKS[name][0].mean(axis=0)) ** 2, axis=1))
    allowed[:, MMSE] = kernel.SINGLE_ERROR * mean[:, MMSE]
    allowed[:, MMSE] += 2.0**-22 * np.sqrt(radius * mean[:, MMSE]) + 2.0**-44 * radius
    allowed[:, [ENTROPY, DIVERGENCE]] += kernel.SINGLE_FLOOR
    assert (apart <= allowed + 1e-25).all(), (apart / (allowed + 1e-25)).max(axis=0)


@pytest.mark.parametrize("longest", [4, 8])
def test_runs(longest: int) -> None:
    """Levels are carried where at least four are evenly spaced; the rest stands alone."""
    h = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 4.0])
    steps, fresh = kernel._runs(h, longest)
    np.testing.assert_allclose(steps, [0.1, 0, 0.1, 0, 0.25, 0, 0.25, 0, 0.25, 0, 0, 0])
    expected = np.zeros(12, dtype=bool)
    expected[[0, 4]] = True
    if longest == 4:
        expected[8] = True
    assert (fresh == expected).all()
    for short in (np.arange(4.0)[:0], np.arange(1.0), np.arange(3.0), np.full(6, 2.0)):
        assert not kernel._runs(short, longest)[0].any()


def test_some_of_the_levels_are_negligible_in_between() -> None:
    """A tile that matters, does not, and matters again starts anew.

    The second token, with the noise towards it, is likelier than the true one up to h = 4.6, and
    falls fast then; the third, with the noise against it, is 2^-64 of that before, and not later.
    """
    points = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    ids, noise = np.zeros(2, dtype=int), np.array([[4.6, -9.0], [0.1, 0.2]])
    # A tile for each token.
    table = kernel.Table(
        np.zeros((3, 4, 8)),
        np.full((3, 8), kernel.NOWHERE),
        np.full(3, -1.6),
        np.full(3, -1.6),
        np.arange(0, 24, 8),
    )
    table.tiles[:, :2, 0] = points
    table.log_prior[:, 0] = -1.6
    h = np.linspace(0.1, 12, 60)
    even = kernel.block_statistics(table, ids, noise, h)
    alone = np.concatenate([kernel.block_statistics(table, ids, noise, h[[i]]) for i in range(60)])
    np.testing.assert_allclose(even[:, ERROR], alone[:, ERROR], rtol=1e-12)
    # Where another token wins, the entropy is small by difference.
    np.testing.assert_allclose(even[:, ENTROPY], alone[:, ENTROPY], rtol=1e-12, atol=1e-12)
