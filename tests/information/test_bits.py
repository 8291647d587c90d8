"""`tk.bit_metric_information` against quadrature, and its sampled values against exact ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import mpmath
import numpy as np
import pytest
from scipy import special, stats

import tokenkl as tk

#: Chance of a false alarm of one statistical test.
ALARM = 2e-5
PAM = np.array([-3.0, -1.0, 1.0, 3.0]) / math.sqrt(5)


def _quadrature(points: np.ndarray, prior: np.ndarray, labels: np.ndarray, snr: float) -> float:
    """H(B) - sum_i H(B_i|Y) by the trapezoid rule over one or two real dimensions."""
    n, h = points.shape[1], math.sqrt(snr)
    reach = h * np.abs(points).max() + 9
    line = np.linspace(-reach, reach, 40001 if n == 1 else 601)
    y = np.stack(np.meshgrid(*[line] * n, indexing="ij"), -1).reshape(-1, n)
    area = (line[1] - line[0]) ** n / (2 * math.pi) ** (n / 2)
    joint = prior * np.exp(-((y[:, None] - h * points) ** 2).sum(-1) / 2) * area
    mass = joint.sum(1)
    left = 0.0
    for bit in labels.T:
        both = np.stack([joint[:, bit == value].sum(1) for value in (0, 1)])
        left += (special.entr(both).sum(0) - special.entr(mass)).sum()
    words = [prior[(labels == row).all(1)].sum() for row in np.unique(labels, axis=0)]
    return float(special.entr(words).sum() - left)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 5.0, 15.0])
@pytest.mark.parametrize("law", ["equal", "shaped"])
@pytest.mark.parametrize("labelling", ["gray", "natural", "one word twice", "a known bit"])
def test_exact_on_a_line(snr_db: float, law: str, labelling: str) -> None:
    prior = np.full(4, 0.25) if law == "equal" else np.array([0.1, 0.4, 0.3, 0.2])
    labels = tk.gray_labels((4,))
    if labelling == "natural":
        labels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    elif labelling == "one word twice":
        labels = np.array([[0, 0], [0, 1], [0, 1], [1, 1]])
    elif labelling == "a known bit":
        labels = np.column_stack([labels, np.ones(4, dtype=int)])
    snr = 2 * 10 ** (snr_db / 10)
    expected = _quadrature(PAM[:, None], prior, labels, snr)
    for book in (
        tk.ProductCodebook([PAM], [prior]),
        tk.PointCodebook(PAM[:, None], prior),
        tk.PointCodebook(np.outer(PAM, [0.6, 0.8]), prior),
    ):
        found = tk.bit_metric_information(book, labels, snr)
        assert not found.is_sampled
        assert abs(float(found) - expected) <= found.numerical_error + 1e-11


def test_gray_qam() -> None:
    """16-QAM at Es/N0 = 5 dB has a GMI of 1.931573 bits; its rails add, in both orders of ids."""
    snr = 2 * 10**0.5
    for order in ("C", "F"):
        grid = tk.ProductCodebook([PAM, PAM / 2], order=order)
        labels = tk.gray_labels((4, 4), order=order)
        found = tk.bit_metric_information(grid, labels, [snr, 4 * snr])
        rails = [
            tk.bit_metric_information(tk.ProductCodebook([u]), tk.gray_labels((4,)), [snr, 4 * snr])
            for u in (PAM, PAM / 2)
        ]
        np.testing.assert_allclose(found.value, rails[0].value + rails[1].value, rtol=1e-12)
    square = tk.ProductCodebook([PAM / math.sqrt(2)] * 2)
    found = tk.bit_metric_information(square, tk.gray_labels((4, 4)), snr)
    assert round(float(found.bits), 6) == 1.931573
    assert str(found.method) == "exact, by coordinate"


def test_equal_levels() -> None:
    """Two tokens in one place, of which one has the bit."""
    book = tk.ProductCodebook([[0.0, 1.0, 1.0], [0.0, 2.0]], allow_duplicates=True)
    labels = np.column_stack([[0, 0, 1, 1, 0, 0], [0, 1] * 3])
    found = tk.bit_metric_information(book, labels, 3.0)
    assert not found.is_sampled
    expected = _quadrature(book.points, np.full(6, 1 / 6), labels, 3.0)
    assert abs(float(found) - expected) < 1e-9


def test_labels_across_coordinates_are_sampled() -> None:
    """A bit that is the sum of two others depends on both coordinates."""
    labels = tk.gray_labels((4, 4))
    labels[:, 0] ^= labels[:, 2]
    book = tk.FSQ((4, 4))
    with pytest.raises(ValueError, match="key must be an integer seed"):
        tk.bit_metric_information(book, labels, 4.0)
    with pytest.raises(ValueError, match="method must be MonteCarlo"):
        tk.bit_metric_information(book, labels, 4.0, method=tk.Exact())
    found = tk.bit_metric_information(book, labels, 4.0, key=0)
    expected = _quadrature(book.points, np.full(16, 1 / 16), labels, 4.0)
    low, high, _ = found.confidence_interval(1 - ALARM)
    assert low <= expected <= high


@pytest.mark.slow
@pytest.mark.parametrize("law", ["equal", "unequal"])
def test_a_ring(law: str) -> None:
    """Eight points on a circle, which are no grid, by quadrature in the plane."""
    angle = 2 * np.pi * np.arange(8) / 8
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    prior = np.full(8, 1 / 8) if law == "equal" else np.arange(1, 9) / 36
    labels, snr = tk.gray_labels((8,)), np.array([1e-3, 1.0, 9.0])
    book = tk.PointCodebook(points, None if law == "equal" else prior)
    found = tk.bit_metric_information(book, labels, snr, key=1)
    low, high, _ = found.confidence_interval(1 - ALARM / 3)
    expected = np.array([_quadrature(points, prior, labels, one) for one in snr])
    assert ((low <= expected) & (expected <= high)).all()
    aimed = tk.bit_metric_information(book, labels, snr, key=2, method=tk.MonteCarlo(atol=2e-3))
    assert (aimed.standard_error <= 2e-3).all()
    wish = tk.bit_metric_information(book, labels, snr, key=2, method=tk.Auto(atol=2e-3))
    np.testing.assert_array_equal(wish.value, aimed.value)
    again = tk.bit_metric_information(book, labels, snr, key=1)
    np.testing.assert_array_equal(again.value, found.value)


@pytest.mark.slow
@pytest.mark.parametrize("snr", [0.1, 2.0, 12.0])
def test_intervals_cover(snr: float) -> None:
    """95 % intervals for a rotated grid with shaped priors, against the exact value."""
    prior = np.array([0.15, 0.35, 0.35, 0.15])
    grid = tk.ProductCodebook([PAM, PAM], [prior, prior])
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((2, 2)))[0]
    book = tk.PointCodebook(grid.points @ turn, grid.prior)
    labels = tk.gray_labels((4, 4))
    exact, runs = float(tk.bit_metric_information(grid, labels, snr)), 150
    method = tk.MonteCarlo(n_samples=1024)
    covered = 0
    for key in range(runs):
        found = tk.bit_metric_information(book, labels, snr, key=key, method=method)
        low, high, _ = found.confidence_interval()
        covered += bool(low <= exact <= high)
    assert covered >= stats.binom.ppf(ALARM / 3, runs, 0.94)


def test_rare_mistakes_are_not_vouched_for() -> None:
    """Where no sample shows a mistake the interval is the wide one; so between far clusters."""
    square = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    labels = tk.gray_labels((2, 2))
    turned = tk.PointCodebook(square @ [[0.8, 0.6], [-0.6, 0.8]])
    exact = float(tk.bit_metric_information(tk.FSQ((2, 2)), labels, 36.0))
    found = tk.bit_metric_information(
        turned, labels, 36.0, key=0, method=tk.MonteCarlo(n_samples=512)
    )
    assert not found.interval_supported
    low, high, _ = found.confidence_interval(1 - ALARM)
    assert low <= exact <= high
    inside = 1e-4 * np.random.default_rng(0).standard_normal((20, 2))
    points = np.concatenate([inside, inside + np.array([1.0, 0.0])])
    bits = np.column_stack([np.arange(40) >= 20, np.arange(40) % 2]).astype(int)
    found = tk.bit_metric_information(tk.PointCodebook(points), bits, 8.6**2, key=0)
    assert not found.interval_supported


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_any_scale_and_offset(scale: float) -> None:
    ring = np.stack([np.cos(np.arange(4)), np.sin(np.arange(4))], axis=1)
    labels, method = tk.gray_labels((4,)), tk.MonteCarlo(n_samples=256)
    plain = tk.bit_metric_information(tk.PointCodebook(ring), labels, 4.0, key=0, method=method)
    moved = tk.PointCodebook(scale * (ring + 1000.0))
    found = tk.bit_metric_information(moved, labels, 4 / scale**2, key=0, method=method)
    np.testing.assert_allclose(found.value, plain.value, rtol=1e-9)


def test_ends() -> None:
    ring = tk.PointCodebook([[0.0, 1], [1, 0], [0, -2], [-3, 0]], [0.4, 0.3, 0.2, 0.1])
    labels = tk.gray_labels((4,))
    found = tk.bit_metric_information(ring, labels, [0.0, 1e300], key=0)
    ones = np.array([0.2 + 0.1, 0.3 + 0.2])
    bits = (special.entr(ones) + special.entr(1 - ones)).sum()
    words = special.entr([0.4, 0.3, 0.2, 0.1]).sum()
    np.testing.assert_allclose(found.value, [words - bits, words], atol=1e-12)
    nothing = tk.bit_metric_information(ring, np.ones((4, 2)), [0.0, 3.0])
    np.testing.assert_allclose(nothing.value, 0, atol=1e-15)
    one = tk.bit_metric_information(tk.PointCodebook([[1.0]]), [[1]], 2.0)
    np.testing.assert_allclose(one.value, 0, atol=1e-15)


def test_gray_labels() -> None:
    for levels in ((2,), (4,), (8, 4), (5, 3), (1, 4)):
        for order in ("C", "F"):
            labels = tk.gray_labels(levels, order=order)
            assert labels.shape == (math.prod(levels), sum((L - 1).bit_length() for L in levels))
            assert len(np.unique(labels, axis=0)) == len(labels)
            table = np.stack([bit.reshape(levels, order=order) for bit in labels.T], axis=-1)
            for axis in range(len(levels)):
                assert (np.abs(np.diff(table, axis=axis)).sum(-1) == 1).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": [[0], [2]]}, "labels must be whole numbers from 0 to 1; got 2"),
        ({"labels": [[0.5], [1]]}, "labels must be whole numbers"),
        ({"labels": [0, 1]}, r"labels must be of shape \(K, m\) = \(2, m\)"),
        ({"labels": [[0], [1], [1]]}, r"labels must be of shape .* shape \(3, 1\)"),
        ({"labels": np.zeros((2, 0), dtype=int)}, "labels must be of shape"),
        ({"snr": -1.0}, "snr must be at least 0"),
        ({"codebook": [[0.0], [1.0]]}, "codebook must be a tokenkl codebook"),
        ({"method": tk.RareEvents()}, "method must be"),
        ({"method": tk.MonteCarlo(precision="single"), "key": 0}, "precision must be 'auto'"),
        ({"method": tk.MonteCarlo(), "key": None}, "key must be"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    known: dict[str, Any] = {"codebook": tk.FSQ((2,)), "labels": [[0], [1]], "snr": 1.0, **given}
    with pytest.raises(ValueError, match=message):
        tk.bit_metric_information(
            known.pop("codebook"), known.pop("labels"), known.pop("snr"), **known
        )
    with pytest.raises(ValueError, match="levels must be"):
        tk.gray_labels(cast(Any, 4))


def test_one_token_that_is_nearly_certain() -> None:
    """Entropies of bits cancel down to 1e-7 of a nat, and the error says what that leaves."""
    levels, weight = [-0.8, -0.4, 0.0, 0.4, 0.8], np.array([10**-5.5, 1, *[10**-5.5] * 3])
    book = tk.ProductCodebook([np.array(levels)], [weight / weight.sum()])
    with mpmath.workdps(30):
        weights = [mpmath.mpf(float(p)) for p in np.asarray(book.prior)]

        def density(y: mpmath.mpf, ids: Sequence[int]) -> mpmath.mpf:
            return sum(weights[k] * mpmath.npdf(y, levels[k]) for k in ids)

        def told(y: mpmath.mpf) -> mpmath.mpf:
            found = mpmath.mpf(0)
            for ids in ([0], [1, 2, 3, 4]):
                own, mass = density(y, ids), sum(weights[k] for k in ids)
                found += own * mpmath.log(own / mass / density(y, range(5)))
            return found

        right = mpmath.quad(told, [-12, -6, -3, -1, 0, 1, 3, 6, 12])
    for first, rest in (([1, 0], [0, 0]), ([0, 0], [0, 1])):  # one bit is the same for all
        labels = [first, rest, rest, rest, rest]
        found = tk.bit_metric_information(book, labels, 1.0)
        assert abs(float(found) - float(right)) <= found.numerical_error < 1e-15


def test_rounding_of_entropies_that_cancel() -> None:
    """At no signal it is H(B) less the entropies of bits, and nothing else has an error."""
    rng = np.random.default_rng(3)
    worst = 0.0
    for _ in range(20):
        weight = rng.uniform(0.1, 1.0, 64)
        book = tk.ProductCodebook([np.linspace(-1, 1, 64)], [weight / weight.sum()])
        labels = rng.integers(2, size=(64, 6))
        with mpmath.workdps(30):
            prior = [mpmath.mpf(float(p)) for p in np.asarray(book.prior)]
            laws: list[dict[Any, mpmath.mpf]] = [{} for _ in range(7)]
            for row, p in zip(labels, prior, strict=True):
                for law, name in zip(laws, (tuple(row), *row), strict=True):
                    law[name] = law.get(name, 0) + p
            joint, *alone = (-sum(p * mpmath.log(p) for p in law.values()) for law in laws)
            right = joint - sum(alone)
        found = tk.bit_metric_information(book, labels, 0.0)
        off = abs(mpmath.mpf(float(found)) - right)
        assert off <= found.numerical_error
        worst = max(worst, float(off))
    assert worst > 0  # or there is nothing to bound
