"""Closed forms of the discrete channels against their joint laws, at both ends of the noise."""

import mpmath
import numpy as np
import pytest
from channels.brute import joint, quantities

import tokenkl as tk
from tokenkl.channels import DiscreteChannel

ZIPF = 1 / np.arange(1.0, 31) ** 3
PRIORS = {
    "one": [1.0],
    "two": [0.5, 0.5],
    "equal": [0.2] * 5,
    "nearly certain": [1 - 1e-10, 1e-10],
    "certain": [1.0, 1e-300],
    "hardly ever": [1e-300, 1e-150, 0.3, 0.7],
    "uneven": [0.9, 0.05, 0.05 - 1e-12, 1e-12],
    "Zipf": ZIPF / ZIPF.sum(),
}
LEVELS = np.array(
    [
        *(0, 1e-307, 1e-290, 1e-100, 1e-16, 1e-8, 0.01, 0.3, 0.6, 0.75, 0.95),
        *(1 - 1e-5, 1 - 1e-10, 1 - 2.0**-53, 1),
    ]
)


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize("kind", [tk.Masking, tk.UniformNoise])
def test_against_the_joint_law(
    kind: type[DiscreteChannel], prior: list[float] | np.ndarray
) -> None:
    """Within the numerical error, which is a few roundings of the value. 700 digits: 1e-307^2."""
    channel = kind(np.array(prior))
    found = channel.profile(LEVELS)
    for place, level in enumerate(LEVELS):
        easy = 1e-20 < level < 1 and min(prior) > 1e-20
        with mpmath.workdps(100 if easy else 700):
            exact = quantities(joint(channel.variable, channel.prior, level))
            for name, value in exact.items():
                estimate = found[name][place]
                error = abs(mpmath.mpf(float(estimate.value)) - value)
                assert error <= estimate.numerical_error, (name, level)
                assert estimate.numerical_error <= 5e-15 * estimate.value + 1e-300


def test_a_million_equal_priors() -> None:
    """Each of K tokens tells the same, so that one column of the joint law is enough."""
    K = 10**6
    levels = np.array([1e-200, 1e-3, 0.5, 1 - 1e-6, 1 - 1e-15])
    found = tk.UniformNoise(np.full(K, 1 / K)).profile(levels)
    for place, level in enumerate(levels):
        with mpmath.workdps(500):
            other = mpmath.mpf(float(level)) / K
            own = 1 - other * (K - 1)
            error = other * (K - 1)
            entropy = -own * mpmath.log(own) - error * mpmath.log(other)
            exact = {
                "accuracy": own,
                "error_probability": error,
                "conditional_entropy": entropy,
                "mutual_information": mpmath.log(K) - entropy,
                "sampling_error": error * (1 + own - other),
            }
            for name, value in exact.items():
                estimate = found[name][place]
                assert abs(mpmath.mpf(float(estimate.value)) - value) <= estimate.numerical_error


def test_groups_and_blocks_change_nothing() -> None:
    """Priors that differ in the last place are summed one by one, in blocks of levels."""
    K = 3000
    equal = np.full(K, 1 / K)
    nearly = equal * (1 + np.arange(-K // 2, K // 2) * 1e-16)
    assert np.unique(nearly).size > 100
    levels = np.linspace(0, 1, 1001)
    for kind in (tk.Masking, tk.UniformNoise):
        grouped, single = kind(equal).profile(levels), kind(nearly).profile(levels)
        for name in grouped.estimates:
            np.testing.assert_allclose(grouped[name].value, single[name].value, rtol=2e-12)


def test_the_error_is_honest_for_many_laws() -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        prior = rng.dirichlet(np.full(rng.integers(2, 9), 10.0 ** rng.uniform(-1, 1)))
        prior = np.maximum(prior, 1e-200) / np.maximum(prior, 1e-200).sum()
        level = rng.choice([rng.random(), 10 ** rng.uniform(-12, 0), 1 - 10 ** rng.uniform(-12, 0)])
        for channel in (tk.Masking(prior), tk.UniformNoise(prior)):
            found = channel.profile(level)
            with mpmath.workdps(100):
                exact = quantities(joint(channel.variable, prior, level))
                for name, value in exact.items():
                    error = abs(mpmath.mpf(float(found[name].value)) - value)
                    assert error <= found[name].numerical_error, (name, prior, level)
