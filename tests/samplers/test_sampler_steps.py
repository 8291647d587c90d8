"""One step for every array library; names and words; old argument names."""

import dataclasses
import itertools
import math
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tokenkl as tk
from tokenkl._validation import renamed
from tokenkl.divergence import produced_law
from tokenkl.samplers import as_decision, as_sampler

torch = pytest.importorskip("torch")
SAMPLERS = [tk.DDIM(), tk.Ancestral()]
LEVELS = {
    "state": (tk.Level(0.6, 0.8), tk.Level(0.8, 0.6)),
    "from pure noise": (tk.Level(0.0, 1.0), tk.Level(0.1, 0.9)),
    "to clean data": (tk.Level(0.6, 0.8), tk.Level(1.0, 0.0)),
    "noise units": (tk.Level.of_snr(0.5), tk.Level.of_snr(2.0)),
    "noise units, from 0": (tk.Level.of_snr(0.0), tk.Level.of_snr(2.0)),
}
rng = np.random.default_rng(0)
X, MEAN, FRESH = rng.standard_normal((3, 4, 2))
at_levels = pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
by_name = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda one: one.name)


@by_name
@at_levels
def test_every_array_library(sampler: tk.Sampler, levels: tuple[tk.Level, tk.Level]) -> None:
    expected = sampler.step(X, MEAN, *levels, FRESH)
    x, mean, fresh = map(torch.from_numpy, (X, MEAN, FRESH))
    tensors = sampler.step(x, mean, *levels, fresh)
    np.testing.assert_allclose(tensors.numpy(), expected, rtol=1e-14)
    first, second, third = (jnp.asarray(one, jnp.float32) for one in (X, MEAN, FRESH))
    for name, found in (
        ("jax", sampler.step(jnp.asarray(X), jnp.asarray(MEAN), *levels, jnp.asarray(FRESH))),
        ("traced", jax.jit(sampler.step)(first, second, *levels, third)),
    ):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6, err_msg=name)
    if levels[0].snr is None:  # levels as tensors, and as arrays of one for every state
        now, then = (tk.Level(*map(torch.tensor, level[:2])) for level in levels)
        found = sampler.step(x, mean, now, then, fresh)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-7)
        now, then = (tk.Level(*(np.full((4, 1), one) for one in level[:2])) for level in levels)
        np.testing.assert_allclose(sampler.step(X, MEAN, now, then, FRESH), expected, rtol=1e-14)


@by_name
def test_units_do_not_matter(sampler: tk.Sampler) -> None:
    """A state over its sigma moves as the state does."""
    now, then = LEVELS["state"]
    first, second = (tk.Level.of_snr((one.alpha / one.sigma) ** 2) for one in (now, then))
    moved = sampler.step(X / now.sigma, MEAN, first, second, FRESH)
    np.testing.assert_allclose(
        moved, sampler.step(X, MEAN, now, then, FRESH) / then.sigma, rtol=1e-14
    )


@by_name
@at_levels
def test_the_law_of_a_state_is_kept(sampler: tk.Sampler, levels: Any) -> None:
    """With the true token for e_hat, mean and variance are those of the next level, exactly."""
    now, then = levels
    zero, one = np.zeros(1), np.ones(1)
    token = sampler.step(now.alpha * one, one, now, then, zero)
    np.testing.assert_allclose(token, then.alpha, rtol=1e-14)
    scale = sampler.step(now.sigma * one, zero, now, then, zero)
    fresh = sampler.step(zero, zero, now, then, one) if sampler.draws else zero
    np.testing.assert_allclose(np.hypot(scale, fresh), then.sigma, rtol=1e-14)


def test_names() -> None:
    assert as_sampler("ddim") == tk.DDIM()
    assert as_sampler("ddpm") == as_sampler("ancestral") == tk.Ancestral()
    assert as_sampler(tk.DDIM()) is not None
    assert hash(tk.DDIM()) != hash(tk.Ancestral()) or tk.DDIM() != tk.Ancestral()
    assert as_decision("argmax") == as_decision("map") == "map"
    assert as_decision("nearest", ("map", "nearest")) == "nearest"
    wrong: Any
    for wrong in ("euler", 3, None, tk.DDIM):
        with pytest.raises(ValueError, match="sampler must be one of 'ddim', 'ancestral', 'ddpm'"):
            as_sampler(wrong)
    with pytest.raises(ValueError, match="decision must be one of 'map', 'sample'"):
        as_decision("nearest")


def test_old_names_of_arguments() -> None:
    grid = [0.0, 1.0, 5.0]
    new = produced_law(tk.FSQ((3,)), grid, sampler=tk.Ancestral(), start=0.7)
    old: Any = produced_law
    found = old(tk.FSQ((3,)), snr_grid=grid, sampler="ddpm", start_scale=0.7)
    np.testing.assert_array_equal(found.probabilities, new.probabilities)
    assert new.sampler == found.sampler == "ancestral"
    with pytest.raises(ValueError, match="start_scale must be left out where start"):
        old(tk.FSQ((3,)), grid, start_scale=0.7, start=0.7)


def test_renamed_passes_all_else_on() -> None:
    @renamed(old="new")
    def function(first: int, *, new: int = 0) -> tuple[int, int]:
        """Words."""
        return first, new

    assert function(1, new=2) == cast(Any, function)(1, old=2) == (1, 2)
    assert function.__doc__ == "Words."


@dataclasses.dataclass(frozen=True)
class Halfway(tk.Sampler):
    """DDIM with a denoised state that is half as far away."""

    name: ClassVar[str] = "halfway"
    draws: ClassVar[bool] = False

    def step(self, x: Any, mean: Any, now: tk.Level, then: tk.Level, fresh: Any = None) -> Any:
        return tk.DDIM().step(x, mean / 2, now, then)


def test_a_sampler_of_ones_own() -> None:
    """It is simulated, also where others have an exact law; a wrong method is refused."""
    grid = [0.0, 0.5, 3.0]
    found = produced_law(tk.FSQ((3,)), grid, sampler=Halfway(), key=0)
    assert str(found.kl.method) == "halfway, simulated paths"
    h = np.sqrt(grid)
    starts = np.random.default_rng(1).standard_normal(10**5)
    y = starts.copy()
    for now, then in itertools.pairwise(h):
        p = np.exp(-((y[:, None] - now * np.array([-1, 0, 1])) ** 2) / 2)
        y = y + (then - now) * (p @ [-1, 0, 1]) / p.sum(axis=1) / 2
    middle = (np.abs(y) < h[-1] / 2).mean()
    error = math.sqrt(0.25 / 10**5 + 0.25 / 2**16)
    assert abs(found.probabilities[1] - middle) < 4.3 * error
    with pytest.raises(ValueError, match="method must be MonteCarlo"):
        produced_law(tk.FSQ((3,)), grid, sampler=Halfway(), method=tk.Exact())
