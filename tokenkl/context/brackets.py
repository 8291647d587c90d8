"""What clean contexts say of noisy ones: `contextual_bracket`, and `context_information`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from tokenkl._random import draws_of, seed_of, split
from tokenkl._validation import check_choice, check_count, reject
from tokenkl.codebooks.base import Codebook
from tokenkl.context.profiles import Case, check_source
from tokenkl.estimate import Bound, Estimate
from tokenkl.information.estimators import Progress
from tokenkl.information.methods import Method
from tokenkl.information.plans import QUANTITIES
from tokenkl.information.profiles import Profile
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments
from tokenkl.numerics.unseen import labels_of, represented, seen_once
from tokenkl.quantities import QUANTITIES as TABLE
from tokenkl.sources import Given, Source

#: What is proved of whole sequences, and the clean context of its upper bound.
OF_SEQUENCES: dict[str, Given] = {"conditional_entropy": "left", "mmse": "none"}
CITATION = "docs/theory/context.md"


@dataclasses.dataclass(frozen=True, eq=False)
class ContextBracket:
    """lower <= quantity <= upper, of a token or a sequence that is observed as a whole.

    `clean` and `alone` are the estimates that the ends come from: of tokens among clean others, and
    of what is above. Ends are those of their confidence intervals at `level`, each two-sided.
    """

    quantity: str
    snr: Float[np.ndarray, " *shape"]
    lower: Bound
    upper: Bound
    clean: Estimate
    alone: Estimate
    level: float


def contextual_bracket(
    codebook: Codebook,
    source: Source,
    snr: Float[Any, " *shape"],
    quantity: str = "conditional_entropy",
    *,
    of: Literal["token", "sequence"] = "token",
    position: int | None = None,
    sequences: int | None = None,
    level: float = 0.999,
    method: Method | None = None,
    key: Any = None,
) -> ContextBracket:
    """Bounds on what all observations say of a token, or of the sequence, from clean contexts.

    They need a language model alone, p(k_i | context), and one observation at a time. Noise is
    independent over positions. Of a token, averaged over positions, for every quantity (statement
    23 of docs/theory/context.md):

        H(k_i | Y_i, others clean) <= H(k_i | Y) <= H(k_i | Y_i),

    and likewise error probability and MMSE; accuracy and information the other way round. Of a
    sequence: sum_i H(k_i | Y_i, others clean) <= H(X | Y) <= sum_i H(k_i | Y_i, those before
    clean); for the MMSE the upper bound is that of tokens by themselves, since clean tokens before
    it may tell more of a token than noisy ones on both sides, or less.

    Args:
        codebook, source, snr, position, sequences, method, key: as in `contextual_profile`.
        quantity: one of `QUANTITIES`; of a sequence "conditional_entropy" or "mmse".
        of: a "token" or the "sequence".
        level: confidence at which sampled ends enter; what is exact enters with its error.

    Raises:
        ValueError: as for `contextual_profile`, or a quantity for which nothing is proved.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=4)
        >>> found = tk.contextual_bracket(tk.FSQ((2,)), chain, 1.0)
        >>> [round(float(end.value), 4) for end in (found.lower, found.upper)]
        [0.1414, 0.3563]
    """
    check_source(source)
    check_choice(of, ("token", "sequence"), "of")
    known = tuple(OF_SEQUENCES) if of == "sequence" else QUANTITIES
    check_choice(quantity, known, "quantity")
    if of == "sequence" and position is not None:
        reject("position", position, "None for a sequence")
    keys, ends = split(key, 2), []
    outer: Given = OF_SEQUENCES[quantity] if of == "sequence" else "none"
    contexts: tuple[Given, ...] = ("others", outer)
    names = (quantity,)
    for given, part in zip(contexts, keys, strict=True):
        case = Case(codebook, snr, method, part)
        case.names(names, source.K, source.token_entropy(position))
        if given == "none":
            found = case.weighted(source.contexts("none", position=position), names)
        else:
            found = case.clean(source, given, position, sequences, names)
        one = found[quantity]
        ends.append(one * source.length if of == "sequence" else one)
    clean, alone = (dataclasses.replace(one, quantity=quantity) for one in ends)
    below, above = clean.confidence_interval(level), alone.confidence_interval(level)
    words = {"citation": CITATION, "quantity": quantity, "unit": clean.unit}
    tell = {"others": "clean neighbours", "left": "clean past", "none": "no context"}
    if TABLE[quantity].grows:
        low = Bound(above.low, "lower", tell[outer], **words)
        high = Bound(below.high, "upper", tell["others"], **words)
    else:
        low = Bound(below.low, "lower", tell["others"], **words)
        high = Bound(above.high, "upper", tell[outer], **words)
    return ContextBracket(quantity, np.asarray(case.snr), low, high, clean, alone, level)


@dataclasses.dataclass(frozen=True, eq=False)
class ContextInformation:
    """I(k_i; Y_j, j != i | Y_i) over SNRs, averaged over positions, in nats.

    - `values`: at every SNR: what the entropy of a token falls by, from its own observation to all.
    - `integral`: over log snr, between the ends of the grid, by the trapezoidal rule; its numerical
      error is the difference to every other point.
    - `half`: the SNR at which the integral has reached half of that.
    - `profile`: what all observations say of a token, from the same ones (`contextual_profile`).
    """

    snr: Float[np.ndarray, " levels"]
    values: Estimate
    integral: Estimate
    half: Estimate
    profile: Profile

    @property
    def bits(self) -> ContextInformation:
        """With every information in bits."""
        parts = self.values.bits, self.integral.bits, self.half, self.profile.bits
        return ContextInformation(self.snr, *parts)


def context_information(
    codebook: Codebook,
    source: Source,
    snr: Float[Any, " levels"],
    *,
    position: int | None = None,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> ContextInformation:
    """How much of what is known of a token comes from noisy neighbours, and at which noise.

    The two entropies are of the same observations, so that errors are those of the difference.

    Args:
        codebook, source, position, method, key, progress: as in `contextual_profile`.
        snr: at least three, above 0, in ascending order.

    Raises:
        ValueError: as for `contextual_profile`, or SNRs that are none of these.

    Example:
        >>> import numpy as np
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=4)
        >>> found = tk.context_information(tk.FSQ((2,)), chain, np.geomspace(0.01, 100, 33), key=0)
        >>> bool(0.3 < found.half.value < 1.5)
        True
    """
    check_source(source)
    case = Case(codebook, snr, method, key, progress)
    levels = np.asarray(case.snr)
    if levels.ndim != 1 or levels.size < 3 or levels[0] <= 0 or (np.diff(levels) <= 0).any():
        reject("snr", snr, "three or more, above 0, in ascending order")
    names = case.names(None, source.K, source.token_entropy(position))
    found = case.joint(source, position, ("conditional_entropy",))
    words: dict[str, Any] = {"unit": "nats", "seed": seed_of(key), "draws": draws_of(key)}
    values = found.context.estimate(levels.shape, quantity="context information", **words)
    x, terms = np.log(levels), found.terms
    whole = np.trapezoid(terms, x, axis=0)
    every_other = np.unique(np.append(np.arange(0, x.size, 2), x.size - 1))
    coarse = np.trapezoid(terms[every_other], x[every_other], axis=0)
    moments = Moments((1,))
    moments.add(whole[None])
    reach = float(np.max(values.sample_range)) * float(x[-1] - x[0])
    supported = (moments.effective() >= MIN_EFFECTIVE) & moments.carried()
    supported &= represented(found.once, whole.size, moments.standard_error, reach)
    integral = Estimate(
        float(moments.mean[0]),
        standard_error=float(moments.standard_error[0]),
        numerical_error=abs(float(whole.mean() - coarse.mean()))
        + float(np.trapezoid(np.ravel(values.numerical_error), x)),
        n_samples=terms.shape[1],
        method=values.method,
        quantity="integral of context information over log snr",
        interval_supported=bool(supported[0]),
        sample_range=reach,
        **words,
    )
    profile = case.profile(case.estimates(found.quantities, names), names)
    return ContextInformation(levels, values, integral, _half(x, terms, integral), profile)


def _half(x: np.ndarray, terms: np.ndarray, integral: Estimate) -> Estimate:
    """The SNR where the integral of the mean is half done.

    Of each term the deviation from half, at this point, over the mean's height there, is what the
    point moves by (the delta method).
    """
    mean = terms.mean(axis=1)
    steps = np.diff(x)[:, None] * (terms[1:] + terms[:-1]) / 2
    done = np.concatenate([np.zeros((1, terms.shape[1])), np.cumsum(steps, axis=0)])
    total = done[-1].mean()
    if total <= 0:
        nowhere = dataclasses.replace(integral, value=math.nan, standard_error=math.inf)
        return dataclasses.replace(nowhere, unit="", quantity="snr of half the context information")
    place = int(np.clip(np.searchsorted(done.mean(axis=1), total / 2) - 1, 0, x.size - 2))
    left = done.mean(axis=1)[place]
    # Within a step the curve is a line: its integral is a parabola.
    width, height, slope = x[place + 1] - x[place], mean[place], mean[place + 1] - mean[place]
    need = (total / 2 - left) / width
    part = 2 * need / (height + math.sqrt(max(height**2 + 2 * slope * need, 0.0)))
    here = height + slope * part
    inside = terms[place] + (terms[place + 1] - terms[place]) * part / 2
    moved = (done[-1] / 2 - done[place] - width * part * inside) / here
    point = math.exp(x[place] + width * part)
    return dataclasses.replace(
        integral,
        value=point,
        standard_error=point * float(moved.std(ddof=1)) / math.sqrt(moved.size),
        numerical_error=point * integral.numerical_error / here,
        sample_range=math.inf,
        quantity="snr of half the context information",
        unit="",
    )


def entropy_per_token(source: Source, n: int | None = None, *, key: Any = None) -> Estimate:
    """H(k_1 .. k_L) / L in nats: what a perfect model of the clean sequence still pays a token.

    Of a stationary chain it tends to `Markov.entropy_rate` as sequences grow.

    Args:
        source: any.
        n: sequences to average -log P / L over, at least 2; None: exact, where that can be had.
        key: integer seed or JAX key, where sequences are sampled.

    Raises:
        ValueError: n below 2, or too many sequences to list.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=1000)
        >>> round(float(tk.context.entropy_per_token(chain)), 4)
        0.3255
    """
    check_source(source)
    if n is None:
        value = source.entropy() / source.length
        error = 1e-13 * abs(value)
        return Estimate(value, numerical_error=error, quantity="entropy per token", unit="nats")
    tokens = source.sample(check_count(n, "n", 2), key=key)
    moments = Moments((1,))
    moments.add(-source.log_prob(tokens)[None] / source.length)
    error, most = moments.standard_error[0], math.log(source.K)
    varied = moments.carried() & (n >= MIN_EFFECTIVE)
    varied &= represented(seen_once(labels_of(tokens)), n, error, most)
    return Estimate(
        float(moments.mean[0]),
        standard_error=float(error),
        numerical_error=1e-13 * abs(float(moments.mean[0])),
        degrees_of_freedom=n - 1,
        n_samples=n,
        interval_supported=bool(varied[0]),
        # All that has a probability of 1 / n together adds no more than one draw of this.
        sample_range=most + math.log(n) / source.length,
        skewness=float(moments.skewness[0]),
        method="sequences, Monte-Carlo",
        seed=seed_of(key),
        draws=draws_of(key),
        quantity="entropy per token",
        unit="nats",
    )
