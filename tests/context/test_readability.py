"""The single-token formula for weak laws against the convex problem that it solves to second order,
and the closed forms against permutations, sampling and optimisation."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, special

import tokenkl as tk
from tokenkl.context import (
    MessageIndex,
    Variates,
    canonical_variates,
    largest_reading,
    message_index,
    permuted_reading,
)
from tokenkl.context.readability import all_levels, index_of_variates, integral, token_matrices
from tokenkl.sources import Joint, Markov


def _line(levels: list[float]) -> tk.PointCodebook:
    return tk.PointCodebook(np.array(levels)[:, None])


def _near(near: float, far: float = 1.0) -> tk.PointCodebook:
    """Two points near each other and one that is not, which are no grid."""
    return tk.PointCodebook([[0.0, 0.0], [near, 0.0], [far / 2, far]])


def _weak(K: int, strength: float, seed: int) -> Joint:
    """Unequal and different marginals, times 1 + strength s f g in canonical form."""
    rng = np.random.default_rng(seed)
    a, b = rng.dirichlet(np.full(K, 5.0), 2)
    coupling = rng.standard_normal((K, K))
    coupling -= (coupling @ b)[:, None]
    coupling -= a @ coupling
    return Joint(np.outer(a, b) * (1 + strength * coupling / abs(coupling).max()))


def _exact(points: np.ndarray, law: np.ndarray, snr: float) -> tuple[float, float]:
    """Context information and nu of both tokens on a line: quadrature, and Newton's method."""
    h = np.sqrt(snr)
    y = np.arange(h * points.min() - 7.5, h * points.max() + 7.5, 0.35)
    seen = np.exp(-((y[:, None] - h * points) ** 2) / 2) / np.sqrt(2 * np.pi) * 0.35
    joint = np.einsum("kl,yk,zl->klyz", law, seen, seen)
    information = nu = 0.0
    first, second = law.sum(axis=1), law.sum(axis=0)
    for own, other in ((joint, (first, seen)), (joint.transpose(1, 0, 3, 2), (second, seen))):
        here = own.sum(axis=1)  # token, own observation, the neighbour's
        weights = here.sum(axis=0)
        p = here / weights
        single = (other[0] * other[1]).T
        single = (single / single.sum(axis=0))[:, :, None]
        information += float((here * np.log(p / single)).sum())
        ones = np.ones_like(weights)
        design = np.stack([ones, y[:, None] * ones, y * ones]).reshape(3, -1)
        target, mass = p.reshape(len(points), -1), weights.ravel()
        parameters = np.zeros((len(points), 3))
        parameters[:, 0], parameters[:, 1] = np.log(other[0]) - snr * points**2 / 2, h * points
        for _ in range(8):
            q = special.softmax(parameters @ design, axis=0)
            slope = ((q - target) * mass) @ design.T
            bend = np.einsum("kx,lx,ix,jx->kilj", -q * mass, q, design, design, optimize=True)
            for k in range(len(points)):
                bend[k, :, k, :] += (q[k] * mass * design) @ design.T
            size = slope.size
            step = np.linalg.lstsq(bend.reshape(size, size), slope.ravel(), rcond=1e-12)[0]
            parameters -= step.reshape(slope.shape)
        assert abs(slope).max() < 1e-13
        q = special.log_softmax(parameters @ design, axis=0)
        nu += float((mass * target * (np.log(target) - q)).sum())
    return information, nu


@pytest.mark.parametrize("snr", [0.3, 2.0, 8.0])
@pytest.mark.parametrize("levels", [[-1.0, 0.1, 1.0], [-1.0, 1.0, 0.0]])
def test_weak_coupling(levels: list[float], snr: float) -> None:
    """C7: information and nu over the square of the strength, as that goes to 0.

    What is left is of the first power of the strength: Richardson's two steps remove two powers.
    """
    codebook = _line(levels)
    strengths = np.array([0.08, 0.04, 0.02])
    exact = np.array(
        [
            np.array(_exact(codebook.points[:, 0], _weak(3, one, 1).law, snr)) / one**2
            for one in strengths
        ]
    )
    first = 2 * exact[1:] - exact[:-1]
    limit = (4 * first[1] - first[0]) / 3
    found = message_index(codebook, _weak(3, 1e-3, 1), snr)
    values = np.array([found.information.value, found.nonlinearity.value]) / 1e-6
    assert found.information.n_samples == 0  # points on a line are a grid
    assert np.allclose(values, limit, rtol=2e-4)


GRIDS = {
    "square": tk.FSQ((2, 3)),
    "permuted": tk.permute(tk.FSQ((3, 3)), key=1),
    "unequal": tk.ProductCodebook([[0.0, 1.0, 4.0], [0.0, 0.3]], [[0.5, 0.3, 0.2], [0.9, 0.1]]),
}


@pytest.mark.parametrize("name", GRIDS)
def test_grids_against_sampling(name: str) -> None:
    """Exact matrices within the sampled ones' errors, and their identities."""
    codebook = GRIDS[name]
    law = codebook.prior
    features = np.random.default_rng(0).standard_normal((codebook.K, 3))
    features -= law @ features
    levels = np.array([0.05, 1.0, 10.0])
    exact = token_matrices(codebook, law, features, levels)
    assert len(exact.residual) == 1
    total = features.T @ (law[:, None] * features)
    assert np.allclose(exact.residual[0] + exact.unread[0] + exact.linear, total)
    # A point far away and hardly ever shown is no grid: the sampled route.
    far = np.concatenate([codebook.points, np.full((1, codebook.n), 1e3)])
    sampled = token_matrices(
        tk.PointCodebook(far),
        np.append(law, 0.0),
        np.concatenate([features, np.zeros((1, 3))]),
        levels,
        n_samples=2**14,
        key=2,
    )
    assert len(sampled.residual) > 1
    for one, other in ((exact.residual, sampled.residual), (exact.unread, sampled.unread)):
        error = other.std(axis=0, ddof=1) / 4
        assert (abs(other.mean(axis=0) - one[0]) < 7.5 * error + 1e-12).all()  # Student's, 15 df


@settings(deadline=None, max_examples=100)
@given(
    gaps=st.lists(st.one_of(st.floats(-3, 9), st.floats(1, 2)), min_size=1, max_size=5),
    parts=st.lists(st.floats(-14, 0), min_size=6, max_size=6),
)
@example(gaps=[1.875], parts=[0.0, -12.0, 0.0, 0.0, 0.0, 0.0])  # out of reach between the two
def test_lines_of_any_gaps(gaps: list[float], parts: list[float]) -> None:
    """Second moments of E[f | Y] for levels at every distance, by a finer rule around each."""
    levels = np.cumsum([0.0, *(10.0**gap for gap in gaps)])
    law = 10.0 ** np.array(parts[: levels.size])
    law /= law.sum()
    features = (np.eye(levels.size) - law) / np.sqrt(law * (1 - law))
    z, told = np.arange(-13, 13, 0.01), np.zeros((levels.size, levels.size))
    for here, weight in zip(levels, law, strict=True):
        logs = np.log(law)[:, None] - (z - (levels - here)[:, None]) ** 2 / 2
        heard = features.T @ special.softmax(logs, axis=0)
        told += weight * 0.01 / np.sqrt(2 * np.pi) * (heard * np.exp(-(z**2) / 2)) @ heard.T
    found = token_matrices(_line(list(levels)), law, features, [1.0])
    total = features.T @ (law[:, None] * features)
    assert abs(total - found.residual[0, 0] - told).max() < 1e-11


def test_sampled_index_covers() -> None:
    codebook = tk.permute(tk.FSQ((3, 3)), key=3)
    rng = np.random.default_rng(4)
    chain = Markov(rng.dirichlet(np.full(9, 4.0), 9), 3)
    truth = message_index(codebook, chain, [0.5, 4.0], n_samples=2**16, key=9)
    inside = 0
    for key in range(40):
        found = message_index(codebook, chain, [0.5, 4.0], n_samples=512, key=key)
        for one, other in (
            (found.information, truth.information),
            (found.nonlinearity, truth.nonlinearity),
        ):
            low, high, _ = one.confidence_interval(0.99)
            inside += ((low < other.value) & (other.value < high)).sum()
    assert inside >= 160 - 14  # of 160 at 99 %, dependent by pairs


@pytest.mark.parametrize("rare", [1e-2, 1e-3, 1e-4])
def test_intervals_cover_what_rare_tokens_say(rare: float) -> None:
    """Variates are of size 1 / sqrt(pi): what is told sits on tokens that the law hardly shows."""
    points, snr = np.array([[0, 0], [1, 0.2], [0.3, 1.1], [1.4, 1.2]]), 8.0
    a = np.array([1 - 3 * rare, rare, rare, rare])
    law = np.outer(a, a) * np.exp(0.8 * np.random.default_rng(3).standard_normal((4, 4)))
    source = Joint(law / law.sum())
    pair = canonical_variates(source)
    axes = [
        np.arange(np.sqrt(snr) * x.min() - 8, np.sqrt(snr) * x.max() + 8, 0.15) for x in points.T
    ]
    y = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    seen = np.exp(-((y[:, None] - np.sqrt(snr) * points) ** 2).sum(axis=-1) / 2)
    seen *= 0.15**2 / (2 * np.pi)
    parts = []
    for prior, side in zip(pair.marginals, (pair.first, pair.second), strict=True):
        joint = seen * prior
        told = joint @ side
        centred = points - prior @ points
        cross = np.sqrt(snr) * centred.T @ (prior[:, None] * side)
        spread = np.eye(2) + snr * centred.T @ (prior[:, None] * centred)
        known = told.T @ (told / joint.sum(axis=1, keepdims=True))
        parts.append((np.eye(3) - known, known, cross.T @ np.linalg.solve(spread, cross)))
    S = np.outer(pair.correlations, pair.correlations) / 2
    (M, V, L), (M_too, V_too, L_too) = parts
    told, read = (S * (M * V_too + M_too * V)).sum(), (S * (M * L_too + M_too * L)).sum()
    truth, missed, far = np.array([told, told - read, read]), np.zeros(3), 0
    codebook = tk.PointCodebook(points)
    for key in range(40):
        found = message_index(codebook, source, snr, key=key)
        every = (found.information, found.nonlinearity, found.read)
        # Where draws do not carry a value, intervals without a range are infinite.
        normal = [dataclasses.replace(one, interval_supported=True) for one in every]
        for level in (0.95, 1 - 1e-6):
            ends = [one.confidence_interval(level) for one in normal]
            out = [not end.low <= x <= end.high for end, x in zip(ends, truth, strict=True)]
            missed, far = (missed + out, far) if level == 0.95 else (missed, far + sum(out))
    assert far == 0
    assert (missed <= 7).all()  # of 40 at 95 %


def test_few_draws_that_tell_offer_no_interval() -> None:
    """Where a token is all but told hardly any observation leaves it open; sums over levels are
    carried by those that do."""
    codebook = tk.PointCodebook([[0.0, 0], [1, 0.2], [0.3, 1.1]])
    found = message_index(codebook, _weak(3, 0.3, 1), [1.0, 100.0], key=0)
    for one in (found.information, found.nonlinearity, found.read):
        assert one.interval_supported.tolist() == [True, False]
    assert message_index(codebook, _weak(3, 0.3, 1), key=0).information.interval_supported


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
@pytest.mark.parametrize("book", [tk.FSQ((3,)), _near(0.5), tk.OneHot(3)])
def test_no_levels(book: tk.Codebook, shape: tuple[int, ...]) -> None:
    for law in (_weak(3, 0.3, 1), tk.sources.Independent(np.full((2, 3), 1 / 3))):
        found = message_index(book, law, np.zeros(shape), key=0).bits
        for one in (found.information, found.nonlinearity, found.read):
            assert np.shape(one.value) == np.shape(one.interval_supported) == shape
        assert found.share.shape == shape


def test_pairs_add_up_and_scale_does_not_matter() -> None:
    coupling = np.outer([1, -1, 1, -1], [1, 1, -1, -1]) + np.diag([1.0, 1, 1, 1]) - 0.25
    chain = Markov(np.full((4, 4), 0.25) + 0.1 * coupling, 4)  # doubly stochastic
    fsq = tk.FSQ((2, 2))
    both = message_index(fsq, chain, 1.0, pairs=[(0, 1), (0, 2)])
    apart = [message_index(fsq, chain, 1.0, pairs=[pair]) for pair in ((0, 1), (0, 2))]
    assert np.isclose(both.information.value, sum(one.information.value for one in apart))
    whole = message_index(fsq, chain)
    scaled = message_index(tk.scale_to(fsq, power=0.01), chain)
    for one, other in (
        (whole.information, scaled.information),
        (whole.nonlinearity, scaled.nonlinearity),
    ):
        assert abs(one.value - other.value) < one.numerical_error + other.numerical_error
        assert one.numerical_error < 1e-6 * one.value


def test_integrals_against_quadrature() -> None:
    """A bit: mmse = 1 - E tanh^2, integrated by another rule."""
    from scipy.integrate import quad

    y = np.linspace(-40, 40, 40_001)

    def tau(log_snr: float) -> float:
        h = np.exp(log_snr / 2)
        density = np.exp(-((y - h) ** 2) / 2) / np.sqrt(2 * np.pi)
        return float((np.tanh(h * y) ** 2 * density).sum() * 0.002)

    bit = tk.FSQ((2,))
    x = bit.points
    pair = Variates(np.ones(1), x, x, (np.full(2, 0.5), np.full(2, 0.5)))
    found = index_of_variates(bit, [pair])
    expected = quad(lambda u: (1 - tau(u)) * tau(u), -17, 5, epsabs=1e-9, limit=200)[0]
    assert abs(found.information.value - expected) < found.information.numerical_error + 5e-8


@pytest.mark.parametrize("near", [1e-3, 1e-6, 1e-9])
def test_integrals_reach_down_to_the_nearest_points(near: float) -> None:
    """A range of the SNR in which only the near pair is not told is as wide as that pair is near.

    There what is told does not change, and is linear; nu is of the levels at which more is hidden.
    """
    law = _weak(3, 0.3, 1)
    sizes = [near * 10, near, near / math.sqrt(10)]
    first, second, third = (
        message_index(_near(size), law, n_samples=2**12, key=key) for key, size in enumerate(sizes)
    )
    told = [2 * (third.information - second.information), second.information - first.information]
    lost = [third.nonlinearity, first.nonlinearity]
    for one, other in (told, lost):
        error = one.standard_error + other.standard_error
        assert abs(float(one) - float(other)) < 4.5 * error < 0.1 * float(other)
    levels = np.exp(np.arange(-13.0, math.log(500) - 2 * math.log(near), 0.5))
    summed = 0.5 * message_index(_near(near), law, levels, key=3).information.value.sum()
    off = abs(float(second.information) - summed)
    assert off < 0.01 * summed


def test_no_integral_where_two_tokens_are_never_told() -> None:
    for near in (0.0, 1e-12):
        book = tk.PointCodebook([[0.0, 0], [near, 0], [0.5, 1]], allow_duplicates=True)
        with pytest.raises(ValueError, match="codebook must be one whose points are"):
            message_index(book, _weak(3, 0.3, 1), key=0)
        assert message_index(book, _weak(3, 0.3, 1), 1.0, key=0).information.value > 0


@pytest.mark.parametrize("snr", [1.0, 4.0, 10.0])
@pytest.mark.parametrize("near", [1e-6, 1e-9])
def test_far_points_do_not_blur_near_ones(near: float, snr: float) -> None:
    """A token that is told anyway may be at any distance."""
    law = _weak(3, 0.3, 1)
    far, here = (
        message_index(_near(near, size), law, snr / near**2, key=0).information
        for size in (1.0, 100 * near)
    )
    error = far.standard_error + here.standard_error
    assert abs(far.value - here.value) < 2 * error < 0.2 * here.value


# ---- C12 ------------------------------------------------------------------------------------

#: Integrals of M V d log snr, and the share of nu: aligned, permuted, one-hot of equal power.
TABLE = {
    (3, 8): ((0.877, 0.030), (0.360, 0.993), (0.263, 0.990)),
    (2, 8): ((0.763, 0.065), (0.428, 0.907), (0.354, 0.881)),
    (3, 2): ((0.877, 0.030), (0.712, 0.495), (0.595, 0.330)),
}


@pytest.mark.parametrize("grid", TABLE)
def test_unit_couplings(grid: tuple[int, int]) -> None:
    """The table of C12; permuted ids and one-hot with independent permutations of f and g."""
    fsq = tk.FSQ((grid[0],) * grid[1])
    x = fsq.points[:, :1] / fsq.points[:, 0].std()
    law = np.full(fsq.K, 1 / fsq.K)
    own = index_of_variates(fsq, [Variates(np.ones(1), x, x, (law, law))])
    found = [(float(own.information.value), float(own.share))]
    one_hot = tk.scale_to(tk.OneHot(fsq.K), power=tk.average_power(fsq))
    for codebook in (fsq, one_hot):
        levels = all_levels(codebook)
        heard, linear = permuted_reading(codebook, levels, key=0)
        V = heard.value
        information = float(integral((1 - V) * V, levels, 1)[0])
        found.append(
            (information, float(integral((1 - V) * (V - linear), levels, 2)[0]) / information)
        )
    assert np.allclose(found, TABLE[grid], atol=5.1e-4)


@pytest.mark.parametrize("codebook", [tk.FSQ((2, 2)), _line([0.0, 0.2, 1.0, 3.0])])
def test_permuted_reading_is_the_mean_over_permutations(codebook: tk.Codebook) -> None:
    """C12, all 24 of them, for any feature; its linear part, too."""
    v = np.random.default_rng(0).standard_normal(4)
    v = (v - v.mean()) / v.std()
    levels = np.array([0.2, 3.0])
    law = np.full(4, 0.25)
    every = [
        token_matrices(codebook, law, v[list(p)][:, None], levels)
        for p in itertools.permutations(range(4))
    ]
    heard, linear = permuted_reading(codebook, levels)
    assert np.allclose(
        np.mean([1 - one.residual[0, :, 0, 0] for one in every], axis=0), heard.value
    )
    assert np.allclose(np.mean([one.linear[:, 0, 0] for one in every], axis=0), linear)


def test_one_hot_reads_every_feature_alike() -> None:
    codebook = tk.OneHot(5, scale=1.3)
    v = np.random.default_rng(0).standard_normal(5)
    v = (v - v.mean()) / v.std()
    levels = np.array([0.3, 2.0])
    found = token_matrices(codebook, np.full(5, 0.2), v[:, None], levels, n_samples=2**15, key=1)
    heard, linear = permuted_reading(codebook, levels)
    assert np.allclose(found.linear[:, 0, 0], linear)
    error = found.residual.std(axis=0, ddof=1)[:, 0, 0] / 4
    away = found.residual.mean(axis=0)[:, 0, 0] - (1 - heard.value)
    assert (abs(away) < 7.5 * error).all()


# ---- C10 and C11 ----------------------------------------------------------------------------


def _reading(points: np.ndarray, features: np.ndarray, snr: float) -> np.ndarray:
    """What affine functions read of features under equal priors, as a matrix."""
    codebook = tk.PointCodebook(points, allow_duplicates=True)
    law = np.full(len(points), 1 / len(points))
    return token_matrices(codebook, law, features, np.array([snr]), n_samples=32, key=0).linear[0]


@settings(deadline=None)
@given(st.floats(-200, 0), st.integers(1, 4), st.floats(0.1, 1))
def test_water_at_any_level(exponent: float, equal: int, size: float) -> None:
    """So little that the equal largest variates share it, down to next to nothing."""
    water = 10.0**exponent
    most = size**2 * water / (1 + water / equal)
    assert np.isclose(largest_reading([*[size] * equal, size / 2, 0.0], water, 1.0), most, 1e-12, 0)


@pytest.mark.parametrize("seed", range(8))
def test_no_codebook_reads_more_than_water_filling(seed: int) -> None:
    """C10, for codebooks at random and for the one that reaches it."""
    rng = np.random.default_rng(seed)
    K, r = 8, 3
    basis = np.linalg.qr(np.column_stack([np.ones(K), rng.standard_normal((K, r))]))[0]
    g = basis[:, 1:] * np.sqrt(K)  # mean 0, variance 1, uncorrelated
    s, snr, power = np.sort(rng.random(r))[::-1], rng.exponential(3.0), rng.exponential(2.0)
    most = float(largest_reading(s, snr, power))
    for n in (1, 2, 5):
        points = rng.standard_normal((K, n)) @ rng.standard_normal((n, n))
        points -= points.mean(axis=0)
        points *= np.sqrt(power / (points**2).sum(axis=1).mean())
        read = s**2 @ np.diag(_reading(points, g, snr))
        assert read <= most * (1 + 1e-12)
    level = optimize.brentq(
        lambda mu: np.maximum(mu * s - 1, 0).sum() / snr - power, 0, 1e4 / s.min(), xtol=1e-15
    )
    x = np.maximum(level * s - 1, 0) / snr
    best = _reading(np.sqrt(x) * g, g, snr)
    assert np.isclose((s**2 * np.diag(best)).sum(), most, rtol=1e-9)


def test_whitened_features_are_the_equality_case() -> None:
    """C10: tr LMMSE = n / (1 + snr P) for an isometric image of the features, more for others."""
    g = tk.FSQ((2, 2, 2)).points
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 3)))[0]
    snr, power = 2.0, 0.7
    own = 3 - np.trace(_reading(np.sqrt(power) * g @ turn.T + 5, g, snr))
    assert np.isclose(own, 3 / (1 + snr * power), rtol=1e-12)
    stretched = np.sqrt(power) * g * np.sqrt([1.2, 1.0, 0.8])
    assert 3 - np.trace(_reading(stretched, g, snr)) > own + 1e-3


@pytest.mark.parametrize("seed", range(8))
def test_one_hot_is_minimax(seed: int) -> None:
    """C11: some feature of every codebook is read no better than every one of the simplex."""
    rng = np.random.default_rng(seed)
    K, n, snr, power = 6, int(rng.integers(1, 7)), rng.exponential(3.0), rng.exponential(2.0)
    features = np.linalg.qr(np.column_stack([np.ones(K), rng.standard_normal((K, K - 1))]))[0]
    g = features[:, 1:] * np.sqrt(K)

    def worst(points: np.ndarray) -> float:
        return float(np.linalg.eigvalsh(np.eye(K - 1) - _reading(points, g, snr))[-1])

    def scaled(points: Any) -> np.ndarray:
        found: np.ndarray = np.asarray(tk.scale_to(tk.PointCodebook(points), power=power).points)
        return found

    least = 1 / (1 + snr * power / (K - 1))
    assert worst(scaled(rng.standard_normal((K, n)))) > least * (1 + 1e-6)
    assert np.isclose(worst(scaled(np.eye(K))), least, rtol=1e-10)


def test_refusals() -> None:
    fsq = tk.FSQ((2, 2))
    with pytest.raises(ValueError, match="source must be of 4, as the codebook"):
        message_index(fsq, _weak(3, 0.1, 0), 1.0)
    with pytest.raises(ValueError, match="one with equal priors"):
        permuted_reading(tk.PointCodebook([[0.0], [1.0]], [0.3, 0.7]), 1.0)
    with pytest.raises(ValueError, match="correlations and power must be at least 0"):
        largest_reading([-1.0], 1.0, 1.0)
    with pytest.raises(ValueError, match="law and features must be of 4 tokens each"):
        token_matrices(fsq, np.full(3, 1 / 3), np.ones((4, 1)), np.array([1.0]))
    with pytest.raises(ValueError, match="key must be"):
        message_index(fsq, Joint(_weak(4, 0.1, 0).law), 1.0)


def test_a_simplex_is_its_points() -> None:
    """One-hot tokens by structure and by points, also with a token that never occurs."""
    rng = np.random.default_rng(0)
    law = rng.dirichlet(np.ones(7))
    law[2] = 0
    law /= law.sum()
    features = rng.standard_normal((7, 3))
    features -= law @ features
    levels = [1e-3, 0.5, 10.0, 1e4]
    books = tk.OneHot(7, scale=1.7), tk.PointCodebook(1.7 * np.eye(7) + 3)
    found = [token_matrices(one, law, features, levels, n_samples=256, key=1) for one in books]
    for by_structure, by_points in zip(*found, strict=True):
        assert np.allclose(by_structure, by_points, rtol=1e-12, atol=1e-13)


def test_the_share_that_is_read_knows_both_errors() -> None:
    """What is told and what is read are from the same observations: errors add up."""
    told, lost, read = tk.Estimate(2.0, 0.1, 0.05), tk.Estimate(1.0), tk.Estimate(1.0, 0.2, 0.1)
    share = MessageIndex(np.ones(1), told, lost, read).read_share
    assert float(share) == 0.5
    assert share.standard_error == pytest.approx((0.2 + 0.5 * 0.1) / 2)
    assert share.numerical_error == pytest.approx((0.1 + 0.5 * 0.05) / 2)
    nothing = MessageIndex(np.ones(1), tk.Estimate(0.0), lost, tk.Estimate(0.0)).read_share
    assert (float(nothing), nothing.numerical_error) == (0.5, 0.5)
