"""How far two recordings of one sentence are apart, whatever their pace: dynamic time warping."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tokenkl._validation import reject


def warped_distance(a: Float[np.ndarray, "T m"], b: Float[np.ndarray, "S m"]) -> float:
    """Mean absolute difference of features along the cheapest path through both.

    A path pairs frames from the first two to the last two and moves on in one of them or in both;
    the cheapest has the smallest sum over its pairs, and the mean is over the pairs of that path
    (over the longest of equally cheap ones, so that it is the same both ways). Time and memory
    are proportional to T S. (Sakoe and Chiba, IEEE Trans. ASSP 26, 1978, without a band.)

    Raises:
        ValueError: no frames, or frames of different sizes.

    Example:
        >>> import numpy as np
        >>> warped_distance(np.array([[0.0], [1.0]]), np.array([[0.0], [0.0], [1.0], [1.5]]))
        0.125
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not (a.size and b.size):
        reject("a, b", f"shapes {a.shape} and {b.shape}", "frames of one size, at least one each")
    T, S = len(a), len(b)
    cost = np.empty((T, S))
    for row, frame in zip(cost, a, strict=True):
        row[:] = np.abs(frame - b).mean(axis=1)
    # Along antidiagonals i = t + s all cells are independent: (cost, -pairs) of the best way to
    # cell t, where it came from i - 1 (one of the two moves on) or i - 2 (both do).
    before = [np.full((2, T + 1), np.inf) for _ in range(2)]  # column t + 1: frame t
    for i in range(T + S - 1):
        t = np.arange(max(0, i - S + 1), min(T, i + 1))
        ways = np.stack([before[1][:, t + 1], before[1][:, t], before[0][:, t]])
        if i == 0:
            ways[0] = 0.0
        order = np.lexsort((ways[:, 1], ways[:, 0]), axis=0)[0]
        best = np.take_along_axis(ways, order[None, None, :], axis=0)[0]
        now = np.full((2, T + 1), np.inf)
        now[:, t + 1] = best + np.stack([cost[t, i - t], np.full(t.size, -1.0)])
        before = [before[1], now]
    total, pairs = before[1][:, T]
    return float(total / -pairs)
