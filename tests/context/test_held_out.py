"""Errors of what labels are worth, on numbers whose law is known: each source of error alone."""

import numpy as np
import pytest

from tokenkl.context.held_out import HeldOut

RUNS, SIZES = 400, np.repeat([5, 20], 20)


def _drawn(
    rng: np.random.Generator,
    *,
    sequences: float,
    halves: float,
    labelings: float,
    variates: float,
) -> HeldOut:
    """Two folds; told is about 1 and read about 0.4 for every token."""
    of_folds = variates * rng.standard_normal(2)  # what the sequences of each do to the variates
    mean = np.array([1.0, 0.4 + of_folds.mean()])[:, None]
    of_labels = labelings * rng.standard_normal((3 if labelings else 1, 1, 2, 1))
    folds = []
    for part in (slice(0, None, 2), slice(1, None, 2)):
        sizes = SIZES[part]
        noise = sequences * np.sqrt(sizes) * rng.standard_normal((1, 1, 2, sizes.size))
        of_halves = halves * rng.standard_normal((1, 2, 2, 1)) * sizes
        folds.append((mean + of_labels) * sizes + noise + of_halves)
    order = np.concatenate([np.arange(0, SIZES.size, 2), np.arange(1, SIZES.size, 2)])
    noise = 0.6 * halves * rng.standard_normal((2, 2))
    without = np.array(
        [
            [[1.0, 0.4 + other + one] for one in row]
            for other, row in zip(of_folds[::-1], noise, strict=True)
        ]
    )
    return HeldOut(folds, SIZES[order], without)


@pytest.mark.parametrize("source", ["sequences", "halves", "labelings", "variates"])
def test_errors_are_those_that_are_made(source: str) -> None:
    """The mean square of what is stated, against that of what is made, over many corpora."""
    sizes = dict.fromkeys(("sequences", "halves", "labelings", "variates"), 0.0) | {source: 0.1}
    rng = np.random.default_rng(0)
    nothing = HeldOut([np.zeros((1, 2, 2, 20))] * 2, SIZES, np.zeros((2, 2, 2)))
    for what, exact in (("gain", 0.4), ("share", 0.4)):
        away, stated = [], []
        for _ in range(RUNS):
            drawn = _drawn(rng, **sizes)
            found = drawn.gain(nothing) if what == "gain" else drawn.share()
            away.append(found["value"] - exact)
            stated.append(found["standard_error"])
        # Of RUNS squares with at least two degrees of freedom each: 0.15 is three deviations.
        ratio = np.mean(np.square(stated)) / np.mean(np.square(away))
        assert 0.7 < ratio < 1.4, (what, ratio)


def test_of_nothing_any_share_may_be_read() -> None:
    folds = [np.random.default_rng(0).standard_normal((1, 2, 2, 20)) for _ in range(2)]
    found = HeldOut(folds, np.full(40, 5), np.ones((2, 2, 2))).share()
    assert (found["value"], found["numerical_error"]) == (0.5, 0.5)
