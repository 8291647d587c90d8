"""Masking and uniform noise: sampling, posteriors, results and refusals."""

from collections.abc import Callable
from typing import Any, cast

import jax
import mpmath
import numpy as np
import pytest
from channels.brute import joint
from scipy import special

import tokenkl as tk
from tokenkl.channels import DiscreteChannel

PRIOR = np.array([0.55, 0.25, 0.15, 0.05])
CHANNELS: list[DiscreteChannel] = [tk.Masking(PRIOR), tk.UniformNoise(PRIOR)]
by_name = pytest.mark.parametrize("channel", CHANNELS, ids=lambda one: one.variable)


@by_name
@pytest.mark.parametrize("noise", [0.0, 0.4, 1.0])
def test_samples_follow_the_joint_law(channel: DiscreteChannel, noise: float) -> None:
    N = 100_000
    ids, seen = channel.sample(noise, N, key=2)
    shape = (channel.n_observations, channel.K)
    counts = np.bincount(seen * channel.K + ids, minlength=shape[0] * shape[1])
    expected = N * np.array(joint(channel.variable, PRIOR, noise), dtype=float).ravel()
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    chi2 = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert special.chdtrc(possible.sum() - 1, chi2) > 1e-5
    np.testing.assert_array_equal(channel.sample(noise, N, key=2), (ids, seen))


@by_name
@pytest.mark.parametrize("noise", [0.0, 1e-300, 1e-12, 0.4, 1 - 1e-12, 1.0])
@pytest.mark.parametrize("prior", [PRIOR, [1.0, 1e-300], [1 - 1e-9, 1e-9]], ids=str)
def test_posterior_is_bayes_rule(channel: DiscreteChannel, noise: float, prior: Any) -> None:
    channel = type(channel)(prior)
    found = channel.log_posterior(np.arange(channel.n_observations), noise)
    with mpmath.workdps(700):
        for y, row in enumerate(joint(channel.variable, channel.prior, noise)):
            if sum(row) == 0:  # never observed
                continue
            for k, weight in enumerate(row):
                exact = float(mpmath.log(weight / sum(row))) if weight else -np.inf
                assert found[y, k] == pytest.approx(exact, rel=2e-15, abs=0), (y, k)


@pytest.mark.parametrize("noise", [5e-324, 1e-310, 3e-308])
def test_uniform_noise_whose_odds_overflow(noise: float) -> None:
    """The odds of another token than the one shown are noise / K against its prior."""
    prior = np.array(PRIOR)
    found = tk.UniformNoise(prior).log_posterior(np.arange(prior.size), noise)
    odds = np.log(noise) - np.log(prior.size) + np.log(prior) - np.log(prior)[:, None]
    others = ~np.eye(prior.size, dtype=bool)
    assert found[others] == pytest.approx(odds[others], rel=1e-14)


@by_name
def test_posterior_is_calibrated(channel: DiscreteChannel) -> None:
    """The mean loss of the posterior is the conditional entropy."""
    ids, seen = channel.sample(0.4, 50_000, key=1)
    loss = -np.take_along_axis(channel.log_posterior(seen, 0.4), ids[:, None], axis=1)
    error = loss.std() / np.sqrt(loss.size)
    entropy = float(channel.profile(0.4, ["conditional_entropy"])["conditional_entropy"])
    assert abs(loss.mean() - entropy) < 4.3 * error


def test_posterior_broadcasts() -> None:
    channel = tk.UniformNoise(PRIOR)
    levels = np.array([0.1, 0.5, 0.9])
    found = channel.log_posterior(np.array([[0], [3]]), levels)
    assert found.shape == (2, 3, 4)
    np.testing.assert_array_equal(found[1, 2], channel.log_posterior(3, 0.9))


@by_name
def test_profile_over_its_own_variable(channel: DiscreteChannel) -> None:
    levels = np.array([[0.0, 0.2, 1.0]])
    found = channel.profile(levels, ["mutual_information", "accuracy"])
    assert (found.variable, found.n, found.K) == (channel.variable, None, 4)
    assert found["accuracy"].value.shape == (1, 3)
    assert found["mutual_information"].unit == "nats"
    assert list(found.to_frame())[:2] == [channel.variable, "mutual_information"]
    record = found.to_json()
    assert record[channel.variable] == [0.0, 0.2, 1.0]
    assert record["channel"] == f"{type(channel).__name__}, K = 4"
    assert "snr" not in record
    assert "n" not in record
    assert f"3 levels of {channel.variable}" in repr(found)
    with pytest.raises(AttributeError, match="snr must be asked of a profile over it"):
        _ = found.snr
    np.testing.assert_array_equal(found.noise, levels)
    whole = channel.profile(np.array([]))
    assert tuple(whole.estimates) == channel.quantities
    assert whole["accuracy"].value.shape == (0,)
    assert channel.profile(0.0)["conditional_entropy"].numerical_error == 0


@by_name
@pytest.mark.parametrize("quantity", DiscreteChannel.quantities)
def test_transformations(channel: DiscreteChannel, quantity: str) -> None:
    def value(level: Any) -> Any:
        return channel.profile(level, [quantity])[quantity].value

    levels = np.array([0.05, 0.3, 0.8])
    found = jax.jit(lambda one, level: one.profile(level))(channel, levels)
    assert isinstance(found, tk.Profile)
    assert found.variable == channel.variable
    np.testing.assert_allclose(found[quantity].value, value(levels), rtol=3e-5)
    assert np.isnan(found[quantity].numerical_error).all()
    slopes = jax.vmap(jax.grad(value))(levels)
    expected = (value(levels + 1e-6) - value(levels - 1e-6)) / 2e-6
    np.testing.assert_allclose(slopes, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tk.Masking([0.5, 0.0, 0.5]), "prior must be strictly positive"),
        (lambda: tk.Masking(None), "prior must be an array of real numbers"),
        (lambda: tk.UniformNoise([]), "prior must be a probability vector"),
        (lambda: tk.UniformNoise([[1.0]]), "prior must be an array with 1 axes"),
        (lambda: CHANNELS[0].profile(1.5), r"masked must be in \[0, 1\]; got 1.5"),
        (lambda: CHANNELS[1].profile(-0.1), r"replaced must be in \[0, 1\]"),
        (lambda: CHANNELS[1].profile(0.1, ["mmse"]), "no coordinates; got 'mmse'"),
        (lambda: CHANNELS[1].profile(0.1, ["loss"]), "quantities must be one of"),
        (lambda: CHANNELS[1].profile(0.1, []), "quantities must be at least one of"),
        (lambda: CHANNELS[0].profile(0.1, method=tk.MonteCarlo()), "method must be Exact"),
        (lambda: CHANNELS[0].sample(cast(Any, [0.1]), 3, key=0), "masked must be one number"),
        (lambda: CHANNELS[0].sample(0.1, 0, key=0), "n_samples must be"),
        (lambda: CHANNELS[0].sample(0.1, 2**27, key=0), "small enough"),
        (lambda: CHANNELS[0].sample(0.1, 3, key=None), "key must be"),
        (
            lambda: CHANNELS[0].log_posterior(5, 0.1),
            "whole numbers from 0 to 4",
        ),
        (
            lambda: CHANNELS[1].log_posterior(4, 0.1),
            "whole numbers from 0 to 3",
        ),
        (lambda: CHANNELS[1].log_posterior([0, 1], [0.1] * 3), "replaced must be of a shape"),
        (lambda: CHANNELS[1].log_posterior(np.zeros(2**25, int), 0.1), "small enough"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert len(str(refused.value).splitlines()) == 1
