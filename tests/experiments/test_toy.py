"""The parts of the toy experiment: law, tokenizations, denoisers, samplers, the KL from counts."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import tokenkl as tk
from experiments import toy_generation
from experiments.toy import data, evaluate, kept, model, predictors
from experiments.toy.train import draw_tokens, train
from tokenkl.channel import log_posterior

BUDGET = 2e-5
Z = special.ndtri(1 - BUDGET / 2)
CHAIN = data.draw_chain(3, 1, 2, key=1)  # 3 tokens, 9 sequences
POINTS = tk.FSQ((3,)).points


# ---------------------------------------------------------------- law and tokenizations


def test_the_law_of_a_chain() -> None:
    chain = data.draw_chain(2, 2, 3, key=0)
    joint = chain.joint()
    assert joint.shape == (64,)
    assert joint.sum() == pytest.approx(1, abs=1e-14)
    cube = joint.reshape(4, 4, 4)
    assert np.allclose(cube.sum(axis=(1, 2)), chain.start)
    assert np.allclose(cube[1, 2] / cube[1, 2].sum(), chain.transition[2])
    for position in range(3):
        others = tuple(axis for axis in range(3) if axis != position)
        assert np.allclose(cube.sum(axis=others), chain.marginals()[position])
    assert chain.entropy() == pytest.approx(stats.entropy(joint))
    assert (data.draw_chain(2, 2, 3, key=0).joint() == joint).all()
    assert (data.draw_chain(2, 2, 3, key=1).joint() != joint).any()


@pytest.mark.parametrize("how", ["numpy", "jax"])
def test_sequences_follow_the_law(how: str) -> None:
    chain, size = data.draw_chain(2, 2, 3, key=0), 40_000
    if how == "numpy":
        tokens = chain.sample(size, 3)
    else:
        start, rows = jnp.asarray(chain.start), jnp.asarray(chain.transition)
        tokens = np.asarray(draw_tokens(jax.random.key(3), start, rows, 3, size))
    counts = np.bincount(tokens @ [16, 4, 1], minlength=64)
    groups = evaluate.pool(chain.joint(), 20 / size)
    observed, expected = np.bincount(groups, counts), np.bincount(groups, chain.joint()) * size
    assert stats.chisquare(observed, expected).pvalue > BUDGET


@pytest.mark.parametrize(("base", "n"), [(2, 3), (3, 2)])
def test_tokenizations(base: int, n: int) -> None:
    grid = tk.FSQ((base,) * n)
    found = {name: data.codebook_points(name, base, n, key=5) for name in data.TOKENIZATIONS}
    for name in data.SAME_POWER:
        points = found[name]
        assert points.shape == (grid.K, grid.K if name == data.ONE_HOT else n)
        assert np.allclose(points.mean(axis=0), 0, atol=1e-12)
        assert (points**2).sum(axis=1).mean() == pytest.approx(tk.average_power(grid))
    assert np.abs(found[data.BOXED]).max() == 1
    rows = {tuple(row) for row in grid.points}
    assert {tuple(row) for row in found[data.PERMUTED].round(12)} == rows
    assert (found[data.PERMUTED] != grid.points).any()
    # Aligned: each token is nearer to its own FSQ point than tokens are on the average.
    for name in (data.LATTICE, data.VQ, data.RANDOM):
        own = ((found[name] - grid.points) ** 2).sum(axis=1).mean()
        assert own < 0.5 * ((found[name][:, None] - grid.points) ** 2).sum(axis=2).mean()
    with pytest.raises(ValueError, match="name must be one of"):
        data.codebook_points("nothing", base, n, key=5)


@pytest.mark.parametrize(("n", "K"), [(2, 9), (3, 8)])
def test_the_lattice_beats_the_grid_at_equal_power(n: int, K: int) -> None:
    cut = tk.PointCodebook(data.lattice_cut(n, K))
    assert tk.min_distance(cut) == pytest.approx(1)
    grid = tk.FSQ((2,) * 3) if n == 3 else tk.FSQ((3,) * 2)
    power = tk.average_power(grid)
    assert tk.min_distance(tk.scale_to(tk.centre(cut), power=power)) > tk.min_distance(grid)


# ---------------------------------------------------------------- KL from counts


def exact_mean(law: np.ndarray, generated: np.ndarray, size: int) -> float:
    """Expectation of the estimate, by summing over the binomial law of every count."""
    counts = np.arange(size + 1)
    total = 0.0
    for p, q in zip(law, generated, strict=True):
        terms = special.digamma(size + 1) - special.digamma(counts + 1)
        total += p * (np.log(p) + stats.binom.pmf(counts, size, q) @ terms)
    return total


def test_kl_from_counts_has_no_bias() -> None:
    law = np.array([0.5, 0.3, 0.15, 0.05])
    other = np.array([0.4, 0.3, 0.2, 0.1])
    kl = float(law @ np.log(law / other))
    assert exact_mean(law, other, 300) == pytest.approx(kl, abs=1e-13)
    assert exact_mean(law, law, 600) == pytest.approx(0, abs=1e-13)
    # Where q M is about 5 the remainder is below (1 - q)^M / (M q) of that state's weight.
    assert abs(exact_mean(law, other, 50) - kl) < 0.05 * 0.9**50 / 5 * 1.01


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kl_from_counts_covers(shift: float) -> None:
    rng = np.random.default_rng(0)
    law = rng.dirichlet(np.full(60, 5.0))
    generated = law * np.exp(shift * rng.standard_normal(60))
    generated /= generated.sum()
    kl = float(law @ np.log(law / generated))
    runs, size = 1000, 4000
    found = np.array(
        [evaluate.kl_from_counts(law, counts) for counts in rng.multinomial(size, generated, runs)]
    )
    assert abs(found[:, 0].mean() - kl) < Z * found[:, 0].std() / np.sqrt(runs)
    plug_in = 59 / (2 * size)
    assert plug_in > 10 * found[:, 0].std() / np.sqrt(runs)  # the test would see that bias
    covered = (np.abs(found[:, 0] - kl) < special.ndtri(0.975) * found[:, 1]).sum()
    # The estimate is not quite normal: 93 % is asked of 95 % intervals.
    assert covered > stats.binom.ppf(BUDGET, runs, 0.93)


def test_pooling() -> None:
    law = data.draw_chain(3, 2, 2, key=4).joint()
    groups = evaluate.pool(law, 0.01)
    mass = np.bincount(groups, law)
    assert mass.min() >= 0.01
    assert groups.max() + 1 == mass.size < law.size
    assert (evaluate.pool(law, law.min() / 2) != evaluate.pool(law, 0.01)).any()
    assert np.unique(evaluate.pool(law, law.min())).size == law.size
    other = np.roll(law, 1)
    coarse = np.bincount(groups, other)
    assert mass @ np.log(mass / coarse) <= law @ np.log(law / other)


def test_laws_of_windows_are_marginals_of_the_sequence() -> None:
    chain = data.draw_chain(2, 1, 4, key=3)
    cube = chain.joint().reshape((2,) * 4)
    pairs, triples = chain.windows(2), chain.windows(3)
    assert np.allclose(pairs, [cube.sum((2, 3)).ravel(), cube.sum((0, 3)).ravel(),
                               cube.sum((0, 1)).ravel()])  # fmt: skip
    assert np.allclose(triples, [cube.sum(3).ravel(), cube.sum(0).ravel()])
    assert (chain.windows(4) == chain.joint()).all()


def counted(tokens: np.ndarray, width: int, K: int) -> np.ndarray:
    """Counts of every window of sequences in rows."""
    powers = K ** np.arange(width - 1, -1, -1)
    windows = range(tokens.shape[1] - width + 1)
    return np.stack(
        [np.bincount(tokens[:, i : i + width] @ powers, minlength=K**width) for i in windows]
    )


@pytest.mark.parametrize("least", [1e-9, 0.1])
def test_window_kl_has_no_bias_and_covers(least: float) -> None:
    """Sequences of one known chain against the windows of another, pooled or not."""
    law, other = (data.draw_chain(3, 1, 4, key, coupling=0.5, free=0.3) for key in (1, 2))
    laws, others = law.windows(2), other.windows(2)
    truth = 0.0
    for p, q in zip(laws, others, strict=True):
        groups = evaluate.pool(p, least)
        p, q = np.bincount(groups, p), np.bincount(groups, q)
        truth += float(p @ np.log(p / q)) / len(laws)
    runs, size = 300, 3000
    assert size * others.min() > 20  # every state is seen
    found = []
    for run in range(runs):
        counts = counted(other.sample(size, 50 + run), 2, 3)
        assert (counts.sum(axis=1) == size).all()
        found.append(evaluate.window_kl(laws, counts, least))
    value, error = np.transpose(found)
    assert abs(value.mean() - truth) < Z * value.std() / np.sqrt(runs)
    covered = (np.abs(value - truth) < special.ndtri(0.975) * error).sum()
    assert covered > stats.binom.ppf(BUDGET, runs, 0.95)  # the error is an upper bound


# ---------------------------------------------------------------- exact denoiser and samplers


def stacked_exact(points: np.ndarray) -> Any:
    return evaluate.exact_denoiser([CHAIN], points[None])


def test_the_exact_denoiser_is_the_posterior_of_sequences() -> None:
    chain = data.draw_chain(2, 2, 3, key=2)
    points = data.codebook_points(data.VQ, 2, 2, key=3)
    exact = jax.tree.map(lambda leaf: leaf[0], evaluate.exact_denoiser([chain], points[None]))
    codebook = toy_generation.sequence_codebook(points, chain)
    t = np.array([0.9, 0.4, 0.1])
    alpha, sigma = (np.asarray(part) for part in model.noise_level(jnp.asarray(t)))
    x = np.random.default_rng(0).standard_normal((3, 3, 2))
    found = np.exp(exact(jnp.asarray(x, dtype=jnp.float32), jnp.asarray(t, dtype=jnp.float32)))
    joint = np.exp(log_posterior(codebook, x.reshape(3, -1) / sigma[:, None], (alpha / sigma) ** 2))
    cube = joint.reshape(3, 4, 4, 4)
    for position in range(3):
        others = tuple(axis for axis in (1, 2, 3) if axis != position + 1)
        assert np.allclose(found[:, position], cube.sum(axis=others), atol=2e-5)


def test_windows_are_counted_where_they_stand() -> None:
    """Narrow windows are marginals of the whole sequences that the same draws gave."""
    chain = data.draw_chain(3, 1, 3, key=1)
    exact = evaluate.exact_denoiser([chain], POINTS[None])
    how: dict[str, Any] = {
        "steps": 2, "most_steps": 3, "sampler": "ddim", "n_samples": 2048, "length": 3, "seed": 1,
    }  # fmt: skip
    single, pairs, whole = evaluate.window_counts(exact, POINTS[None], widths=(1, 2, 3), **how)
    assert (whole[:, 0] == evaluate.generated_counts(exact, POINTS[None], **how)).all()
    cube = whole.reshape(3, 3, 3)
    assert (pairs[0] == [cube.sum(2).ravel(), cube.sum(0).ravel()]).all()
    assert (single[0] == [cube.sum((1, 2)), cube.sum((0, 2)), cube.sum((0, 1))]).all()
    assert len({tuple(row) for row in single[0]}) == 3  # positions differ


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_samplers_with_the_exact_denoiser_approach_the_law(sampler: str) -> None:
    exact = stacked_exact(POINTS)
    kl = {}
    for steps in (3, 60):
        counts = evaluate.generated_counts(
            exact,
            POINTS[None],
            steps=steps,
            most_steps=60,
            sampler=sampler,
            n_samples=2**15,
            length=2,
            seed=1,
        )
        assert counts.sum() == 2**15
        kl[steps] = evaluate.kl_from_counts(CHAIN.joint(), counts[0])
    value, error = kl[60]
    assert kl[3][0] > 0.02
    # Discretisation of 60 steps is of the order of 1e-4 here; the noise is 1e-4 as well.
    assert value < Z * error + 5e-4


def test_times() -> None:
    assert evaluate.times(4, 6).tolist() == [1, 0.75, 0.5, 0.25, 0, 0, 0]
    assert np.allclose(predictors.sampler_snrs(4), tk.LinearVP().snr([1, 0.75, 0.5, 0.25]))


# ---------------------------------------------------------------- training


@pytest.mark.slow
def test_training_lowers_the_loss_and_is_reproducible() -> None:
    points = np.stack([data.codebook_points(data.LEARNED, 2, 2, key=key) for key in range(2)])
    chains = [data.draw_chain(2, 2, 2, key=key) for key in range(2)]
    arguments: dict[str, Any] = {
        "power": tk.average_power(tk.FSQ((2, 2))),
        "batch": 64,
        "rate": 3e-3,
        "seed": 0,
    }
    network = functools.partial(model.Network, width=16, depth=1, learned=True)
    seen = []
    early, late = train(
        points,
        chains,
        network,
        budgets=(250, 500),
        progress=lambda share: seen.append(share),
        **arguments,
    )
    assert seen[-1] == 1
    embedding = np.asarray(jax.vmap(lambda net: net.points(None))(late))
    assert np.allclose((embedding**2).sum(axis=2).mean(axis=1), 2, rtol=1e-4)
    t = np.array([0.9, 0.5, 0.2])
    exact = evaluate.exact_denoiser(chains, embedding)
    gaps = [
        evaluate.denoiser_gaps(one, exact, embedding, chains, t, batch=512, seed=3)[0].mean()
        for one in (early, late)
    ]
    assert 0 < gaps[1] < 0.7 * gaps[0]
    [again] = train(points, chains, network, budgets=(250,), **arguments)
    assert (np.asarray(again.first) == np.asarray(early.first)).all()


def test_a_transformer_sees_all_positions_and_tells_them_apart_by_their_places() -> None:
    points = data.codebook_points(data.ONE_HOT, 3, 1, key=0)
    made = model.Transformer(points, 4, 0.5, width=8, depth=1, key=jax.random.key(0))
    logits_of = eqx.filter_jit(lambda one, x, t: one(x, t))
    x = jax.random.normal(jax.random.key(1), (2, 4, 3))
    t = jnp.array([0.3, 0.7])
    logits = logits_of(made, x, t)
    assert logits.shape == (2, 4, 3)
    assert np.isfinite(logits).all()
    moved = np.asarray(logits_of(made, x.at[1, 3].add(1.0), t) - logits)
    assert (moved[0] == 0).all()  # sequences are by themselves
    assert (np.abs(moved[1]).max(axis=1) > 1e-6).all()  # every position hears of the last
    together = logits_of(made, x, t[:1])  # one time for all of them
    assert np.allclose(together[0], logits[0], atol=1e-6)
    assert not np.allclose(together[1], logits[1], atol=1e-4)
    order = jnp.array([2, 0, 3, 1])
    nowhere = eqx.tree_at(lambda one: one.place, made, jnp.zeros_like(made.place))
    gaps = [
        np.abs(logits_of(one, x[:, order], t) - logits_of(one, x, t)[:, order]).max()
        for one in (made, nowhere)
    ]
    assert gaps[1] < 1e-5 < 1e-3 < gaps[0]


@pytest.mark.slow
def test_a_transformer_learns() -> None:
    chains = [data.draw_chain(2, 2, 3, key=0)]
    points = tk.FSQ((2, 2)).points[None]
    network = functools.partial(model.Transformer, width=16, depth=1)
    how: dict[str, Any] = {"power": 2.0, "batch": 64, "rate": 3e-3, "seed": 0}
    trained = train(points, chains, network, budgets=(250, 500), **how)
    exact, t = evaluate.exact_denoiser(chains, points), np.array([0.9, 0.5, 0.2])
    first, last = (
        evaluate.denoiser_gaps(one, exact, points, chains, t, batch=512, seed=3)[0].mean()
        for one in trained
    )
    assert 0 < last < 0.7 * first


def test_sequence_denoiser_is_the_product_in_the_order_of_the_law() -> None:
    # With independent positions the product of the exact marginals is the exact posterior.
    row = CHAIN.start
    chain = data.Chain(3, row, np.tile(row, (3, 1)))
    exact = jax.tree.map(lambda leaf: leaf[0], evaluate.exact_denoiser([chain], POINTS[None]))
    denoiser = toy_generation.sequence_denoiser(exact, POINTS, 3)
    codebook = toy_generation.sequence_codebook(POINTS, chain)
    found = tk.learned_path_kl(codebook, denoiser, predictors.sampler_snrs(5), key=0, n_samples=512)
    assert found.denoiser.value < 1e-9  # float32
    assert found.decoding.value < 1e-9
    assert found.initial.value == 0


# ---------------------------------------------------------------- predictors and ranks


def test_predictors_of_a_grid_are_those_of_the_library() -> None:
    points = tk.FSQ((2, 2)).points
    found = predictors.predict(points, samples=64, key=0)
    assert set(found) == set(predictors.PREDICTORS)
    assert found["mean NN distance D"] == 2
    assert found["accuracy A at t = 1/2"] == pytest.approx(
        float(tk.accuracy(tk.FSQ((2, 2)), 1 / 3)), rel=1e-12
    )
    snr = predictors.sampler_snrs(5)
    cube = tk.FSQ((2, 2))
    nats = tk.conditional_entropy(cube, snr).value
    path = tk.mmse(cube, snr).value[:-1] @ np.diff(snr) / 2 - (nats[0] - nats[-1])
    assert found["5-step path KL"] == pytest.approx(path, rel=1e-10)
    assert found["Lipschitz constant"] == pytest.approx(1, abs=1e-4)
    onehot = data.codebook_points(data.ONE_HOT, 2, 2, key=0)
    exact = tk.OneHot(4, None, np.sqrt(2 * 4 / 3))
    assert predictors.predict(onehot, samples=64, key=0)["accuracy A at t = 1/2"] == pytest.approx(
        float(tk.accuracy(exact, 1 / 3)), rel=1e-9
    )


def test_intervals_over_seeds_cover() -> None:
    rng, runs = np.random.default_rng(2), 1000
    covered = [0, 0]
    for _ in range(runs):
        common = rng.gamma(20.0, size=10)
        a, b = common * rng.gamma(50.0, 0.02, size=10), common * rng.gamma(50.0, 0.03, size=10)
        low, high = toy_generation._log_mean(a)[1:]
        covered[0] += low < np.log(20) < high
        low, high = toy_generation._log_ratio(b, a)[1:]
        covered[1] += low < np.log(1.5) < high
    assert min(covered) > stats.binom.ppf(BUDGET, runs, 0.93)
    assert toy_generation._log_mean(np.array([-1.0, 0.5])) == [None, None, None]


@pytest.mark.slow
def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    config, build = toy_generation.SMOKE, tmp_path / "build"

    def stop(done: float, total: float) -> None:
        if done >= 1:
            raise KeyboardInterrupt

    with kept.parts_in(build):
        whole, _ = toy_generation.compute(config, lambda done, total: None)
        assert not list((build / "toy_generation").iterdir())
        with pytest.raises(KeyboardInterrupt):
            toy_generation.compute(config, stop)
        folder = next((build / "toy_generation").iterdir())
        assert [path.suffix for path in folder.iterdir()] == [".csv"]
        again, facts = toy_generation.compute(config, lambda done, total: None)
    assert whole.equals(again)  # all of it: times are facts
    assert min(facts["process_seconds"].values()) > 0
