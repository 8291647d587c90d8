"""`message_nonlinearity` against a plain grid, closed cases, and itself by other ways."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from noisy_pairs import NoisyPairs

import tokenkl as tk
from tokenkl.context.affine import Family, Seat
from tokenkl.context.grids import PairGrid
from tokenkl.context.quadrature import least
from tokenkl.sources import Independent, Joint, Markov, bilinear


def _assert_honest(found: tk.Estimate, exact: float, rtol: float = 1e-6) -> None:
    """Within what is claimed (and what the plain grid leaves), and claimed to six digits."""
    assert abs(found.value - exact) <= found.numerical_error + 1e-8 * exact + 1e-15
    assert found.numerical_error <= rtol * exact + 1e-14


@pytest.mark.parametrize("snr", [0.1, 1.0, 9.0])
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("K", [2, 3])
def test_two_tokens_on_a_line(K: int, position: int, snr: float) -> None:
    rng = np.random.default_rng(K)
    points, law = rng.normal(size=K), rng.dirichlet(np.ones(K * K)).reshape(K, K)
    codebook = tk.PointCodebook(points[:, None])
    found = tk.message_nonlinearity(codebook, Joint(law), snr, position=position)
    _assert_honest(found, NoisyPairs(points, law, snr, position).least())


#: Three tokens, of which one never follows another.
LAW = [[0.2, 0.1, 0.1], [0.0, 0.2, 0.1], [0.1, 0.1, 0.1]]
HOSTILE: dict[str, tuple[list[float], list[list[float]], float]] = {
    "impossible pairs": (
        [-1.0, 0.2, 1.0],
        [[0.3, 0.0, 0.1], [0.0, 0.2, 0.0], [0.1, 0.2, 0.1]],
        2.0,
    ),
    "a near certain token": ([-1.0, 1.0], [[1 - 3e-6, 1e-6], [1e-6, 1e-6]], 3.0),
    "two near tokens": (
        [-1.0, -0.999, 1.0],
        [[0.2, 0.1, 0.1], [0.0, 0.2, 0.1], [0.1, 0.1, 0.1]],
        4.0,
    ),
    "far tokens": ([-30.0, 0.0, 30.0], LAW, 0.004),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_laws(case: str) -> None:
    points, law, snr = HOSTILE[case]
    codebook = tk.PointCodebook(np.array(points)[:, None])
    found = tk.message_nonlinearity(codebook, Joint(law), snr, position=0)
    _assert_honest(found, NoisyPairs(np.array(points), np.array(law), snr).least(), 1e-5)


def test_three_tokens_against_a_plain_grid_of_three_dimensions() -> None:
    """A chain seen from its middle, whose law at theta = own + message is summed on a cube."""
    chain = Markov([[0.7, 0.3], [0.2, 0.8]], 3)
    seat = Seat.of(tk.FSQ((2,)), chain, 1, None)
    found = least(seat, 1.5, "affine", seat.gaussian(1.5), 1e-8)
    h, line = np.sqrt(1.5), np.arange(-7.5, 7.5, 0.25)
    seen = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    logs = -((seen[..., None] - h * tk.FSQ((2,)).points[:, 0]) ** 2) / 2
    message, evidence = chain.messages(logs)
    log_p = message[:, 1] + logs[:, 1]
    log_p -= np.logaddexp(log_p[:, :1], log_p[:, 1:])
    logits = np.column_stack([np.ones(len(seen)), seen[:, [1, 0, 2]]]) @ found.theta.T
    log_q = logits - np.logaddexp(logits[:, :1], logits[:, 1:])
    weight = np.exp(evidence) * (0.25 / np.sqrt(2 * np.pi)) ** 3
    p, q = np.exp(log_p), np.exp(log_q)
    expected = weight @ (p * (log_p - log_q)).sum(axis=1)
    assert abs(found.value - expected) < 1e-9
    features = np.column_stack([np.ones(len(seen)), seen])
    assert abs((weight[:, None] * (q - p)).T @ features).max() < 1e-6  # so theta is the least


def test_errors_cover_finer_grids() -> None:
    """Six dimensions, where grids are coarsest for their cost, against a finer one."""
    rng = np.random.default_rng(4)
    points = rng.normal(size=(4, 3))
    source = Joint(rng.dirichlet(np.ones(16)).reshape(4, 4))
    seat = Seat.of(tk.PointCodebook(points), source, 0, None)
    assert seat.points.shape[1] == 3
    found = least(seat, 0.8, "affine", seat.gaussian(0.8), 1e-4)
    finer = PairGrid(seat, 0.8, 0.85).evaluate(found.theta)[0]
    assert abs(found.value - finer) <= found.error <= 2e-4 * finer


@pytest.mark.parametrize("seed", range(8))
def test_errors_cover_better_values(seed: int) -> None:
    """Sparse laws, near tokens, SNRs over two decades: what is claimed for two digits holds."""
    rng = np.random.default_rng(seed)
    K, points = int(rng.integers(2, 5)), rng.normal(size=(4, 1 + seed % 2))
    points[0] = points[1] + 0.05
    law = Joint(rng.dirichlet(np.full(K * K, 0.3)).reshape(K, K))
    seat = Seat.of(tk.PointCodebook(points[:K]), law, 0, None)
    snr = float(np.exp(rng.uniform(-2, 3)))
    rough = least(seat, snr, "affine", seat.gaussian(snr), 1e-2)
    fine = least(seat, snr, "affine", seat.gaussian(snr), 1e-6, 1e-12)
    assert abs(rough.value - fine.value) <= rough.error + fine.error
    assert fine.error <= 1e-6 * fine.value + 2e-14


def test_grids_that_are_too_large() -> None:
    cube = Joint(np.full((8, 8), 1 / 64))
    points = tk.FSQ((2, 2, 2)).points
    points[0] = points[1] + 1e-3
    with pytest.raises(ValueError, match="snr must be lower, for grids that can be summed over"):
        tk.message_nonlinearity(tk.PointCodebook(points), cube, 1e4)
    far = tk.message_nonlinearity(tk.FSQ((2, 2, 2)), cube, 1e4)  # no grid is needed
    assert 0 <= far.value <= far.numerical_error < 1e-15


def test_coordinates_do_not_matter() -> None:
    """Offsets, rotations, and dimensions without points."""
    rng = np.random.default_rng(1)
    points, law = rng.normal(size=(3, 1)), Joint(rng.dirichlet(np.ones(9)).reshape(3, 3))
    turned = points @ np.array([[0.6, 0.8]]) + 1e4
    plain, moved = (
        tk.message_nonlinearity(tk.PointCodebook(one), law, [0.5, 5.0]) for one in (points, turned)
    )
    np.testing.assert_allclose(plain.value, moved.value, rtol=1e-8)


def test_neighbour_that_is_known() -> None:
    """A position where only one token can occur is the limit of one where others are rare."""
    T = [[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.05, 0.15, 0.8]]
    known, nearly = (
        tk.message_nonlinearity(tk.FSQ((3,)), Markov(T, 3, [rare, 1 - 2 * rare, rare]), 1.0)
        for rare in (0.0, 1e-13)
    )
    assert known.value > 1e-3
    assert abs(known.value - nearly.value) < 1e-11


@pytest.mark.parametrize("place", [0.0, 0.1, 1 / 3, 1e6 + 0.1])
def test_all_tokens_at_one_point(place: float) -> None:
    """What is seen says nothing, whatever the digits of the mean of equal numbers."""
    one = tk.PointCodebook(np.full((3, 2), place), allow_duplicates=True)
    found = tk.message_nonlinearity(one, Joint(LAW), [0.1, 1e5])
    assert (found.value == 0).all()
    assert tk.nonlinearity_integral(one, Joint(LAW)).value == 0
    assert tk.context.nonlinearity_bound(one, Joint(LAW), 1.0, by="gaussian").value == 0
    # Those that never occur may be elsewhere.
    pair = Joint(np.pad([[0.3, 0.1], [0.2, 0.4]], (0, 1)))
    two = tk.PointCodebook([[place], [place], [place + 7]], allow_duplicates=True)
    assert tk.message_nonlinearity(two, pair, 1.0).value < 1e-14
    assert tk.nonlinearity_integral(two, pair).value == 0


NOTHING_LOST: dict[str, Callable[[], tk.sources.Source]] = {
    "independent": lambda: Independent([[0.2, 0.8], [0.5, 0.5]]),
    "copied": lambda: Joint([[0.5, 0.0], [0.0, 0.5]]),
    "one token": lambda: Independent([[0.3, 0.7]]),
    "one possible token": lambda: Joint([[0.4, 0.6], [0.0, 0.0]]),
}


@pytest.mark.parametrize("case", NOTHING_LOST)
def test_nothing_is_lost(case: str) -> None:
    found = tk.message_nonlinearity(tk.FSQ((2,)), NOTHING_LOST[case](), [0.0, 0.1, 2.0, 30.0])
    assert (found.value <= 1e-14).all()
    assert (abs(found.value) <= found.numerical_error).all()
    assert (found.numerical_error <= 1e-13).all()


def test_families_and_windows_are_in_order() -> None:
    """Fewer logits lose more; all are below the bound by pairs."""
    chain = Markov(np.random.default_rng(3).dirichlet(np.ones(3), 3), 3)
    codebook, snr = tk.PointCodebook([[-1.0], [0.3], [1.0]]), np.array([0.5, 4.0])
    cases: list[tuple[Family, int | None]]
    cases = [("affine", None), ("affine", 1), ("message", 1), ("gaussian", 1)]
    values = [
        tk.message_nonlinearity(codebook, chain, snr, family=family, position=0, window=window)
        for family, window in cases
    ]
    for smaller, larger in itertools.pairwise(values):
        assert (larger.value >= smaller.value - smaller.numerical_error).all()
    assert (values[-1].value > 1.0001 * values[0].value).all()
    assert (tk.nonlinearity_bound(codebook, chain, snr, position=0).value > values[0].value).all()
    bound = tk.nonlinearity_bound(codebook, chain, snr, by="message", position=0, window=1)
    assert bound.direction == "upper"
    assert (bound.value >= values[2].value).all()


@pytest.mark.parametrize("window", [None, 1])
def test_sampled(window: int | None) -> None:
    """Within four and a half standard errors and the bracket of exact values."""
    chain = Markov([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.5, 0.0, 0.5]], 3)
    codebook, snr = tk.PointCodebook([[-1.0], [0.2], [1.0]]), [0.5, 6.0]
    exact = tk.message_nonlinearity(codebook, chain, snr, position=0, window=window)
    method = tk.MonteCarlo(8000)
    found = tk.message_nonlinearity(
        codebook, chain, snr, position=0, window=window, method=method, key=2
    )
    off = abs(found.value - exact.value) - exact.numerical_error - found.numerical_error
    assert (off <= 4.5 * found.standard_error).all()
    assert (found.numerical_error < 0.1 * found.value).all()
    again = tk.message_nonlinearity(
        codebook, chain, snr, position=0, window=window, method=method, key=2
    )
    assert np.array_equal(found.value, again.value)


def test_sampled_brackets_cover() -> None:
    """Few draws and many parameters: the mean of both ends is far less biased than either."""
    rng = np.random.default_rng(0)
    codebook = tk.FSQ((2, 2))
    law = bilinear(codebook.points, codebook.points, rng.normal(size=(2, 2)))
    exact = tk.message_nonlinearity(codebook, law, 2.0, position=0)
    found = [
        tk.message_nonlinearity(codebook, law, 2.0, position=0, method=tk.MonteCarlo(400), key=key)
        for key in range(40)
    ]
    values = np.array([float(one) for one in found])
    error = values.std(ddof=1) / np.sqrt(len(values))
    width = np.mean([float(one.numerical_error) for one in found])
    assert abs(values.mean() - exact.value) <= 4.3 * error + 0.3 * width
    errors = np.array([float(one.standard_error) for one in found])
    assert 0.6 < values.std() / errors.mean() < 1.5


def test_mean_over_positions() -> None:
    law = Joint([[0.4, 0.1], [0.2, 0.3]])
    each = [tk.message_nonlinearity(tk.FSQ((2,)), law, 1.0, position=i).value for i in (0, 1)]
    assert abs(tk.message_nonlinearity(tk.FSQ((2,)), law, 1.0).value - np.mean(each)) < 1e-12


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: tk.message_nonlinearity(tk.FSQ((2,)), 3, 1.0),  # type: ignore[arg-type]
            "source must be one of",
        ),
        (
            lambda: tk.message_nonlinearity(tk.FSQ((3,)), Joint(np.eye(2) / 2), 1.0),
            "source must be over 3",
        ),
        (
            lambda: tk.message_nonlinearity(tk.FSQ((2,)), Joint(np.eye(2) / 2), 1.0, position=2),
            "position must be a whole number, at most 1",
        ),
        (
            lambda: tk.message_nonlinearity(tk.FSQ((2,)), Markov(np.eye(2), 9, [0.5, 0.5]), 1.0),
            "key must be an integer seed",
        ),
        (
            lambda: tk.message_nonlinearity(
                tk.FSQ((2,)), Markov(np.eye(2), 9, [0.5, 0.5]), 1.0, method=tk.Exact()
            ),
            "at most 6 coordinates",
        ),
        (
            lambda: tk.message_nonlinearity(
                tk.FSQ((2,)), Joint(np.eye(2) / 2), 1.0, method=tk.MonteCarlo(rtol=0.1), key=0
            ),
            "without rtol and atol",
        ),
        (
            lambda: tk.nonlinearity_integral(
                tk.FSQ((2,)),
                Joint(np.eye(2) / 2),
                family="gaussian",  # type: ignore[arg-type]
            ),
            "family must be",
        ),
        (
            lambda: tk.nonlinearity_integral(
                tk.PointCodebook([[0.0], [1.0], [0.0]], allow_duplicates=True), Joint(LAW)
            ),
            "codebook must be one of distinct points: .* got one with tokens 0 and 2 at one point",
        ),
    ],
)
def test_refusals(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
