"""`probe_nonlinearity` on tokens of a known law."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.sources import Independent, Markov

CHAIN = Markov([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1]], 10)
CODEBOOK = tk.FSQ((3,))


def test_excess_is_above_the_least_by_little() -> None:
    """What a probe loses is at least the least of its family, here within its error."""
    tokens = CHAIN.sample(500, key=3)
    found = tk.probe_nonlinearity(CODEBOOK, tokens, 3.0, key=4, window=1, reference=CHAIN)
    least = tk.message_nonlinearity(
        CODEBOOK,
        CHAIN,
        3.0,
        window=1,
        family="message",
        position=5,
        method=tk.MonteCarlo(4000),
        key=1,
    )
    assert found.excess is not None
    slack = 4.5 * float(np.hypot(found.excess.standard_error, least.standard_error))
    assert -slack <= float(found.excess) - float(least) <= slack + 0.004
    assert found.gain.value > 10 * found.gain.standard_error
    # The parts add up on every sequence.
    difference = found.alone.value - found.cross_entropy.value
    assert abs(found.gain.value - difference) < 1e-12


def test_error_bars() -> None:
    """Standard errors are those of repeated draws of the corpus."""
    found = [
        tk.probe_nonlinearity(CODEBOOK, CHAIN.sample(60, key=key), 1.0, key=key, window=1, folds=3)
        for key in range(24)
    ]
    values = np.array([float(one.cross_entropy) for one in found])
    claimed = np.mean([float(one.cross_entropy.standard_error) for one in found])
    assert 0.55 < values.std(ddof=1) / claimed < 1.6


def test_nothing_to_learn_costs_little() -> None:
    tokens = Independent(np.full((8, 3), 1 / 3)).sample(200, key=0)
    found = tk.probe_nonlinearity(CODEBOOK, tokens, 1.0, key=1)
    assert -0.01 < float(found.gain) < 4 * float(found.gain.standard_error)


def test_features_and_lengths() -> None:
    """Text that names the token: nothing is left to say; sequences of any length."""
    rng = np.random.default_rng(0)
    tokens = [rng.integers(3, size=size) for size in rng.integers(3, 12, size=100)]
    text = [np.eye(3)[row] for row in tokens]
    told = tk.probe_nonlinearity(CODEBOOK, tokens, 0.1, key=1, features=text)
    alone = tk.probe_nonlinearity(CODEBOOK, tokens, 0.1, key=1)
    assert told.cross_entropy.value < 0.1 < alone.cross_entropy.value
    assert told.excess is None
    difference = told.minus(alone)
    assert difference.value < -10 * difference.standard_error


def test_pairs_know_differences_better() -> None:
    tokens = CHAIN.sample(300, key=5)
    other = tk.PointCodebook(CODEBOOK.points[[1, 0, 2]])
    probes = [
        tk.probe_nonlinearity(one, tokens, [1.0, 4.0], key=6, window=1, folds=3, reference=CHAIN)
        for one in (CODEBOOK, other)
    ]
    assert all(probe.excess is not None for probe in probes)
    excess = probes[1].minus(probes[0], of="excess")
    entropy = probes[1].minus(probes[0])
    apart = np.hypot(*(probe.cross_entropy.standard_error for probe in probes))
    assert (entropy.standard_error < apart).all()
    assert (excess.standard_error < apart).all()
    values = [probe.excess.value for probe in probes if probe.excess is not None]
    assert np.allclose(excess.value, values[1] - values[0], atol=1e-12)


TOKENS = CHAIN.sample(20, key=0)


def test_points_that_say_nothing() -> None:
    """Tokens at one point: only their frequencies are told, to the probe and the reference."""
    one = tk.PointCodebook(np.ones((3, 2)), allow_duplicates=True)
    found = tk.probe_nonlinearity(one, TOKENS, 1.0, key=0, reference=CHAIN)
    assert abs(float(found.gain)) < 1e-3
    assert found.excess is not None
    assert abs(float(found.excess)) < 0.05


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tokens": TOKENS[:5]}, "tokens must be at least 10, two for each fold"),
        ({"tokens": TOKENS + 1}, "tokens must be whole numbers from 0 to 2"),
        ({"tokens": []}, "tokens must be sequences of ids"),
        ({"tokens": 5}, "tokens must be sequences of ids, one in each row; got 5"),
        ({"features": 5}, "features must be one row for every token"),
        ({"reference": Markov(np.eye(3), 9, [1.0, 0.0, 0.0])}, "tokens must be of length 9"),
        ({"reference": 3}, "reference must be one of tokenkl.sources"),
        ({"features": np.zeros((20, 9, 1))}, "features must be one row for every token"),
        ({"folds": 1}, "folds must be a whole number, at least 2"),
    ],
)
def test_refusals(given: dict[str, Any], said: str) -> None:
    call: Callable[..., object] = tk.probe_nonlinearity
    with pytest.raises(ValueError, match=said):
        call(CODEBOOK, **({"tokens": TOKENS, "snr": 1.0, "key": 0} | given))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_no_levels(shape: tuple[int, ...]) -> None:
    found = tk.probe_nonlinearity(CODEBOOK, TOKENS, np.zeros(shape), key=0, reference=CHAIN)
    assert found.excess is not None
    for one in (found.cross_entropy, found.alone, found.gain, found.excess):
        assert np.shape(one.value) == np.shape(one.standard_error) == shape


def test_only_paired_probes_are_compared() -> None:
    one, other = (tk.probe_nonlinearity(CODEBOOK, TOKENS, 1.0, key=key, folds=2) for key in (0, 1))
    with pytest.raises(ValueError, match="other must be one with the same three"):
        one.minus(other)
    with pytest.raises(ValueError, match="where a probe had no reference"):
        one.minus(one, of="excess")
