"""The probe by digits: against another optimiser and posteriors written out; integrals."""

import json

import numpy as np
import pytest
from scipy import optimize, special

import tokenkl as tk
from experiments import context_probe
from experiments.context_probe import FIGURES, SMOKE, digits_of, over_levels
from experiments.speech import probe as module
from experiments.speech.probe import Corpus, _Fit, log_priors, probe


def _case(size: int = 40) -> tuple[np.ndarray, np.ndarray, Corpus]:
    """A chain that is coupled in the coordinates of a grid, with a context that is half known."""
    grid = tk.FSQ((3, 3))
    rows = np.exp(0.8 * grid.points @ grid.points.T)
    tokens = tk.sources.Markov(rows / rows.sum(axis=1, keepdims=True), 30).sample(size, key=0)
    beside = [(row // 3 == 0).astype(int) for row in tokens]
    corpus = Corpus.of(list(tokens), beside)
    return np.asarray(grid.points)[corpus.used], digits_of(2)[corpus.used], corpus


def _logits(
    points: np.ndarray, corpus: Corpus, seen: np.ndarray, snr: float, priors: np.ndarray
) -> np.ndarray:
    squares = ((seen[:, None] - np.sqrt(snr) * points) ** 2).sum(axis=-1)
    return -squares / 2 + priors[corpus.contexts]


def test_without_neighbours_it_is_the_posterior() -> None:
    points, digits, corpus = _case()
    seen = np.sqrt(2.0) * points[corpus.ids] + np.random.default_rng(1).standard_normal(
        (corpus.ids.size, 2)
    )
    every = np.arange(corpus.ids.size)
    priors = log_priors(corpus, every)
    assert np.allclose(np.exp(priors).sum(axis=1), 1)
    fit = _Fit(points, digits, corpus, seen, 2.0, priors)
    p = special.softmax(_logits(points, corpus, seen, 2.0, priors), axis=1)
    loss, error = fit.losses(every, None, None)
    assert np.allclose(loss, -np.log(p[every, corpus.ids]), atol=2e-5)
    assert np.allclose(error, ((points[corpus.ids] - p @ points) ** 2).sum(axis=1), atol=2e-5)
    assert np.allclose(fit.moments(every, None, None)[0], p @ digits, atol=2e-5)
    mean, covariance = fit.moments(every, np.ones((every.size, 1)), None)
    assert covariance is not None
    direct = np.einsum("ik,ka,kb->iab", p, digits, digits) - mean[:, :, None] * mean[:, None]
    assert np.allclose(covariance, direct, atol=2e-5)


def test_newton_finds_the_least_loss() -> None:
    points, digits, corpus = _case()
    seen = points[corpus.ids] + np.random.default_rng(2).standard_normal((corpus.ids.size, 2))
    rows = np.flatnonzero(corpus.sequence % 2 == 0)
    priors = log_priors(corpus, rows)
    fit = _Fit(points, digits, corpus, seen, 1.0, priors)
    inputs = corpus.neighbours(seen)
    assert inputs.shape == (corpus.ids.size, 9)
    base = _logits(points, corpus, seen, 1.0, priors)[rows]
    shape = digits.shape[1], inputs.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        logs = special.log_softmax(base + inputs[rows] @ weights.T @ digits.T, axis=1)
        ids = corpus.ids[rows]
        slope = (np.exp(logs) @ digits - digits[ids]).T @ inputs[rows] + module.RIDGE * weights
        value = -logs[np.arange(rows.size), ids].sum() + module.RIDGE * (flat**2).sum() / 2
        return float(value), slope.ravel()

    best = optimize.minimize(loss, np.zeros(np.prod(shape)), jac=True, options={"gtol": 1e-4})
    weights = None
    found = []
    for _ in range(6):
        weights = fit.stepped(rows, inputs, weights)
        found.append(loss(weights.ravel())[0])
    start = loss(np.zeros(np.prod(shape)))[0]
    assert found[-1] == pytest.approx(best.fun, abs=1e-3)
    # The two steps that are taken are as good as all, for what a corpus tells.
    assert found[module.NEWTON - 1] - best.fun < 0.03 * (start - best.fun)


def test_neighbours_do_not_cross_ends() -> None:
    corpus = Corpus.of([np.array([4, 5, 6]), np.array([7, 8])], None)
    values = np.array([[1.0], [2.0], [3.0], [10.0], [20.0]])
    columns = corpus.neighbours(values)
    raw = np.array([[0, 0, 2, 3], [0, 1, 3, 0], [1, 2, 0, 0], [0, 0, 20, 0], [0, 10, 0, 0]], float)
    assert np.allclose(columns[:, 1:], (raw - raw.mean(axis=0)) / raw.std(axis=0))
    assert (corpus.contexts == 0).all()


def test_what_is_read_needs_coordinates() -> None:
    """Neighbours that speak of coordinates are read on the grid, and less on permuted points."""
    points, digits, corpus = _case(120)
    own = probe(points, digits, corpus, 1.0, 3)
    other = probe(points[np.random.default_rng(0).permutation(9)], digits, corpus, 1.0, 3)
    gains = [one.cross_entropy[0].sum() - one.cross_entropy[1].sum() for one in (own, other)]
    assert gains[0] > 1.5 * gains[1]
    lost = [one.cross_entropy[1].sum() - one.cross_entropy[2].sum() for one in (own, other)]
    assert lost[1] > lost[0]


def test_integrals() -> None:
    decibels = (-20.0, -10.0, 0.0, 10.0)
    flat = over_levels(np.ones((4, 3)), decibels)
    assert np.allclose(flat, np.log(10) * (3 + 2 * 0.5))


def test_one_prior_at_a_time() -> None:
    table, facts = context_probe.compute(SMOKE, lambda done, total: None)
    rows = table[table.kind == "gain"].set_index(["prior", "name"]).value
    assert rows["frequency", "fsq"] > rows["frequency", "permuted"]
    alone = table[table.kind == "cross-entropy alone"].groupby("prior").value.mean()
    assert alone["phoneme"] < alone["frequency"]
    assert facts["networks"]["bound, 5 steps"]["fsq"] == 0


def test_what_is_stored_is_of_the_bounds_that_are_stored() -> None:
    record = json.loads((FIGURES / "context_probe.json").read_text())
    assert record["facts"]["networks"] == context_probe.measured()
