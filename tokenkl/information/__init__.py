"""What a noisy observation says about the token: accuracy, entropy, information, MMSE.

The channel is Y = sqrt(snr) e_k + eps with eps ~ N(0, I), which every diffusion schedule reduces
to at snr = alpha^2 / sigma^2. `profile` finds several quantities at many SNRs at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from tokenkl._random import draws_of, seed_of
from tokenkl._validation import check_choice, check_snr, is_traced, reject
from tokenkl.codebooks import Codebook, LatticeCodebook, OneHot, PointCodebook, ProductCodebook
from tokenkl.estimate import PER_VALUE, Estimate
from tokenkl.information.exact.onehot import has_reach, onehot_profile
from tokenkl.information.exact.planar import PLANAR_QUANTITIES, planar_profile, planar_rivals
from tokenkl.information.exact.product import product_profile
from tokenkl.information.lattice.accuracy import decoded_profile, is_decoded
from tokenkl.information.methods import Exact, Method, MonteCarlo
from tokenkl.information.profiles import Profile
from tokenkl.information.rare.profile import COMPLEMENTS, rare_is_better, rare_profile
from tokenkl.information.rare.profile import STATISTICS as RARE_STATISTICS
from tokenkl.information.residual.profile import residual_profile, too_large_to_enumerate
from tokenkl.information.sampling.clusters import SKEWNESS, Clusters, clustered_profile, clusters_of
from tokenkl.information.sampling.montecarlo import (
    DEFAULT_SAMPLES,
    Progress,
    sample_profile,
    traced_profile,
)
from tokenkl.numerics.scale import power_of_two

__all__ = [
    "QUANTITIES",
    "Exact",
    "MonteCarlo",
    "Profile",
    "accuracy",
    "conditional_entropy",
    "error_probability",
    "exact_quantities",
    "mmse",
    "mutual_information",
    "profile",
]

EPS = np.finfo(float).eps
#: How far from a line points may lie, over their extent, to count as on it: some roundings.
ON_A_LINE = 2e-15

#: Quantity -> unit.
UNITS = {
    "accuracy": "",
    "error_probability": "",
    "conditional_entropy": "nats",
    "mutual_information": "nats",
    "mmse": "squared distance",
}
QUANTITIES = tuple(UNITS)
#: What an estimator gives for every level.
PER_LEVEL = ("value", "n_samples", *PER_VALUE)


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
        method: `Exact()`, `MonteCarlo(...)`, or None: exact where the structure allows it;
            elsewhere Monte-Carlo, and importance sampling of the errors where they are rare.
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
    return _evaluate(codebook, snr, ("accuracy",), method, key, progress)["accuracy"]


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
    return _evaluate(codebook, snr, ("error_probability",), method, key, progress)[
        "error_probability"
    ]


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
    return _evaluate(codebook, snr, ("conditional_entropy",), method, key, progress)[
        "conditional_entropy"
    ]


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
    return _evaluate(codebook, snr, ("mutual_information",), method, key, progress)[
        "mutual_information"
    ]


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
    return _evaluate(codebook, snr, ("mmse",), method, key, progress)["mmse"]


def profile(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    quantities: Sequence[str] = QUANTITIES,
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Profile:
    """Several quantities over a grid of SNRs, from one pass.

    Arguments and errors as in `accuracy`; `quantities` is any selection of `QUANTITIES`. Where only
    some of them have an exact method (accuracy, for planar codebooks), the others are sampled.
    """
    for name in quantities:
        check_choice(name, QUANTITIES, "quantities")
    if not quantities:
        reject("quantities", quantities, "at least one of " + ", ".join(QUANTITIES))
    estimates = _evaluate(codebook, snr, tuple(quantities), method, key, progress)
    levels = snr if is_traced(snr) else np.asarray(snr, dtype=float)
    return Profile(codebook.label, codebook.K, codebook.n, levels, estimates)


def _evaluate(
    codebook: Codebook,
    snr: Any,
    quantities: tuple[str, ...],
    method: Method | None,
    key: Any,
    progress: Progress | None,
) -> dict[str, Estimate]:
    """Choose a method for every quantity, run it, and wrap the numbers."""
    if not isinstance(codebook, Codebook):
        reject("codebook", codebook, "a tokenkl codebook, such as tk.PointCodebook(points)")
    if method is not None and not isinstance(method, (Exact, MonteCarlo)):
        reject("method", method, "Exact(), MonteCarlo(...) or None")
    snr = check_snr(snr)
    traced = is_traced(snr) or _has_tracers(codebook)
    shape = snr.shape
    levels = (jnp if traced else np).reshape(snr, (-1,))
    out: dict[str, Estimate] = {}

    if not isinstance(method, MonteCarlo):
        names, how, compute = _exact(codebook, traced)
        wanted = [name for name in quantities if name in names]
        results = compute(levels, wanted) if wanted else {}
        for name in wanted:
            value, numerical = (part.reshape(shape) for part in results[name])
            out[name] = Estimate(value, 0.0, numerical, method=how, quantity=name, unit=UNITS[name])
    missing = tuple(name for name in quantities if name not in out)
    if not missing:
        return out
    if isinstance(method, Exact):
        reject(
            "method",
            f"Exact() for {missing[0]} of {codebook!r}",
            "MonteCarlo(...) where neither a product prior on a grid, one-hot tokens nor two "
            "dimensions give an exact formula",
        )
    if key is None:
        reject(
            "key",
            "None",
            f"an integer seed or a JAX key, since {missing[0]} of {codebook!r} has to be sampled",
        )
    chosen = method if isinstance(method, MonteCarlo) else MonteCarlo()
    if traced:
        values = traced_profile(codebook, levels, chosen, key)
        for name in missing:
            value = values[name].reshape(shape)
            out[name] = Estimate(
                *(value, jnp.nan, jnp.nan),
                method="Monte-Carlo",
                seed=seed_of(key),
                quantity=name,
                unit=UNITS[name],
                draws=draws_of(key),
            )
        return {name: out[name] for name in quantities}
    sampled, how = _sample(codebook, levels, missing, method, key, progress)
    for name in missing:
        fields: dict[str, Any] = {
            k: np.reshape(v, shape)
            for k, v in sampled[name].items()
            if k not in ("sample_range", "note")
        }
        if fields["n_samples"].size and np.ptp(fields["n_samples"]) == 0:
            fields["n_samples"] = int(fields["n_samples"].flat[0])
        notes = (sampled[name].get("note", ""), _note(fields, chosen))
        out[name] = Estimate(
            **fields,
            sample_range=sampled[name]["sample_range"],
            method=how,
            seed=seed_of(key),
            draws=draws_of(key),
            quantity=name,
            unit=UNITS[name],
            note="; ".join(filter(None, notes)),
        )
    return {name: out[name] for name in quantities}


def _sample(
    codebook: Codebook,
    snr: Float[np.ndarray, " s"],
    quantities: tuple[str, ...],
    method: MonteCarlo | None,
    key: Any,
    progress: Progress | None,
) -> tuple[dict[str, dict[str, Any]], str]:
    """The fields of every estimate, and what to call the method.

    A union bound that is known before anything is sampled says where errors are rare, and there
    `rare` takes over. A method that was asked for is used as it is.
    """
    if isinstance(codebook, LatticeCodebook) and is_decoded(codebook, quantities):
        return decoded_profile(codebook, snr, quantities, method, key, progress)
    if too_large_to_enumerate(codebook):
        settings = method or MonteCarlo()
        return residual_profile(codebook, snr, quantities, settings, key, progress)
    chosen = method or MonteCarlo()
    rare = np.zeros(snr.shape, dtype=bool) if method else rare_is_better(codebook, snr)
    parts: list[tuple[np.ndarray, dict[str, dict[str, Any]]]] = []
    names: list[str] = []
    plain = np.flatnonzero(~rare)
    if plain.size:
        found, how = sample_profile(codebook, snr[plain], quantities, chosen, key, progress)
        parts.append((plain, found))
        names.append(how)
        expected = min(chosen.n_samples or DEFAULT_SAMPLES, chosen.max_samples)
        for clusters in clusters_of(codebook, snr[plain], expected):
            blind = clusters.levels[_is_blind(found, clusters)]
            if blind.size == 0:
                continue
            if not chosen.reduces_variance:
                for fields in found.values():
                    fields["interval_supported"][blind] = False
                continue
            again, how = clustered_profile(
                codebook, snr[plain[blind]], quantities, chosen, key, progress, clusters.labels
            )
            parts.append((plain[blind], again))
            names.append(how)
    if rare.any():
        found = rare_profile(codebook, snr[rare], quantities, key=key)
        parts.append((np.flatnonzero(rare), found))
        names.append("rare-event sampling")
    how = ", ".join(dict.fromkeys(names))
    return {name: _joined(snr.size, name, parts) for name in quantities}, how


def _is_blind(found: dict[str, dict[str, Any]], clusters: Clusters) -> Bool[np.ndarray, " levels"]:
    """Whether what was hardly seen may make some mean's error skew, by the spread that it shows.

    That is mistakes between clusters, and tokens that are unlikely themselves. Or whether few
    samples carry that spread.
    """
    out = np.zeros(clusters.levels.size, dtype=bool)
    for name, fields in found.items():
        column = RARE_STATISTICS.index(COMPLEMENTS.get(name, name))
        value, error, n, supported = (
            fields[field][clusters.levels]
            for field in ("value", "standard_error", "n_samples", "interval_supported")
        )
        # The skewness of a mean of n is that of one draw over sqrt(n): size^3 / n^2 error^3.
        most = np.cbrt(SKEWNESS * n.astype(float) ** 2) * error
        rare = np.maximum(clusters.unlikely[column], np.abs(value) * (name == "mmse"))
        out |= (clusters.mistakes[:, column] > most) | (np.cbrt(clusters.share) * rare > most)
        out |= ~supported
    return out


def _joined(
    size: int, name: str, parts: Sequence[tuple[np.ndarray, dict[str, dict[str, Any]]]]
) -> dict[str, Any]:
    """The fields of one quantity from those of some levels at a time; later ones replace others."""
    # The empirical Bernstein bound is for plain samples, where there are any: they come first.
    joined: dict[str, Any] = {"sample_range": float(np.max(parts[0][1][name]["sample_range"]))}
    for field in PER_LEVEL:
        for levels, found in parts:
            values = np.asarray(found[name].get(field, np.inf))
            if field not in joined:
                joined[field] = np.zeros(size, dtype=values.dtype)
            joined[field][levels] = values
    return joined


def exact_quantities(codebook: Codebook) -> tuple[str, ...]:
    """The quantities that need no sampling for this codebook, by its structure."""
    return _exact(codebook, traced=False)[0]


def _exact(
    codebook: Codebook, traced: bool
) -> tuple[tuple[str, ...], str, Callable[[Any, Sequence[str]], Any]]:
    """Quantities with an exact method, its name, and a function of SNRs and those wanted."""
    structured, misplaced = (codebook, 0.0) if traced else _on_a_line(codebook)
    if codebook.K == 1:  # where it is does not matter
        structured = ProductCodebook([[0.0]])
    if isinstance(structured, ProductCodebook) and structured.factorises:
        compute = partial(product_profile, structured, misplaced=misplaced)
        return QUANTITIES, "exact, by coordinate", compute
    if isinstance(structured, OneHot) and not traced and has_reach(structured):
        return QUANTITIES, "exact, one-hot", partial(onehot_profile, structured)
    rivals = None if traced else planar_rivals(codebook)
    if rivals is not None:
        how = "exact, Owen's T over Voronoi edges"
        return PLANAR_QUANTITIES, how, lambda snr, _: planar_profile(codebook, rivals, snr)
    return (), "", lambda snr, _: {}


def _note(fields: dict[str, Any], method: MonteCarlo) -> str:
    notes = []
    if not np.all(fields["interval_supported"]):
        notes.append(
            "too few informative samples for a central-limit interval at some SNR; the interval "
            "there is an empirical Bernstein bound"
        )
    if method.has_target:
        target = method.atol + method.rtol * np.abs(fields["value"])
        missed = fields["standard_error"] > target
        if np.any(missed & (np.asarray(fields["n_samples"]) >= method.max_samples)):
            notes.append("max_samples was reached before the target standard error")
        elif np.any(missed):
            notes.append("the target standard error was missed, by a variance that kept growing")
    return "; ".join(notes)


def _has_tracers(codebook: Codebook) -> bool:
    import jax

    return is_traced(*jax.tree_util.tree_leaves(codebook))


def _on_a_line(codebook: Codebook) -> tuple[Codebook, float]:
    """A codebook whose points lie on one line, as a one-dimensional grid; others unchanged.

    With it comes how far a point may lie from its level: off the line, and by rounding.
    """
    if isinstance(codebook, OneHot) and codebook.K == 2 and not has_reach(codebook):
        apart = math.sqrt(2) * codebook.scale
        line = ProductCodebook([[0.0, apart]], [codebook.given_prior], name=codebook.label)
        return line, float(np.spacing(apart))
    if not isinstance(codebook, PointCodebook):
        return codebook, 0.0
    points, misplaced = codebook.points, 0.0
    along = points[:, 0]
    if codebook.n > 1 and codebook.K > 1:
        exponent = power_of_two(points, 0.0)
        offset = np.ldexp(points, -exponent)
        offset = offset - offset[0]
        squares = (offset**2).sum(axis=1)
        reach = math.sqrt(squares.max())
        if reach == 0:
            return codebook, 0.0
        direction = offset[np.argmax(squares)] / reach
        along = offset @ direction
        away = math.sqrt(((offset - along[:, None] * direction) ** 2).sum(axis=1).max())
        if not 0 <= away <= ON_A_LINE * reach:
            return codebook, 0.0
        along = np.ldexp(along, exponent)
        misplaced = math.ldexp(away + 2 * codebook.n * EPS * reach, exponent)
    if np.unique(along).size < codebook.K:  # equal points have no thresholds between them
        return codebook, 0.0
    return ProductCodebook([along], [codebook.given_prior], name=codebook.label), misplaced
