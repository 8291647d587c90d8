"""Hypothesis strategies for codebooks, priors and noise levels, for our tests and for yours.

Shapes come from a small set and values are free, since every new shape compiles something. This
module needs `hypothesis`, which the library itself does not.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tokenkl.codebooks import FSQ, Codebook, OneHot, PointCodebook, ProductCodebook

#: Numbers of tokens that random point sets and one-hot codebooks take.
SIZES = (2, 3, 5, 9)


def snrs(low_db: float = -60.0, high_db: float = 60.0) -> st.SearchStrategy[float]:
    """Signal-to-noise ratios, uniform in decibels over twelve decades unless told otherwise."""
    return st.floats(low_db, high_db).map(lambda db: float(10 ** (db / 10)))


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
