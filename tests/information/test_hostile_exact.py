"""Exact paths on codebooks that nobody chose for comfort: offsets, clusters, tiny priors."""

from __future__ import annotations

import time

import mpmath as mp
import numpy as np
import pytest
from scipy import special
from scipy.stats import ortho_group

import tokenkl as tk
from tokenkl.information import exact_quantities

L = np.longdouble


def random_line(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Levels, prior and SNR: gaps down to 1e-12 of the range, offsets, scales, priors to 1e-300."""
    rng = np.random.default_rng([9, seed])
    count = int(rng.choice([2, 3, 4, 5]))
    kind = rng.integers(4)
    if kind == 0:
        levels = np.cumsum(10 ** rng.uniform(-12, 0, count))
    elif kind == 1:
        middle = rng.uniform(-1, 1, 2)[rng.integers(2, size=count)]
        levels = middle + 10 ** rng.uniform(-13, -1) * rng.standard_normal(count)
    else:
        levels = np.cumsum(10 ** rng.uniform(-2, 0, count))
    levels = levels + rng.choice([0, 1, -1]) * 10 ** rng.uniform(-3, 9)
    levels = np.unique(levels * 10.0 ** (rng.uniform(-150, 150) if rng.random() < 0.3 else 0))
    weight = 10 ** rng.uniform(rng.choice([-300, -8, -0.5]), 0, levels.size)
    weight[rng.integers(levels.size)] = 1.0
    unit = rng.choice(np.append(np.diff(levels), np.ptp(levels))) if levels.size > 1 else 1.0
    return levels, weight / weight.sum(), (10 ** rng.uniform(-5, 1.5) / unit) ** 2


def entropy_and_mmse(levels: np.ndarray, prior: np.ndarray, snr: float) -> tuple[float, float]:
    """By the trapezoid rule in the noise of each level, in 64-bit mantissas, of positive terms."""
    u, p = levels.astype(L), prior.astype(L) / prior.astype(L).sum()
    h, logs = np.sqrt(L(snr)), np.log(p)
    H = V = L(0)
    with np.errstate(all="ignore"):
        for k in range(u.size):
            others = np.arange(u.size) != k
            step, odds = u[others] - u[k], logs[others] - logs[k]
            d = h * step
            crossing = (d / 2 - odds / d).astype(float)
            ends = np.append(crossing[np.abs(crossing) < 115], 0.0)
            near = np.abs(d)[np.abs(d) < 260].astype(float)
            width = min(0.2, 0.3 / near.max() if near.size and near.max() > 0 else 1.0)
            count = int((np.ptp(ends) + 28) / width) + 1
            t = L(ends.min() - 14) + L(width) * np.arange(count).astype(L)
            density = np.exp(-t * t / 2) * L(width) / np.sqrt(2 * L(np.pi)) * p[k]
            e = np.exp(odds[:, None] + t * d[:, None] - d[:, None] ** 2 / 2)
            total = e.sum(axis=0)
            H += (density * np.log1p(total)).sum()
            V += (density * ((e * step[:, None]).sum(axis=0) / (1 + total)) ** 2).sum()
    return float(H), float(V)


def error_probability(levels: np.ndarray, prior: np.ndarray, snr: float) -> mp.mpf:
    """By the upper envelope of the logits, with 50 digits."""
    with mp.workdps(50):
        u = [mp.mpf(float(x)) for x in levels]
        total = mp.fsum(mp.mpf(float(x)) for x in prior)
        p = [mp.mpf(float(x)) / total for x in prior]
        h = mp.sqrt(mp.mpf(float(snr)))
        kept: list[int] = []
        starts: list[mp.mpf] = []
        for k in range(len(u)):
            start = -mp.inf
            while kept:
                j = kept[-1]
                start = h * (u[k] + u[j]) / 2 + mp.log(p[j] / p[k]) / (h * (u[k] - u[j]))
                if start > starts[-1]:
                    break
                kept.pop()
                starts.pop()
            kept.append(k)
            starts.append(start if len(kept) > 1 else -mp.inf)
        ends = [*starts[1:], mp.inf]
        error = mp.fsum(p[k] for k in range(len(u)) if k not in kept)
        for k, start, end in zip(kept, starts, ends, strict=True):
            below = mp.erfc((h * u[k] - start) / mp.sqrt(2)) / 2 if start > -mp.inf else 0
            above = mp.erfc((end - h * u[k]) / mp.sqrt(2)) / 2 if end < mp.inf else 0
            error += p[k] * (below + above)
        return error


def check_line(seed: int) -> None:
    levels, prior, snr = random_line(seed)
    if levels.size < 2 or (prior <= 0).any() or not 1e-300 < snr < 1e300:
        return
    start = time.process_time()
    with np.errstate(all="raise"):  # harmless underflow is no reason to stop
        found = tk.profile(tk.ProductCodebook([levels], [prior]), [snr])
    assert time.process_time() - start < 20, seed
    H, V = entropy_and_mmse(levels, prior, snr)
    answers = {
        "error_probability": float(error_probability(levels, prior, snr)),
        "conditional_entropy": H,
        "mmse": V,
    }
    for name, answer in answers.items():
        value, claimed = found[name].value[0], found[name].numerical_error[0]
        # The references have rounding of their own.
        assert abs(value - answer) <= claimed + 4e-15 * answer + 1e-300, (seed, name, value, answer)
    spread = prior @ (levels - prior @ levels) ** 2
    mmse = found["mmse"]
    assert mmse.value[0] - mmse.numerical_error[0] <= spread * (1 + 1e-14) + 1e-300


@pytest.mark.parametrize("block", range(3))
def test_lines_of_levels(block: int) -> None:
    for seed in range(10 * block, 10 * block + 10):
        check_line(seed)


@pytest.mark.slow
def test_more_lines_of_levels() -> None:
    for seed in range(1000, 1300):
        check_line(seed)


def test_levels_far_apart_and_close_together_take_no_memory() -> None:
    levels, snr = [0.0, 1.0, 1.0 + 1e-12], 4e24
    found = tk.profile(tk.ProductCodebook([levels]), [snr])
    H, V = entropy_and_mmse(np.array(levels), np.full(3, 1 / 3), snr)
    # Two levels in three matter: their gap is the double next to 1e-12.
    gap = levels[2] - levels[1]
    error = 2 / 3 * special.ndtr(-np.sqrt(snr) * gap / 2)
    assert found["error_probability"].value[0] == pytest.approx(error, rel=1e-12)
    assert found["conditional_entropy"].value[0] == pytest.approx(H, rel=1e-12)
    assert found["mmse"].value[0] == pytest.approx(V, rel=1e-12)


@pytest.mark.parametrize(
    ("near", "offset"), [(1e-14, 0.0), (1e-13, 0.0), (1e-11, 0.0), (1e-6, 0.0), (1e-6, 1e7)]
)
def test_near_coincident_points_in_the_plane(near: float, offset: float) -> None:
    """Four points that are nearly one: three of the four are always mistaken."""
    rng = np.random.default_rng(1)
    base = rng.uniform(-1, 1, (8, 2))
    together = np.vstack([base[:4] * near, base[4:]]) + offset
    apart = np.vstack([[[0.0, 0.0]], base[4:]]) + offset
    for snr in (0.3, 7.0):
        found = tk.error_probability(tk.PointCodebook(together, allow_duplicates=True), snr)
        merged = tk.PointCodebook(apart, [0.5, *[0.125] * 4])
        decided = tk.accuracy(merged, snr)
        # The likelier token counts once where it is four times as probable for the merged code.
        equal = tk.accuracy(tk.PointCodebook(apart), snr)
        truth = 1 - 5 / 8 * equal.value
        error = found.numerical_error + equal.numerical_error + 40 * near + 1e-9 * (offset > 0)
        assert abs(found.value - truth) <= error
        assert decided.value >= equal.value * 5 / 8


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_magnitudes(scale: float) -> None:
    snr = 1 / scale / scale
    line = tk.error_probability(tk.ProductCodebook([[0.0, scale]]), 4 * snr)
    assert line.value == pytest.approx(special.ndtr(-1), rel=1e-12)
    corner = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    plane = tk.error_probability(tk.PointCodebook(corner * scale), snr)
    assert plane.value == pytest.approx(tk.error_probability(tk.PointCodebook(corner), 1.0).value)
    hot = tk.conditional_entropy(tk.OneHot(5, scale=scale), snr)
    assert hot.value == pytest.approx(tk.conditional_entropy(tk.OneHot(5), 1.0).value, rel=1e-11)


@pytest.mark.parametrize("seed", range(4))
def test_a_slanted_line_claims_what_it_is_off_by(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = np.cumsum(rng.uniform(0.2, 1.0, 7))
    direction = ortho_group.rvs(5, random_state=seed)[0]
    slanted = tk.PointCodebook(np.outer(levels, direction) + rng.uniform(-3, 3, 5))
    snr = np.array([0.1, 9.0, 400.0])
    found, answers = tk.profile(slanted, snr), tk.profile(tk.ProductCodebook([levels]), snr)
    for name, estimate in found.estimates.items():
        claimed = estimate.numerical_error + answers[name].numerical_error
        assert (np.abs(estimate.value - answers[name].value) <= claimed).all(), name


@pytest.mark.parametrize("least", [1e-12, 1e-30, 1e-60, 1e-100, 1e-300])
@pytest.mark.parametrize("share", [0.01, 0.5, 1.0, 4.0])
def test_two_one_hot_tokens_are_a_line(least: float, share: float) -> None:
    prior = [least, 1 - least]
    snr = share * 2 * np.log(1 / least)
    found = tk.profile(tk.OneHot(2, prior, scale=0.5), [4 * snr])
    line = tk.profile(tk.ProductCodebook([[0.0, np.sqrt(0.5)]], [prior]), [4 * snr])
    for name, estimate in found.estimates.items():
        claimed = estimate.numerical_error + line[name].numerical_error
        assert (np.abs(estimate.value - line[name].value) <= claimed).all(), name


def test_one_hot_tokens_too_unlikely_for_the_tables_are_sampled() -> None:
    codebook = tk.OneHot(3, [1e-100, 0.3, 0.7])
    assert exact_quantities(codebook) == ()
    found = tk.conditional_entropy(codebook, [0.1, 10.0], key=0)
    known = tk.conditional_entropy(tk.OneHot(2, [0.3, 0.7]), [0.1, 10.0])
    assert (np.abs(found.value - known.value) <= 5 * found.standard_error + 1e-12).all()


@pytest.mark.slow
def test_capacity_ends_and_rises() -> None:
    """Steps that rounding must not hold up, and amplitudes just above the thresholds."""
    hard = [3.1332113196193165, 6.40304197805758, 1.724965703093271, 1.9010583176793907]
    above = [1.66592564 + step for step in (1e-9, 1e-5, 3e-3, 9e-3)]
    rng = np.random.default_rng(0)
    h = np.sort(np.concatenate([hard, above, rng.uniform(0.1, 10, 150)]))
    start = time.process_time()
    values = np.array([float(tk.amplitude_capacity(x).value) for x in h])
    assert time.process_time() - start < 120
    slopes = np.diff(values) / np.diff(h)
    # 0 <= dC/dh <= h, by I-MMSE at the law that is best at the smaller amplitude.
    assert (slopes >= -1e-9).all()
    assert (slopes <= h[1:] * (1 + 1e-6)).all()
