"""Bounds on what N steps of a sampler cost, from the exact KL up: how much does each one give away?

`ancestral_kl` is exact. What the literature bounds it by needs less: the MMSE at the grid's points,
the entropy, the dimension, a Lipschitz constant. In the time of the SNR each of these is a line of
algebra with its constant, proved in docs/theory/bounds.md, section 8, and comes back as a `Bound`.
The published theorems are for the sampler that freezes the score, in the time of the
Ornstein-Uhlenbeck process, and most hide an absolute constant: these are a `Rate`, with the
constant 1, which no arithmetic can take for a bound.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_count, reject
from tokenkl.bounds._inputs import high_end, how_sure, low_end
from tokenkl.codebooks import Codebook, average_power
from tokenkl.codebooks.base import check_codebook
from tokenkl.codebooks.transforms import diameter
from tokenkl.divergence.sampler import check_snr_grid
from tokenkl.estimate import Bound, Estimate
from tokenkl.numerics.laws import entropy_of
from tokenkl.sources import Source


@dataclasses.dataclass(frozen=True)
class Rate:
    """A published order of growth: a bound up to a constant that is not known, here 1.

    `value` is the growth, `quantity` what it bounds, `name` and `citation` where it is from.
    """

    value: float
    name: str
    citation: str
    quantity: str = "ancestral KL"

    def __repr__(self) -> str:
        return f"<{self.quantity} <= const * {self.value:.4g} [{self.name}]>"


# ---- Proved, with constants ----------------------------------------------------------------------


def mmse_step_bound(mmse: Estimate | Float[Any, " points"], grid: Float[Any, " points"]) -> Bound:
    """KL <= (1/2) sum_k (snr_{k+1} - snr_k) (mmse_k - mmse_{k+1}), from the MMSE at the grid.

    A step costs half the area between the MMSE where it begins and the MMSE on its way, which falls
    no further than to where it ends. About twice the exact KL where steps are short.

    Args:
        mmse: at the points of the grid; an `Estimate` enters with the end that keeps this true.
        grid: SNRs that increase.

    Returns:
        An upper `Bound` on `ancestral_kl`, in nats.

    Raises:
        ValueError: another number of MMSEs than of SNRs, a negative one, or no grid.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> cube, grid = tk.FSQ((2,) * 4), np.geomspace(0.01, 30.0, 20)
        >>> bound = mmse_step_bound(tk.mmse(cube, grid), grid)
        >>> 1 < float(bound.value) / float(tk.ancestral_kl(cube, grid)) < 2.5
        True

    Source: I-MMSE and monotonicity; the discrete-time argument of Reeves and Pfister (2025), arXiv
    2502.02305, rests on the same two.
    """
    levels = check_snr_grid(grid)
    steps = np.diff(levels)
    weights = np.diff(steps, prepend=0.0, append=0.0)  # of each MMSE, in the sum by parts
    low, high = low_end(mmse, "mmse"), high_end(mmse, "mmse")
    if low.shape != levels.shape:
        reject("mmse", f"of shape {low.shape}", f"of shape {levels.shape}, as the grid")
    terms = weights * np.where(weights > 0, high, low) / 2
    value = math.fsum(terms) + 4 * np.finfo(float).eps * math.fsum(abs(terms))
    name = "MMSE at the steps" + how_sure(mmse)
    return _bound(value, name, "I-MMSE, Guo, Shamai and Verdu 2005; Reeves and Pfister 2025")


def entropy_step_bound(information: Any, grid: Float[Any, " points"]) -> Bound:
    """KL <= kappa I, with kappa the largest (snr_{k+1} - snr_k) / snr_k of all steps.

    I is the information at the SNR where the last step begins, which is at most the entropy of the
    prior. With steps of equal ratio kappa is about log(snr_N / snr_0) / N: the cost of a step is
    free of the dimension and of the points, and N grows like entropy times log of the range.

    Args:
        information: I(k; Y) there, or the entropy of the prior, which is above it; nats.
        grid: SNRs that increase, the first above 0.

    Returns:
        An upper `Bound` on `ancestral_kl`, in nats.

    Raises:
        ValueError: a negative number, or no grid that begins above 0.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> grid = tk.step_grid("log-snr", 50, 1e-3, 100.0)
        >>> bound = entropy_step_bound(np.log(6561), grid)
        >>> bool(bound.value > float(tk.ancestral_kl(tk.OneHot(6561), grid)))
        True

    Source: docs/theory/bounds.md, B23. Relatives: O(entropy^2 / N) in Aghapour, Bayraktar and Zhang
    (2026), arXiv 2601.21943; linear in the entropy, logarithmic in the second moment, in "When
    Diffusion Model Can Ignore Dimension" (2026), arXiv 2605.07969.
    """
    value = _kappa(_positive(grid)) * float(high_end(information, "information"))
    return _bound(value, "entropy" + how_sure(information), "I-MMSE; relatives: 2601.21943")


def dimension_step_bound(n: int, grid: Float[Any, " points"]) -> Bound:
    """KL <= (kappa n / 2) (1 + sum_{k>=1} (snr_k - snr_{k-1}) / snr_k), whatever the tokens.

    kappa as in `entropy_step_bound`. The sum is at most log(snr_{N-1} / snr_0), so that this is
    n log^2 / (2 N) where steps have equal ratios, as in Benton et al. (2024).

    Args:
        n: dimension of the space that the tokens span.
        grid: SNRs that increase, the first above 0.

    Returns:
        An upper `Bound` on `ancestral_kl`, in nats.

    Raises:
        ValueError: n below 1, or no grid that begins above 0.

    Source: docs/theory/bounds.md, B24; the argument is that of Benton, De Bortoli, Doucet and
    Deligiannidis (2024), arXiv 2308.03686, in the time of the SNR.
    """
    check_count(n, "n")
    levels = _positive(grid)
    ratios = math.fsum(np.diff(levels[:-1]) / levels[1:-1])
    value = _kappa(levels) * n / 2 * (1 + ratios)
    return _bound(value, "dimension", "I-MMSE; argument of Benton et al. 2024")


def lipschitz_step_bound(codebook: Codebook, grid: Float[Any, " points"]) -> Bound:
    """KL <= (1/4) sum_k (snr_{k+1} - snr_k)^2 C, C the largest |Cov(e | y)|_F^2 there may be.

    The MMSE falls at the rate E |Cov(e | y)|_F^2. A posterior on a set of diameter D has no
    variance above L = D^2 / 4 in any direction and none above D^2 / 2 in all, so that
    C = L min(n L, D^2 / 2); independent parts add up. L is the Lipschitz constant of the denoiser.

    Args:
        codebook: any codebook.
        grid: SNRs that increase.

    Returns:
        An upper `Bound` on `ancestral_kl`, in nats.

    Example:
        >>> import tokenkl as tk
        >>> round(float(lipschitz_step_bound(tk.FSQ((2, 2)), [0.0, 1.0]).value), 9)  # n / 4
        0.5

    Source: docs/theory/bounds.md, B25. Girsanov with a Lipschitz score is the argument of Chen,
    Chewi, Li, Li, Salim and Zhang (2023), arXiv 2209.11215.
    """
    check_codebook(codebook)
    steps = np.diff(check_snr_grid(grid))
    largest = 0.0
    for part in codebook.smallest_parts:
        lipschitz = _lipschitz(part)
        largest += lipschitz * min(part.n * lipschitz, 2 * lipschitz)
    value = math.fsum(steps**2) * largest / 4
    return _bound(value, "Lipschitz denoiser", "Girsanov; argument of Chen et al. 2023")


def masked_step_bound(source: Source, sizes: Sequence[int]) -> Bound:
    """Masked diffusion: KL <= (s - 1) mean_i I(k_i; all others), s the most tokens at a time.

    The sampler shows tokens at random places, sizes[t] of them in step t, each drawn by itself from
    its exact law given those shown before. The bound is on E KL(source || produced) over the
    choices of places, hence on the KL of the law that is produced. Li and Cai have it with
    2^ceil(log2 s) - 1 in place of s - 1.

    Args:
        source: a law whose sequences can be listed.
        sizes: tokens shown in each step; they sum to the length.

    Returns:
        An upper `Bound`, in nats.

    Raises:
        ValueError: sizes that are no whole numbers from 1 with that sum, or too many sequences.

    Example:
        >>> import tokenkl as tk
        >>> copied = tk.sources.Joint([[0.5, 0.0], [0.0, 0.5]])
        >>> round(float(masked_step_bound(copied, [2]).value), 6)  # both at once: log 2
        0.693147

    Source: Li and Cai (2025), arXiv 2505.21400, theorem 1; with s - 1 from the exact form of Chen,
    Cong and Li (2025), arXiv 2511.04647: docs/theory/bounds.md, B26.
    """
    for size in sizes:
        check_count(size, "sizes")
    if sum(sizes) != source.length:
        reject("sizes", list(sizes), f"tokens of each step, {source.length} in all")
    law = source.joint()
    whole, shared = entropy_of(law), 0.0
    for i in range(source.length):
        others = tuple(j for j in range(source.length) if j != i)
        shared += entropy_of(law.sum(axis=others)) + entropy_of(law.sum(axis=i)) - whole
    value = (max(sizes) - 1) * max(shared, 0.0) / source.length
    return _bound(value, "mutual information", "Li and Cai 2025; Chen, Cong and Li 2025")


# ---- Published, up to a constant -----------------------------------------------------------------


def lipschitz_score_rate(codebook: Codebook, grid: Float[Any, " points"]) -> Rate:
    """Chen et al. (2023): L^2 n sum_k h_k^2, the discretisation part of their theorem 2.

    L is the Lipschitz constant of the score and h_k the steps in the time of the Ornstein-Uhlenbeck
    process (their h is constant, and the sum is h T). For the sampler that freezes the score; up to
    an absolute constant and a term L^2 m^2 h^2 T in the second moment m^2, which is smaller where
    h m^2 < n. Tokens have L = O(snr_N^2), here from the largest covariance that they allow.

    Args:
        codebook: any codebook of more than one point; scaled to unit power in every dimension.
        grid: SNRs that increase, the first above 0.

    Source: Chen, Chewi, Li, Li, Salim and Zhang (2023), arXiv 2209.11215.
    """
    unit, times, levels = _in_their_time(codebook, grid)
    covariance = max(_lipschitz(part) for part in codebook.smallest_parts) / unit
    top = levels[-1]
    lipschitz = (1 + top) * max(1.0, top * covariance - 1)
    value = lipschitz**2 * codebook.n * math.fsum(np.diff(times) ** 2)
    return Rate(value, "Lipschitz score", "Chen et al. 2023, arXiv 2209.11215")


def dimension_rate(codebook: Codebook, grid: Float[Any, " points"]) -> Rate:
    """Benton et al. (2024): kappa^2 n N + kappa n T, the discretisation part of their theorem 1.

    Steps h_k <= kappa min(1, t_{k+1}) in the time t of the Ornstein-Uhlenbeck process that is left
    after the step; T is where it starts. For the sampler that freezes the score, for data with unit
    covariance, and up to an absolute constant.

    Args:
        codebook: any codebook of more than one point; scaled to unit power in every dimension.
        grid: SNRs that increase, the first above 0.

    Source: Benton, De Bortoli, Doucet and Deligiannidis (2024), arXiv 2308.03686.
    """
    _, times, _ = _in_their_time(codebook, grid)
    kappa = float((-np.diff(times) / np.minimum(1.0, times[1:])).max())
    value = codebook.n * (kappa**2 * (times.size - 1) + kappa * float(times[0]))
    return Rate(value, "nearly linear in n", "Benton et al. 2024, arXiv 2308.03686")


def entropy_squared_rate(entropy: float, N: int) -> Rate:
    """Aghapour et al. (2026): H^2 / N, up to a constant and to factors of the range of SNRs.

    Args:
        entropy: of the prior, in nats.
        N: steps.

    Source: Aghapour, Bayraktar and Zhang (2026), arXiv 2601.21943.
    """
    check_count(N, "N")
    value = float(high_end(entropy, "entropy")) ** 2 / N
    return Rate(value, "entropy squared / N", "Aghapour et al. 2026, arXiv 2601.21943")


def total_variation_rate(n: int, N: int) -> Rate:
    """Li and Yan (2024): n log^3(N) / N for the total variation of target and produced law.

    Up to an absolute constant. It falls faster than the path KL allows: Pinsker's inequality has
    the root of KL / 2, of order N^(-1/2).

    Args:
        n: dimension.
        N: steps.

    Source: Li and Yan (2024), arXiv 2409.18959, theorem 1.
    """
    check_count(n, "n")
    check_count(N, "N")
    value = n * math.log(N) ** 3 / N
    return Rate(value, "n / N", "Li and Yan 2024, arXiv 2409.18959", "total variation")


# ---- Pieces --------------------------------------------------------------------------------------


def _bound(value: float, name: str, citation: str) -> Bound:
    return Bound(np.float64(value * (1 + 1e-12)), "upper", name, citation, "ancestral KL", "nats")


def _positive(grid: Any) -> np.ndarray:
    levels = check_snr_grid(grid)
    if levels[0] == 0:
        reject("grid", "a first SNR of 0", "one that begins above 0")
    return levels


def _kappa(levels: np.ndarray) -> float:
    return float((np.diff(levels) / levels[:-1]).max())


def _lipschitz(part: Codebook) -> float:
    """The largest variance in one direction of any law on its points, by Popoviciu."""
    return diameter(part) ** 2 / 4


def _in_their_time(codebook: Codebook, grid: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """Power in a dimension, times t = log(1 + 1/snr) / 2 and SNRs, for points scaled by it."""
    check_codebook(codebook)
    unit = average_power(codebook) / codebook.n
    if unit == 0:
        reject("codebook", repr(codebook), "one of different tokens")
    levels = _positive(grid) * unit
    return unit, np.log1p(1 / levels) / 2, levels
