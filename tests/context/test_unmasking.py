"""Masked diffusion over sources, against all patterns of reveal times and all sequences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import special

import tokenkl as tk
from tokenkl.context import (
    unmasking_curve,
    unmasking_information,
    unmasking_kl,
    unmasking_law,
    unmasking_steps,
)
from tokenkl.sources import HiddenMarkov, Independent, Joint, Markov, Source

RNG = np.random.default_rng(7)
K = 3


def _rows(count: int) -> np.ndarray:
    return RNG.dirichlet(np.full(K, 0.4), count)


def _free() -> np.ndarray:
    law = RNG.dirichlet(np.full(K**3, 0.3))
    law[::4] = 0
    return np.reshape(law / law.sum(), (K,) * 3)


SOURCES: dict[str, Source] = {
    "markov": Markov(_rows(K), 4, RNG.dirichlet(np.ones(K))),
    "cycle": Markov(np.roll(np.eye(K), 1, axis=1), 4, [0.5, 0.5, 0.0]),
    "hidden": HiddenMarkov(RNG.dirichlet(np.ones(2), 2), _rows(2), 4),
    "joint": Joint(_free()),
    "independent": Independent(_rows(4)),
}
GRID = np.array([0.0, 0.15, 0.5, 0.7, 1.0])


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Source:
    return SOURCES[request.param]


def _hidden_entropy(law: np.ndarray, shown: tuple[int, ...], i: int) -> float:
    """H(k_i | tokens shown), from the table."""
    both = _entropy(law, {*shown, i}) - _entropy(law, set(shown))
    return float(both)


def _entropy(law: np.ndarray, kept: set[int]) -> float:
    away = tuple(j for j in range(law.ndim) if j not in kept)
    return float(special.entr(law.sum(axis=away)).sum())


def test_curve(source: Source) -> None:
    """All sets of shown tokens, each with its probability."""
    law, L = source.joint(), source.length
    for s in (0.0, 0.3, 0.85, 1.0):
        total = 0.0
        for i in range(L):
            others = [j for j in range(L) if j != i]
            for bits in itertools.product((0, 1), repeat=L - 1):
                shown = tuple(j for j, bit in zip(others, bits, strict=True) if bit)
                chance = s ** len(shown) * (1 - s) ** (L - 1 - len(shown))
                total += chance * _hidden_entropy(law, shown, i)
        found = unmasking_curve(source, s)
        assert abs(found.value - total) < 1e-12
        assert found.numerical_error < 1e-11


def test_the_area_is_the_entropy(source: Source) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(8)  # f has a degree below 2 * 8
    curve = unmasking_curve(source, (nodes + 1) / 2)
    entropy = source.joint()
    assert abs(weights @ curve.value / 2 - special.entr(entropy).sum()) < 1e-12
    half = unmasking_information(source, [0.0, 0.5, 1.0]).value
    area = weights @ unmasking_curve(source, (nodes + 1) / 4).value / 4
    assert np.allclose(half, [0, area, special.entr(entropy).sum()], rtol=0, atol=1e-12)


def _patterns(source: Source, grid: np.ndarray) -> tuple[np.ndarray, float]:
    """The generated law and the KL of tokens and times, by going through all reveal times."""
    law, L = source.joint(), source.length
    steps, generated, kl = np.diff(grid), np.zeros_like(law), 0.0
    for times in itertools.product(range(len(steps)), repeat=L):
        chance = math.prod(steps[t] for t in times)
        drawn = np.ones_like(law)
        for i in range(L):
            kept = [j for j in range(L) if times[j] < times[i]]
            away = tuple(j for j in range(L) if j not in kept)
            before = law.sum(axis=away, keepdims=True)
            with_it = law.sum(axis=tuple(j for j in away if j != i), keepdims=True)
            drawn = drawn * np.where(before > 0, with_it / np.where(before > 0, before, 1), 1 / K)
        generated += chance * drawn
        kl += chance * special.kl_div(law, drawn).sum()
    return generated, kl


@pytest.mark.parametrize("grid", [GRID, np.array([0.0, 1.0])])
def test_kl_and_generated_law(source: Source, grid: np.ndarray) -> None:
    law, kl = _patterns(source, grid)
    assert abs(unmasking_kl(source, grid).value - kl) < 1e-12
    found = unmasking_law(source, grid)
    assert np.allclose(found.law, law, rtol=1e-13, atol=1e-300)
    of_tokens = special.kl_div(source.joint(), law).sum()
    assert abs(found.kl.value - of_tokens) <= 1e-13 + found.kl.numerical_error
    assert found.kl.numerical_error < 1e-11
    assert found.kl.value <= kl + 1e-12


def test_two_tokens_in_two_steps() -> None:
    """Half of the source, half of its marginals' product: strictly closer than the joint law."""
    source = Markov(_rows(K), 2, RNG.dirichlet(np.ones(K)))
    law = source.joint()
    product = np.outer(law.sum(axis=1), law.sum(axis=0))
    found = unmasking_law(source, [0, 0.5, 1])
    assert np.allclose(found.law, (law + product) / 2, rtol=1e-14)
    information = special.kl_div(law, product).sum()
    joint = unmasking_kl(source, [0, 0.5, 1])
    assert joint.value == pytest.approx(information / 2, rel=1e-12)
    assert found.kl.value < 0.95 * joint.value


def test_long_chains() -> None:
    """A stationary chain of 300 tokens: f by sums over the nearest shown tokens on both sides."""
    rows = np.random.default_rng(3).dirichlet(np.full(20, 0.2), 20)
    chain = Markov(rows, 300)
    powers = [np.eye(20)]
    for _ in range(299):
        powers.append(powers[-1] @ rows)
    after = np.array([chain.initial @ special.entr(power).sum(axis=1) for power in powers])
    alone = special.entr(chain.initial).sum()
    s, total = 0.2, 0.0
    for i in range(300):
        left, right = np.arange(1, i + 1), np.arange(1, 300 - i)
        near = [s * (1 - s) ** (gap - 1) for gap in (left, right)]
        none = (1 - s) ** i, (1 - s) ** (299 - i)
        total += none[0] * none[1] * alone + none[1] * (near[0] @ after[left])
        # Backwards H(k_i | k_r) = H(k_r | k_i) + H(k_i) - H(k_r), all of one stationary law.
        total += none[0] * (near[1] @ after[right])
        both = after[left][:, None] + after[right] - after[left[:, None] + right]
        total += near[0] @ both @ near[1]
    found = unmasking_curve(chain, s)
    assert abs(found.value - total) < 1e-9 * total
    assert found.numerical_error < 1e-9 * total


@pytest.mark.parametrize("name", ["markov", "hidden"])
def test_sampled(name: str) -> None:
    """Orders and sequences are drawn: each value within 4.5 of its standard errors."""
    source, method = SOURCES[name], tk.MonteCarlo(n_samples=4000)
    for exact, sampled in (
        (unmasking_kl(source, GRID), unmasking_kl(source, GRID, method=method, key=1)),
        (unmasking_curve(source, GRID), unmasking_curve(source, GRID, method=method, key=2)),
    ):
        z = np.abs(sampled.value - exact.value) / (sampled.standard_error + 1e-12)
        assert z.max() < 4.5
        assert (sampled.standard_error < 0.02 * unmasking_curve(source, 0.0).value).all()
    assert sampled.standard_error[0] < 1e-12  # with nothing shown there is nothing to vary


def test_sampled_interval_covers() -> None:
    source, method = SOURCES["hidden"], tk.MonteCarlo(n_samples=200)
    exact, inside = unmasking_kl(source, GRID).value, 0
    for key in range(50):
        low, high, _ = unmasking_kl(source, GRID, method=method, key=key).confidence_interval(0.95)
        inside += low <= exact <= high
    assert inside >= 41  # 47.5 expected; below with probability 1e-3, and the keys are fixed


@pytest.mark.parametrize("N", [1, 2, 5])
def test_best_steps(N: int) -> None:
    """Stationary, and no worse than any of many random grids, or the even one."""
    source = SOURCES["markov"]
    best = unmasking_steps(source, [N])[0]
    assert best.N == N
    rng = np.random.default_rng(0)
    grids = [np.linspace(0, 1, N + 1)]
    grids += [np.concatenate([[0], np.sort(rng.random(N - 1)), [1]]) for _ in range(200)]
    assert best.kl.value <= min(unmasking_kl(source, grid).value for grid in grids) + 1e-14
    for i in range(1, N):  # the derivative by a shown share
        moved = [best.shown.copy(), best.shown.copy()]
        moved[0][i] -= 1e-4
        moved[1][i] += 1e-4
        down, up = (unmasking_kl(source, grid).value for grid in moved)
        assert abs(up - down) / 2e-4 < 1e-6


def test_best_steps_of_a_sampled_source() -> None:
    best = unmasking_steps(SOURCES["hidden"], [3], method=tk.MonteCarlo(n_samples=2000), key=4)[0]
    exact = unmasking_steps(SOURCES["hidden"], [3])[0]
    assert unmasking_kl(SOURCES["hidden"], best.shown).value < 1.02 * exact.kl.value
    assert abs(best.kl.value - exact.kl.value) < 5 * best.kl.standard_error + 0.02 * exact.kl.value


@pytest.mark.parametrize("method", [None, tk.MonteCarlo(n_samples=100)])
def test_no_shares(method: tk.MonteCarlo | None) -> None:
    assert unmasking_curve(SOURCES["markov"], [], method=method, key=0).value.shape == (0,)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: unmasking_kl(SOURCES["markov"], [0.0, 0.5]), "from 0 to 1"),
        (lambda: unmasking_kl(SOURCES["markov"], [0.0, 0.6, 0.5, 1.0]), "without a step back"),
        (lambda: unmasking_curve(SOURCES["markov"], 1.5), "shown must be in"),
        (lambda: unmasking_curve(HiddenMarkov(_rows(3), _rows(3), 40), 0.5), "key must be"),
        (
            lambda: unmasking_curve(HiddenMarkov(_rows(3), _rows(3), 40), 0.5, method=tk.Exact()),
            "MonteCarlo",
        ),
        (
            lambda: unmasking_curve(SOURCES["hidden"], 0.5, method=tk.MonteCarlo(atol=0.1), key=0),
            "without rtol and atol",
        ),
        (lambda: unmasking_law(Markov(_rows(3), 12), [0, 1]), "the source must be"),
        (lambda: unmasking_steps(SOURCES["markov"], [0]), "Ns must be"),
    ],
)
def test_refusals(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
