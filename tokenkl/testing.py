"""Hypothesis strategies and a quadrature to hold them against, for our tests and for yours.

Shapes come from a small set and values are free, since every new shape compiles something. This
module needs `hypothesis`, which the library itself does not.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tokenkl._random import generator
from tokenkl._validation import check_snr, reject
from tokenkl.bounds import diameter
from tokenkl.codebooks import (
    FSQ,
    Codebook,
    OneHot,
    PointCodebook,
    ProductCodebook,
    ResidualCodebook,
)
from tokenkl.estimate import Estimate
from tokenkl.information import profile

#: Numbers of tokens that random point sets and one-hot codebooks take.
SIZES = (2, 3, 5, 9)


def snrs(low_db: float = -60.0, high_db: float = 60.0) -> st.SearchStrategy[float]:
    """Signal-to-noise ratios, uniform in decibels over twelve decades unless told otherwise."""
    return st.floats(low_db, high_db).map(lambda db: float(10 ** (db / 10)))


@st.composite
def snr_grids(
    draw: st.DrawFn, low_db: float = -50.0, high_db: float = 30.0, positive: bool = False
) -> np.ndarray:
    """Two to six SNRs that increase, sometimes from 0."""
    db = draw(st.lists(st.floats(low_db, high_db), min_size=2, max_size=6, unique=True))
    grid = np.unique(10 ** (np.sort(db) / 10))
    from_zero = not positive and draw(st.booleans())
    if grid.size < 2:  # two that are one in floating point
        grid = np.array([grid[0], 2 * grid[0]])
    return np.concatenate([[0.0], grid]) if from_zero else grid


@st.composite
def priors(draw: st.DrawFn, K: int) -> np.ndarray | None:
    """Equal (None), Zipf, one nearly certain token, or anything positive."""
    kind = draw(st.sampled_from(["equal", "zipf", "certain", "free"]))
    if kind == "equal":
        return None
    if kind == "zipf":
        weight = 1 / np.arange(1, K + 1) ** draw(st.floats(0.5, 2.0))
    elif kind == "certain":
        weight = np.full(K, 10.0 ** draw(st.floats(-9, -3)))
        weight[draw(st.integers(0, K - 1))] = 1.0
    else:
        weight = np.array(draw(st.lists(st.floats(1e-3, 1.0), min_size=K, max_size=K)))
    return weight / weight.sum()


@st.composite
def level_arrays(draw: st.DrawFn, sizes: tuple[int, ...] = (1, 2, 3, 5)) -> np.ndarray:
    """Distinct levels of one coordinate, at least 0.02 apart, in [-1, 1] after scaling."""
    size = draw(st.sampled_from(sizes))
    gaps = draw(st.lists(st.floats(0.02, 1.0), min_size=size, max_size=size))
    levels = np.cumsum(gaps)
    return 2 * (levels - levels.mean()) / max(levels[-1], 1.0)


@st.composite
def grids(draw: st.DrawFn) -> ProductCodebook:
    """Product codebooks with product priors, of one to three coordinates; FSQ among them."""
    if draw(st.booleans()):
        return FSQ(tuple(draw(st.lists(st.sampled_from((1, 2, 3, 5)), min_size=1, max_size=3))))
    levels = draw(st.lists(level_arrays(), min_size=1, max_size=3))
    return ProductCodebook(levels, [draw(priors(column.size)) for column in levels])


@st.composite
def onehots(draw: st.DrawFn) -> OneHot:
    """One-hot codebooks with any prior and scale."""
    K = draw(st.sampled_from((*SIZES, 100)))
    return OneHot(K, draw(priors(K)), draw(st.floats(0.2, 3.0)))


def exact_codebooks() -> st.SearchStrategy[Codebook]:
    """Codebooks whose every quantity is exact."""
    return st.one_of(grids(), onehots())


@st.composite
def point_codebooks(draw: st.DrawFn, n: int = 2) -> PointCodebook:
    """Points in [-1, 1]^n that are at least 0.02 apart in some coordinate."""
    K = draw(st.sampled_from(SIZES))
    cells = draw(
        st.lists(st.tuples(*[st.integers(-50, 50)] * n), min_size=K, max_size=K, unique=True)
    )
    return PointCodebook(np.array(cells) / 50.0, draw(priors(K)))


@st.composite
def tilted_grids(draw: st.DrawFn) -> ProductCodebook:
    """Planar grids with a prior that is no product, so that no exact formula holds for them."""
    levels = [draw(level_arrays((2, 3))) for _ in range(2)]
    K = levels[0].size * levels[1].size
    prior = draw(priors(K))
    return ProductCodebook(levels, prior=prior)


@st.composite
def residual_codebooks(draw: st.DrawFn) -> ResidualCodebook:
    """Two stages of two or three vectors in the plane; sums may coincide."""
    cells = st.tuples(st.integers(-20, 20), st.integers(-20, 20))
    sizes = draw(st.sampled_from([(2, 2), (3, 2), (3, 3)]))
    scales = (1.0, draw(st.floats(0.1, 0.6)))
    stages = [
        np.array(draw(st.lists(cells, min_size=size, max_size=size))) / 20.0 * scale
        for size, scale in zip(sizes, scales, strict=True)
    ]
    return ResidualCodebook(stages, draw(priors(sizes[0] * sizes[1])))


@st.composite
def learned_codebooks(draw: st.DrawFn) -> PointCodebook:
    """What Lloyd's algorithm leaves after one step on planar data: cell means and frequencies."""
    data = generator(draw(st.integers(0, 2**31))).standard_normal((200, 2))
    K = draw(st.sampled_from((3, 6, 9)))
    owner = np.argmin(((data[:, None] - data[:K]) ** 2).sum(axis=-1), axis=1)
    counts = np.bincount(owner, minlength=K)
    points = np.stack([data[owner == k].mean(axis=0) for k in range(K)])
    return PointCodebook(points, None if draw(st.booleans()) else counts / counts.sum())


@st.composite
def few_points(draw: st.DrawFn) -> PointCodebook:
    """Two or three tokens in up to nine dimensions, which lie in a plane of their own."""
    n = draw(st.sampled_from((3, 9)))
    K = draw(st.sampled_from((2, 3)))
    rows = draw(st.lists(st.tuples(*[st.integers(-9, 9)] * n), min_size=K, max_size=K, unique=True))
    return PointCodebook(np.array(rows) / 9.0, draw(priors(K)))


def codebooks() -> st.SearchStrategy[Codebook]:
    """Codebooks of every kind, small enough for `reference_profile`."""
    return st.one_of(
        grids(),
        onehots(),
        point_codebooks(),
        tilted_grids(),
        residual_codebooks(),
        learned_codebooks(),
        few_points(),
    )


# ---- An independent reference -------------------------------------------------------------------

#: Step of the trapezoid rule in the noise, and how far it reaches: tails of 1e-13.
STEP, REACH = 0.18, 7.5


def reference_profile(codebook: Codebook, snr: float) -> dict[str, Estimate]:
    """Every quantity, and the sampling error 1 - E sum_k p(k|Y)^2, by quadrature.

    For codebooks whose points lie in a plane: the trapezoid rule over the noise of each token, on
    two interleaved grids whose difference is the reported error (typically 1e-10 or less; only
    absolute, no digits are promised of quantities below it). A grid whose prior factorises is a
    product of such lines. The error probability, whose integrand has kinks, and one-hot tokens
    beyond three come from the library's exact formulas.

    Raises:
        ValueError: points that do not lie in a plane, or a negative snr.
    """
    snr = float(check_snr(snr))
    if isinstance(codebook, OneHot) and codebook.K > 3:
        return _one_hot_reference(codebook, snr)
    grid = codebook.factors
    if grid is not None:
        lines = [
            _average(column[:, None], np.asarray(grid.coordinate_log_prior(axis)), snr)
            for axis, column in enumerate(grid.levels)
        ]
        table, error = np.array([line[0] for line in lines]), sum(line[1] for line in lines)
        share = -np.expm1(np.log1p(-np.minimum(table[:, 0], 1 - 1e-16)).sum())
        entropy, mmse = table[:, 1:].sum(axis=0)
        missed = profile(codebook, snr, ["error_probability"])["error_probability"]
    else:
        plane = _in_a_plane(codebook)
        (share, entropy, mmse), error = _average(plane, np.asarray(codebook.log_prior), snr)
        missed = _planar_error(plane, np.asarray(codebook.prior), snr)
    prior_entropy = float(codebook.prior_entropy())
    values = {
        "sampling_error": share,
        "conditional_entropy": entropy,
        "mutual_information": prior_entropy - entropy,
        "mmse": mmse,
    }
    scale = {"mmse": 1 + diameter(codebook) ** 2}
    found = {
        name: Estimate(
            number,
            numerical_error=float(error) + 1e-11 * scale.get(name, 1 + prior_entropy),
            method="quadrature",
            quantity=name,
        )
        for name, number in values.items()
    }
    found["error_probability"] = missed
    found["accuracy"] = Estimate(
        1 - missed.value, numerical_error=missed.numerical_error + 1e-15, quantity="accuracy"
    )
    return found


def _in_a_plane(codebook: Codebook) -> np.ndarray:
    """The points in coordinates of the line or plane that they lie in."""
    points = np.asarray(codebook.points)
    offset = points - points[0]
    _, sizes, axes = np.linalg.svd(offset, full_matrices=False)
    flat = int(np.sum(sizes > 1e-12 * max(sizes[0], 1e-300)))
    if flat > 2:
        reject("codebook", repr(codebook), "points in a plane for a reference by quadrature")
    return np.asarray(offset @ axes[: max(flat, 1)].T)


def _planar_error(points: np.ndarray, prior: np.ndarray, snr: float) -> Estimate:
    """Of equal points only the most probable one is ever guessed."""
    _, first, group = np.unique(
        np.round(points, 12), axis=0, return_index=True, return_inverse=True
    )
    unique = points[first]
    top = np.zeros(unique.shape[0])
    np.maximum.at(top, group.ravel(), prior)
    mass = float(top.sum())
    distinct = PointCodebook(unique, top / mass)
    found = profile(distinct, snr, ["error_probability"])["error_probability"]
    lost = float(prior.sum()) - mass if top.size < prior.size else 0.0
    return Estimate(
        lost + mass * found.value,
        numerical_error=found.numerical_error + 1e-15,
        quantity="error_probability",
    )


def _average(points: np.ndarray, log_prior: np.ndarray, snr: float) -> tuple[np.ndarray, float]:
    """Sampling error, entropy and MMSE; the largest difference between the two grids."""
    n = points.shape[1]
    ticks = np.arange(-REACH, REACH + STEP / 2, STEP)
    totals = np.zeros((2, 3))
    h = np.sqrt(snr)
    for grid, shift in enumerate((0.0, STEP / 2)):
        axes = np.meshgrid(*[ticks + shift] * n, indexing="ij")
        noise = np.stack([axis.ravel() for axis in axes], axis=1)
        weight = np.exp(-(noise**2).sum(axis=1) / 2)
        weight /= (2 * np.pi) ** (n / 2) / STEP**n
        for k, own in enumerate(points):
            # Relative to the true token: differences first.
            move = points - own
            logits = h * noise @ move.T - snr * (move**2).sum(axis=1) / 2 + log_prior
            logits -= logits.max(axis=1, keepdims=True)
            odds = np.exp(logits)
            total = odds.sum(axis=1, keepdims=True)
            p = odds / total
            squared = (move**2).sum(axis=1)
            sums = [
                (p * (1 - p)).sum(axis=1),
                np.log(total[:, 0]) - (p * logits).sum(axis=1),
                p @ squared - ((p @ move) ** 2).sum(axis=1),
            ]
            totals[grid] += np.exp(log_prior[k]) * (np.array(sums) @ weight)
    return totals.mean(axis=0), float(np.abs(totals[0] - totals[1]).max())


def _one_hot_reference(codebook: OneHot, snr: float) -> dict[str, Estimate]:
    found = dict(profile(codebook, snr).estimates)
    mmse, square = found["mmse"], float(codebook.scale) ** 2
    # Posterior variances of one-hot tokens add up to scale^2 (1 - sum p^2).
    found["sampling_error"] = Estimate(
        mmse.value / square, numerical_error=mmse.numerical_error / square
    )
    return found
