"""Uniform-noise diffusion over sources, against the joint law of all states of two levels."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import special

import tokenkl as tk
from tokenkl.context import (
    replacing_information,
    replacing_kl,
    replacing_law,
    replacing_posterior,
    replacing_steps,
)
from tokenkl.sources import HiddenMarkov, Independent, Joint, Markov, Source

RNG = np.random.default_rng(11)
K = 3


def _rows(count: int) -> np.ndarray:
    return RNG.dirichlet(np.full(K, 0.4), count)


SOURCES: dict[str, Source] = {
    "markov": Markov(_rows(K), 3, RNG.dirichlet(np.ones(K))),
    "cycle": Markov(np.roll(np.eye(K), 1, axis=1), 3, [0.5, 0.5, 0.0]),
    "hidden": HiddenMarkov(RNG.dirichlet(np.ones(2), 2), _rows(2), 3),
    "joint": Joint(np.reshape(RNG.dirichlet(np.full(K**3, 0.2)), (K,) * 3)),
    "independent": Independent(_rows(3)),
}
GRID = np.array([1.0, 0.7, 0.45, 0.1, 0.0])


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Source:
    return SOURCES[request.param]


def _channel(level: float, length: int) -> np.ndarray:
    """p(Z | X) of whole sequences, as a matrix."""
    one = (1 - level) * np.eye(K) + level / K
    return functools.reduce(np.kron, [one] * length)


def _step(source: Source, start: float, stop: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p(Z_a, Z_b), p(Z_b | Z_a), and the product of the laws of single tokens of it."""
    L, law = source.length, source.joint().ravel()
    between = (start - stop) / (1 - stop)
    both = ((law @ _channel(stop, L))[:, None] * _channel(between, L)).T  # Z_a, Z_b
    exact = both / np.maximum(both.sum(axis=1, keepdims=True), 1e-300)
    cube = exact.reshape(-1, *(K,) * L)
    product = np.ones_like(cube)
    for i in range(L):
        away = tuple(1 + j for j in range(L) if j != i)
        product = product * cube.sum(axis=away, keepdims=True)
    return both, exact, product.reshape(exact.shape)


def test_kl_and_generated_law(source: Source) -> None:
    kl, law = 0.0, np.full(K**source.length, 1 / K**source.length)
    for start, stop in itertools.pairwise(GRID):
        both, exact, product = _step(source, start, stop)
        kl += float((both.sum(axis=1)[:, None] * special.kl_div(exact, product)).sum())
        law = law @ product
    found = replacing_kl(source, GRID)
    assert abs(found.value - kl) < 1e-12
    assert found.numerical_error < 1e-11
    generated = replacing_law(source, GRID)
    assert np.allclose(generated.law.ravel(), law, rtol=1e-12)
    of_tokens = special.kl_div(source.joint().ravel(), law).sum()
    assert abs(generated.kl.value - of_tokens) <= 1e-13 + generated.kl.numerical_error
    assert generated.kl.numerical_error < 1e-10
    assert generated.kl.value <= kl + 1e-12


def test_posterior(source: Source) -> None:
    law, L = source.joint(), source.length
    seen = np.array([[0, 1, 2], [2, 2, 2]])
    joint = law.ravel() * _channel(0.4, L)[:, seen @ K ** np.arange(L)[::-1]].T
    joint = joint.reshape(-1, *(K,) * L) / joint.sum(axis=1).reshape(-1, 1, 1, 1)
    found = np.exp(replacing_posterior(source, seen, 0.4))
    for i in range(L):
        away = tuple(1 + j for j in range(L) if j != i)
        assert np.allclose(found[:, i], joint.sum(axis=away), rtol=0, atol=1e-14)


def test_information(source: Source) -> None:
    law, L = source.joint().ravel(), source.length
    levels = np.array([0.0, 0.02, 0.4, 1.0])
    found = replacing_information(source, levels)
    for level, value in zip(levels, found.value, strict=True):
        both = law[:, None] * _channel(level, L)
        assert abs(special.kl_div(both, np.outer(law, both.sum(axis=0))).sum() - value) < 1e-12


@pytest.mark.parametrize("name", ["markov", "joint"])
def test_sampled(name: str) -> None:
    source, method = SOURCES[name], tk.MonteCarlo(n_samples=4000)
    pairs = [
        (replacing_kl(source, GRID), replacing_kl(source, GRID, method=method, key=1)),
        (
            replacing_information(source, [0.0, 0.3, 0.8]),
            replacing_information(source, [0.0, 0.3, 0.8], method=method, key=2),
        ),
    ]
    for exact, sampled in pairs:
        z = np.abs(sampled.value - exact.value) / sampled.standard_error
        assert z.max() < 4.5
        assert np.max(sampled.standard_error) < 0.03 * source.entropy()


def test_sampled_interval_covers() -> None:
    source, method = SOURCES["markov"], tk.MonteCarlo(n_samples=200)
    exact, inside = replacing_kl(source, GRID).value, 0
    for key in range(50):
        low, high, _ = replacing_kl(source, GRID, method=method, key=key).confidence_interval(0.95)
        inside += low <= exact <= high
    assert inside >= 41  # 47.5 expected; below with probability 1e-3, and the keys are fixed


def test_long_sequences() -> None:
    """Parts of an independent source cost nothing, however long; dependence costs."""
    law, few = np.array([0.5, 0.3, 0.2]), tk.MonteCarlo(n_samples=100)
    apart = replacing_kl(Markov(np.tile(law, (3, 1)), 200), GRID, method=few, key=1)
    assert abs(apart.value) < 1e-9
    assert apart.standard_error < 1e-9
    fine = replacing_kl(SOURCES["markov"], np.linspace(1, 0, 33), method=few, key=1)
    assert fine.standard_error < 0.03  # the root of twice a small KL, over 10
    chain = Markov(np.full((3, 3), 0.1) + 0.7 * np.eye(3), 200)
    assert replacing_kl(chain, GRID, method=few, key=1).value > 10


@pytest.mark.slow
def test_best_steps() -> None:
    source = SOURCES["markov"]
    best = replacing_steps(source, [3])[0]
    rng = np.random.default_rng(0)
    grids = [np.linspace(1, 0, 4)]
    grids += [np.concatenate([[1], np.sort(rng.random(2))[::-1], [0]]) for _ in range(100)]
    cheapest = min(replacing_kl(source, grid).value for grid in grids)
    assert best.kl.value < 1.002 * cheapest  # among 97 levels only
    sampled = replacing_steps(source, [3], method=tk.MonteCarlo(n_samples=1000), key=2)[0]
    assert replacing_kl(source, sampled.replaced).value < 1.03 * best.kl.value


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: replacing_kl(SOURCES["markov"], [0.0, 1.0]), "from 1 to 0"),
        (lambda: replacing_kl(SOURCES["markov"], [1.0, 0.4, 0.6, 0.0]), "without a step back"),
        (lambda: replacing_kl(Markov(_rows(3), 40), GRID), "key must be"),
        (lambda: replacing_kl(Markov(_rows(3), 40), GRID, method=tk.Exact()), "MonteCarlo"),
        (
            lambda: replacing_kl(SOURCES["markov"], GRID, method=tk.MonteCarlo(rtol=0.1), key=0),
            "without rtol and atol",
        ),
        (lambda: replacing_law(SOURCES["markov"], [1, 5e-324, 0]), "grid must be 0 or at least"),
        (lambda: replacing_law(Markov(_rows(3), 12), GRID), "the source must be"),
        (lambda: replacing_posterior(SOURCES["cycle"], [[0, 0, 0]], 0.0), "seen must be"),
        (lambda: replacing_information(SOURCES["cycle"], -0.1), "replaced must be"),
        (lambda: replacing_steps(SOURCES["markov"], [0]), "Ns must be"),
    ],
)
def test_refusals(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
