"""Every theorem on random hostile codebooks; `python -m benchmarks.fuzz` goes through more."""

import numpy as np
import pytest

from benchmarks.fuzz import faults, random_codebook


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=[pytest.mark.slow] if seed in (2, 4) else [])
        for seed in range(1, 7)
    ],
)
def test_random_codebooks(seed: int) -> None:
    assert not faults(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [28, 57, 65, 66, 68, 244, 330, 457])
def test_more_random_codebooks(seed: int) -> None:
    """Of 28 tokens at one place have unequal priors; those of 57, 65, 330 multiply to nearly 0."""
    assert not faults(seed)


def test_they_are_as_hostile_as_is_said() -> None:
    made = [random_codebook(seed) for seed in range(200)]
    kinds = {type(codebook).__name__ for codebook, _ in made}
    assert len(kinds) >= 5
    least = min(float(np.min(codebook.log_prior)) for codebook, _ in made)
    sizes = [float(np.abs(codebook.points).max()) for codebook, _ in made]
    assert least < -500
    assert min(sizes) < 1e-100
    assert max(sizes) > 1e100
    size = [float(np.ptp(codebook.points)) for codebook, _ in made]
    reach = [np.sqrt(snr) * one for one, (_, snr) in zip(size, made, strict=True)]
    assert min(map(np.min, filter(np.size, reach))) < 1e-4
    assert max(map(np.max, filter(np.size, reach))) > 1e5
