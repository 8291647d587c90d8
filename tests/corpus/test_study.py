"""A corpus whose law is known: what is found of it, against what that law gives exactly."""

import functools
from typing import Any

import numpy as np
import pytest

import tokenkl as tk

GRID = tk.FSQ((3, 3))


@functools.cache
def _law() -> tk.sources.Markov:
    """Told by the coordinates of permuted points."""
    hidden = tk.permute(GRID, key=5).points
    rows = np.exp(hidden @ hidden.T)
    return tk.sources.Markov(rows / rows.sum(axis=1, keepdims=True), length=40)


@functools.cache
def _found(**more: Any) -> tk.TokensInContext:
    corpus = _law().sample(1500, key=1)
    rivals = {"hidden": tk.permute(GRID, key=5)}
    return tk.tokens_in_context(
        GRID, corpus, rivals=rivals, length=3, sequences=512, starts=4, key=2
    )


@pytest.mark.slow
def test_what_the_corpus_tells() -> None:
    found, law = _found(), _law()
    assert (found.n_sequences, found.n_tokens) == (1500, 60_000)
    low, high, _ = found.told.confidence_interval(0.9999)
    assert low < law.entropy() / 40 + 0.005  # of 60,000 tokens 80 numbers are learned
    assert high > law.entropy() / 40
    assert float(found.told) < float(found.told_alone)


@pytest.mark.slow
def test_labels_and_their_order() -> None:
    found = _found()
    assert list(found.labels.every)[-3:] != ["hidden", "found"]
    assert {*list(found.labels.every)[:2]} == {"hidden", "found"}
    assert found.order.split(" ")[0] in ("hidden", "found")
    assert found.order.count(" > ") + found.order.count(" = ") == 4
    assert found.labels.is_better


@pytest.mark.slow
def test_noisy_tokens_against_the_law_itself() -> None:
    """Profiles of the law that was counted, within errors and what 60,000 tokens leave open."""
    found, law = _found(), _law()
    short = tk.sources.Markov(law.transition, 3)
    exact = tk.context_information(
        GRID, short, found.context.snr, method=tk.MonteCarlo(8192), key=7
    )
    for name in ("accuracy", "conditional_entropy", "mmse"):
        one, other = (side.profile[name] for side in (found.context, exact))
        off = abs(one.value - other.value)
        assert np.all(off < 5 * np.hypot(one.standard_error, other.standard_error) + 0.01)
    off = abs(found.context.values.value - exact.values.value)
    assert np.all(off < 0.02)
    told = found.context.profile["mutual_information"].value
    assert told[0] < 0.001 * told[-1]  # levels begin where next to nothing is told, and end
    whole = found.source.token_entropy()
    assert whole is not None
    assert told[-1] > 0.998 * whole
    apart = found.context.profile["mutual_information"] - found.alone["mutual_information"]
    assert np.allclose(apart.value, found.context.values.value, atol=0.02)


@pytest.mark.slow
def test_schedule_and_steps() -> None:
    found = _found()
    law, snr = found.schedule.law, found.context.snr
    assert np.allclose(np.exp(law.log_snr[[0, -1]]), snr[[0, -1]])
    entropy = found.context.profile["conditional_entropy"].value
    share = (entropy[0] - entropy) / (entropy[0] - entropy[-1])
    assert np.allclose(law.cdf(np.log(snr)), share, atol=0.01)
    whole = tk.sequence_codebook(GRID, tk.sources.Markov(_law().transition, 3))
    for one in found.steps:
        assert one.snr[0] == 0
        assert one.snr[-1] == pytest.approx(snr[-1])
        exact = tk.ancestral_kl(whole, one.snr, method=tk.MonteCarlo(n_samples=4096), key=0) / 3
        assert exact.standard_error < 0.01 * exact.value
        off = abs(float(one.kl) - float(exact))
        assert off < 3 * one.kl.standard_error + 0.05 * float(exact)


def test_the_schedule_knows_its_errors() -> None:
    found = _found()
    entropy = found.context.profile["conditional_entropy"]
    fall = entropy.value[0] - entropy.value[-1]
    assert found.schedule.law.standard_error > 0.1 * entropy.standard_error.max() / fall
    assert np.all(found.schedule.low <= found.schedule.high)


@pytest.mark.slow
def test_the_prior_of_the_codebook_does_not_matter() -> None:
    """What a token is without a look is the law's, too: the first step begins there."""
    corpus = _law().sample(50, key=1)
    snr = np.geomspace(0.05, 50, 8)
    prior = np.array([0.6, *np.full(8, 0.05)])
    steps = [
        tk.tokens_in_context(
            book, corpus, snr, length=2, sequences=64, starts=1, steps=[3], key=0
        ).steps[0]
        for book in (GRID, GRID.with_prior(prior))
    ]
    assert np.allclose(steps[0].snr, steps[1].snr, rtol=1e-6)
    assert float(steps[0].kl) == pytest.approx(float(steps[1].kl), rel=1e-6)


def test_bits() -> None:
    found = _found()
    bits = found.bits
    pairs = (
        (found.told, bits.told),
        (found.labels.gain, bits.labels.gain),
        (found.context.values, bits.context.values),
        (found.context.profile["conditional_entropy"], bits.context.profile["conditional_entropy"]),
        (found.alone["mutual_information"], bits.alone["mutual_information"]),
        (found.steps[0].kl, bits.steps[0].kl),
    )
    for nats, other in pairs:
        assert np.allclose(nats.value, np.log(2) * other.value)
        assert (nats.unit, other.unit) == ("nats", "bits")
    assert bits.order == found.order


def test_levels_of_ones_own_and_longer_memory() -> None:
    """Two tokens say what comes next, one does not: only an order of three sees that."""
    again = np.tile([0, 0, 1, 1], 60)
    corpus = [again[shift : shift + 40] for shift in range(100)]
    snr = [0.1, 0.3, 1.0, 3.0, 10.0]
    told = [
        tk.tokens_in_context(
            tk.FSQ((2,)), corpus, snr, order=order, length=6, sequences=64, starts=1
        )
        for order in (2, 3)
    ]
    assert float(told[0].told) > 0.6 > 0.1 > float(told[1].told)
    assert told[1].context.values.value[2] > 0.2
    assert told[1].context.values.value[2] > 5 * told[0].context.values.value[2]
    assert told[0].context.snr.tolist() == snr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"snr": [1.0, 2.0]}, "snr must be at least five levels above 0"),
        ({"snr": [0.0, 1.0, 2.0, 3.0, 4.0]}, "snr must be at least five levels above 0"),
        ({"order": 1}, "order must be"),
        ({"length": 1}, "length must be"),
        ({"sequences": 1}, "sequences must be"),
        ({"steps": [0]}, "every entry of steps must be"),
        ({"rivals": {"one-hot": tk.OneHot(9)}}, "other than one-hot, which is judged anyway"),
        ({"rivals": {"e8": tk.OneHot(10)}}, r"rivals\['e8'\] must be of 9"),
        ({"gaps": (50,)}, "no two of them 50 apart"),
    ],
)
def test_refusals(more: dict[str, Any], said: str) -> None:
    corpus = _law().sample(20, key=1)
    with pytest.raises(ValueError, match=said):
        tk.tokens_in_context(GRID, corpus, starts=1, sequences=more.pop("sequences", 16), **more)
