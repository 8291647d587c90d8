"""The samplers: `DDIM`, which follows the line through the denoised state, and `Ancestral`."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, final

from tokenkl.samplers.base import Level, Sampler, root


@final
@dataclasses.dataclass(frozen=True)
class DDIM(Sampler):
    """x' = alpha' e_hat + sigma' eps_hat with x = alpha e_hat + sigma eps_hat: no fresh noise.

    Song, Meng and Ermon (2021, arXiv 2010.02502), eta = 0.

    Example:
        >>> import tokenkl as tk
        >>> now, then = tk.Level(0.6, 0.8), tk.Level(0.8, 0.6)
        >>> round(tk.DDIM().step(1.0, 0.5, now, then), 6)
        0.925
    """

    name: ClassVar[str] = "ddim"
    draws: ClassVar[bool] = False

    def step(self, x: Any, mean: Any, now: Level, then: Level, fresh: Any = None) -> Any:
        if then.snr is not None:  # in units of the noise, which then keeps its size
            return x + (then.alpha - now.alpha) * mean
        noise = x - now.alpha * mean
        # Plain numbers are divided first, in double precision, whatever that of the state.
        if isinstance(now.sigma, float):
            return then.alpha * mean + then.sigma / now.sigma * noise
        return then.alpha * mean + then.sigma * noise / now.sigma


@final
@dataclasses.dataclass(frozen=True)
class Ancestral(Sampler):
    """A draw from the law of the next state given this one and the token, with e_hat in its place.

    Ho, Jain and Abbeel (2020, arXiv 2006.11239), with the exact posterior variance. z = snr x /
    alpha is a Brownian motion in snr with drift e, so that given z and e the next one is
    z + (snr' - snr) e + N(0, snr' - snr); `coefficients` has this for x.

    Example:
        >>> import tokenkl as tk
        >>> now, then = tk.Level.of_snr(0.0), tk.Level.of_snr(4.0)
        >>> tk.Ancestral().step(1.0, 0.5, now, then, 0.25)
        1.25
    """

    name: ClassVar[str] = "ancestral"
    draws: ClassVar[bool] = True

    def step(self, x: Any, mean: Any, now: Level, then: Level, fresh: Any = None) -> Any:
        kept, towards, spread = self.coefficients(now, then)
        return kept * x + towards * mean + spread * fresh

    def coefficients(self, now: Level, then: Level) -> tuple[Any, Any, Any]:
        """Factors of state, denoised state and fresh noise."""
        if then.snr is not None:
            kept, towards = now.alpha / then.alpha, then.alpha - now.alpha**2 / then.alpha
            return kept, towards, root(then.snr - now.snr) / then.alpha
        kept = now.alpha * then.sigma**2 / (then.alpha * now.sigma**2)
        ratio = kept * now.alpha / then.alpha  # snr / snr', also where both alphas are small
        return kept, then.alpha * (1 - ratio), then.sigma * root(1 - ratio)
