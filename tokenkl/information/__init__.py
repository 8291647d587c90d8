"""What a noisy observation says about the token: accuracy, entropy, information, MMSE.

The channel is Y = sqrt(snr) e_k + eps with eps ~ N(0, I), which every diffusion schedule reduces
to at snr = alpha^2 / sigma^2. `profile` finds several quantities at many SNRs at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float

from tokenkl.codebooks import Codebook
from tokenkl.estimate import Estimate
from tokenkl.information.bits import bit_metric_information, gray_labels
from tokenkl.information.estimators import Progress
from tokenkl.information.exact.estimators import exact_quantities
from tokenkl.information.methods import Auto, Exact, Method, MonteCarlo, RareEvents
from tokenkl.information.plans import QUANTITIES, Plan, plan
from tokenkl.information.profiles import Profile

__all__ = [
    "QUANTITIES",
    "Auto",
    "Exact",
    "MonteCarlo",
    "Plan",
    "Profile",
    "RareEvents",
    "accuracy",
    "bit_metric_information",
    "conditional_entropy",
    "error_probability",
    "exact_quantities",
    "gray_labels",
    "mmse",
    "mutual_information",
    "plan",
    "profile",
    "sampling_error",
]


def accuracy(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """Bayes accuracy E max_k p(k | Y): the probability that the best guess of the token is right.

    Args:
        codebook: any codebook.
        snr: signal-to-noise ratios alpha^2 / sigma^2, at least 0; the result has their shape.
        method: `Exact()`, `MonteCarlo(...)`, `RareEvents(...)`, `Auto(...)`, or None, which is
            `Auto()`: exact where the structure allows it; elsewhere Monte-Carlo, and importance
            sampling of the errors where they are rare.
        key: integer seed or JAX key; needed where the method samples.
        progress: called with (samples done, samples wanted) while sampling.

    Returns:
        An `Estimate` without unit.

    Raises:
        ValueError: snr negative or not finite, no key where one is needed, or an exact method for
            a codebook that has none.

    Example:
        >>> import tokenkl as tk
        >>> round(float(tk.accuracy(tk.FSQ((2, 2)), 0.3**2)), 6)
        0.381815
    """
    return _only("accuracy", codebook, snr, method, key, progress)


def error_probability(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """Bayes error probability 1 - E max_k p(k | Y), without cancellation at low noise.

    Arguments, result and errors as in `accuracy`.
    """
    return _only("error_probability", codebook, snr, method, key, progress)


def sampling_error(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """S = E[1 - sum_k p(k | Y)^2]: the probability that a token drawn from the posterior is wrong.

    What a sampler loses that draws each token where it could take the best guess: between the error
    probability P_e and 2 P_e. Small ones keep their digits. Arguments, result and errors as in
    `accuracy`.

    Example:
        >>> import tokenkl as tk
        >>> round(float(tk.sampling_error(tk.FSQ((2, 2)), 0.3**2)), 6)
        0.706834
    """
    return _only("sampling_error", codebook, snr, method, key, progress)


def conditional_entropy(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """H(token | Y) in nats: the floor of the cross-entropy loss at this noise level.

    Arguments, result and errors as in `accuracy`.
    """
    return _only("conditional_entropy", codebook, snr, method, key, progress)


def mutual_information(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """I(token; Y) = H(prior) - H(token | Y) in nats, with full relative precision at low SNR.

    Arguments, result and errors as in `accuracy`.
    """
    return _only("mutual_information", codebook, snr, method, key, progress)


def mmse(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """E || e_k - E[e_k | Y] ||^2: the smallest mean squared error of a denoiser.

    In squared units of the codebook's coordinates. Arguments, result and errors as in `accuracy`.
    """
    return _only("mmse", codebook, snr, method, key, progress)


def profile(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    quantities: str | Sequence[str] = QUANTITIES,
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Profile:
    """Several quantities over a grid of SNRs, from one pass.

    Arguments and errors as in `accuracy`; `quantities` is any selection of `QUANTITIES`, which are
    the default, and "sampling_error", which is found where it is named. Where only some of them
    have an exact method (accuracy, for planar codebooks), the others are sampled.

    Example:
        >>> import tokenkl as tk
        >>> found = tk.profile(tk.OneHot(8), [1.0, 4.0], ["error_probability", "sampling_error"])
        >>> bool((found["error_probability"].value < found["sampling_error"].value).all())
        True
    """
    return plan(codebook, snr, quantities, method=method).profile(key, progress)


def _only(
    name: str, codebook: Codebook, snr: Any, method: Method | None, key: Any, progress: Any
) -> Estimate:
    return plan(codebook, snr, (name,), method=method).run(key, progress)[name]
