"""`contextual_profile`: what an observation says of a token in its sequence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import special

from tokenkl._random import draws_of, seed_of, split
from tokenkl._validation import MAX_ELEMENTS, check_choice, check_count, check_snr, reject
from tokenkl.codebooks.base import Codebook, PointCodebook, check_codebook
from tokenkl.context.averages import STATISTICS, average
from tokenkl.context.clean import clean_averages, group_moments, groups_seen_once
from tokenkl.context.joint import Found, Known, Sequences, joint_averages
from tokenkl.estimate import Estimate
from tokenkl.information.estimators import Progress
from tokenkl.information.findings import Findings
from tokenkl.information.methods import Auto, Exact, Method, MonteCarlo, check_method
from tokenkl.information.plans import QUANTITIES, plan
from tokenkl.information.problem import Problem
from tokenkl.information.profiles import Profile
from tokenkl.quantities import QUANTITIES as TABLE
from tokenkl.quantities import check_quantities
from tokenkl.sources import Contexts, Given, Source

Context = Literal["joint", "left-clean", "others-clean", "none"]
#: What is given of the other tokens beside an observation of the token.
CONTEXTS: tuple[Context, ...] = ("joint", "left-clean", "others-clean", "none")
CLEAN: dict[str, Given] = {"left-clean": "left", "others-clean": "others"}
#: Sequences that contexts are sampled from, where not all are listed and no target asks for more.
SEQUENCES = 1000
#: Most contexts whose exact profiles are tried unasked.
FEW = 64


def contextual_profile(
    codebook: Codebook,
    law: Source | Contexts,
    snr: Float[Any, " *shape"],
    quantities: str | Sequence[str] | None = None,
    *,
    context: Context | None = None,
    position: int | None = None,
    sequences: int | None = None,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Profile:
    """What an observation says of a token in its sequence, averaged over positions and contexts.

    Every token k_i of a sequence is observed as Y_i = sqrt(snr) e_{k_i} + noise, independent from
    position to position. Quantities are of the posterior of k_i given

    - "joint": all observations Y, as a sequence model has them;
    - "others-clean": Y_i and all other tokens clean; "left-clean": Y_i and those before it;
    - "none": Y_i alone.

    Mutual information is that of the token with all of this: H(k_i) less conditional entropy.

    Args:
        codebook: where the tokens sit, any codebook whose points can be listed.
        law: a source; or `Contexts`, whose tokens are observed beside a clean context.
        snr: signal-to-noise ratios, at least 0; the result has their shape.
        quantities: of `QUANTITIES`; None: all of them, without mutual information where the entropy
            of a token without context is not known.
        context: as above, "joint" unless given; None with `Contexts`.
        position: of the token, from 0; None for the average over all positions.
        sequences: to sample clean contexts from, where they are not listed; 1000 unless given or
            set by a target.
        method: `MonteCarlo(...)`, where `n_samples` are sequences ("joint") or draws in all clean
            contexts together; `Exact()`, for "none" and clean contexts of what has exact
            profiles, such as points on one line; None or `Auto(...)`: exact for few contexts
            where that is known, else sampled.
        key: integer seed or JAX key; needed where something is sampled.
        progress: called with (done, wanted) while sampling.

    Returns:
        A `Profile`. `n_samples` counts independent replicates: sequences, groups of contexts, or
        spreads of draws over all contexts.

    Raises:
        ValueError: an argument out of its range, another number of tokens, no key where one is
            needed, an exact method where there is none, or a law that does not know what is asked.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=3)
        >>> found = tk.contextual_profile(
        ...     tk.FSQ((2,)), chain, [1.0], "accuracy", context="others-clean"
        ... )
        >>> round(float(found["accuracy"].value[0]), 6)
        0.940638
    """
    case = Case(codebook, snr, method, key, progress)
    if isinstance(law, Contexts):
        for name, given in (("context", context), ("position", position), ("sequences", sequences)):
            if given is not None:
                reject(name, given, "None where the law is one of Contexts, which have it in them")
        names = case.names(quantities, law.K, law.entropy)
        return case.profile(case.of_contexts(law, names), names)
    check_source(law)
    kind = check_choice("joint" if context is None else context, CONTEXTS, "context")
    if sequences is not None:
        check_count(sequences, "sequences", 2)
        if kind not in CLEAN:
            reject("sequences", sequences, "None where no clean contexts are sampled")
    names = case.names(quantities, law.K, law.token_entropy(position))
    if kind == "joint" and law.length > 1:
        found = case.joint(law, position, names).quantities
        return case.profile(case.estimates(found, names), names)
    if kind in CLEAN:
        return case.profile(case.clean(law, CLEAN[kind], position, sequences, names), names)
    return case.profile(case.weighted(law.contexts("none", position=position), names), names)


def check_source(law: Any) -> None:
    """Refuse what is no law of sequences."""
    if not isinstance(law, Source):
        reject("law", law, "a Source or Contexts")


class Case:
    """A codebook at some levels, and how averages over contexts are to be found there."""

    def __init__(
        self,
        codebook: Codebook,
        snr: Any,
        method: Method | None,
        key: Any,
        progress: Progress | None = None,
    ) -> None:
        check_codebook(codebook)
        self.codebook, self.snr = codebook, check_snr(snr)
        check_method(method, Exact, MonteCarlo, Auto)
        self.method, self.key, self.progress = method, key, progress
        self.problem = Problem(self.codebook, self.snr.ravel())

    def names(
        self, quantities: str | Sequence[str] | None, K: int, entropy: float | None
    ) -> tuple[str, ...]:
        """Which quantities are asked for, of a law that fits the codebook."""
        if K != self.codebook.K:
            reject("law", f"one of {K:,} tokens", f"of {self.codebook.K:,}, as the codebook")
        known = QUANTITIES
        if entropy is None:
            known = tuple(name for name in QUANTITIES if name != "mutual_information")
            if quantities is not None and "mutual_information" in check_quantities(quantities):
                expected = "others, since the entropy of a token without context is not known here"
                reject("quantities", "mutual_information", expected)
        return known if quantities is None else check_quantities(quantities, known)

    def profile(self, found: dict[str, Estimate], names: tuple[str, ...]) -> Profile:
        """A `Profile` of these quantities."""
        book = self.codebook
        kept = {name: found[name] for name in names}
        return Profile(book.label, book.K, book.n, np.asarray(self.snr), kept)

    def estimates(
        self,
        found: dict[str, Findings],
        names: tuple[str, ...],
        more: tuple[tuple[int, ...], ...] = (),
    ) -> dict[str, Estimate]:
        """Findings as estimates; `more` are words of keys beside the one of this case."""
        draws = tuple(sorted({*self.draws, *more}))
        words = {"seed": seed_of(self.key), "draws": draws}
        return {
            name: found[name].estimate(
                self.snr.shape, quantity=name, unit=TABLE[name].unit, **words
            )
            for name in names
        }

    @property
    def draws(self) -> tuple[tuple[int, ...], ...]:
        """The words of the key."""
        return () if self.key is None else draws_of(self.key)

    def sampling(self, what: str) -> MonteCarlo:
        """How to sample; refused where that is not what was asked for, or not possible."""
        if isinstance(self.method, Exact):
            reject("method", self.method, f"MonteCarlo(...) or None, since {what} must be sampled")
        if self.key is None:
            reject("key", "None", f"an integer seed or a JAX key, since {what} must be sampled")
        wish = Auto() if self.method is None else self.method
        method: Any = wish.settings(MonteCarlo) if isinstance(wish, Auto) else wish
        if method.control is not None or method.precision == "single":
            reject("method", method, "without control, and not in single precision, for contexts")
        found: MonteCarlo = method
        return found

    # ---- Clean contexts --------------------------------------------------------------------

    def of_contexts(self, contexts: Contexts, names: tuple[str, ...]) -> dict[str, Estimate]:
        """Averages over contexts, exact for each of them where that is known or asked for."""
        asked = isinstance(self.method, Exact)
        few = contexts.log_laws.shape[0] <= FEW and not isinstance(self.method, MonteCarlo)
        if asked or (few and self.is_exact(contexts, names)):
            if contexts.exhaustive:
                found = self.weighted(contexts, names, Exact())
                if "mutual_information" in names and contexts.entropy is not None:
                    told = contexts.entropy - contexts.clean_entropy  # by the context alone
                    one, rounding = found["mutual_information"], 8e-16 * contexts.entropy
                    error = one.numerical_error + rounding
                    with_it = dataclasses.replace(
                        one, value=one.value + told, numerical_error=error
                    )
                    found["mutual_information"] = with_it
            else:
                found = self.estimates(self._by_context(contexts, names), names, contexts.draws)
        else:
            method = self.sampling("an average over contexts")
            how = (method, self.key, names, self.progress)
            sampled = clean_averages(self.problem, contexts, *how)
            found = self.estimates(sampled, names, contexts.draws)
        return {name: self._with_rest(found[name], name, contexts) for name in names}

    def clean(
        self,
        source: Source,
        given: Given,
        position: int | None,
        sequences: int | None,
        names: tuple[str, ...],
    ) -> dict[str, Estimate]:
        """Averages over the clean contexts of a source: all of them, or those of sequences.

        How many sequences a target needs is found with other ones.
        """
        every = source.all_contexts(given, position) if sequences is None else None
        if every is not None:
            return self.of_contexts(every, names)
        if self.key is None:
            reject("key", "None", "an integer seed or a JAX key, since contexts must be sampled")
        room = max(2, MAX_ELEMENTS // 2 // (source.length * source.K))
        count = min(SEQUENCES, room) if sequences is None else sequences
        keys = split(self.key, 4)
        found, ratio = self._of_sequences(source, given, count, position, keys[:2], names)
        if sequences is None and ratio > 1:
            count = int(min(1.2 * ratio**2 * count, room))
            found, _ = self._of_sequences(source, given, count, position, keys[2:], names)
        return found

    def _of_sequences(
        self,
        source: Source,
        given: Given,
        count: int,
        position: int | None,
        keys: list[Any],
        names: tuple[str, ...],
    ) -> tuple[dict[str, Estimate], float]:
        """... and how many times a standard error is above its target."""
        contexts = source.contexts(given, count, position=position, key=keys[0])
        part = Case(self.codebook, self.snr, self.method, keys[1], self.progress)
        found, ratio = part.of_contexts(contexts, names), 0.0
        for name, one in found.items():
            found[name] = dataclasses.replace(one, seed=seed_of(self.key), draws=self.draws)
            target = getattr(self.method, "atol", 0.0)
            target = target + getattr(self.method, "rtol", 0.0) * abs(one.value)
            if np.all(target > 0):
                ratio = max(ratio, float(np.max(one.standard_error / target, initial=0.0)))
        return found, ratio

    def is_exact(self, contexts: Contexts, names: tuple[str, ...]) -> bool:
        """Whether every context has an exact profile."""
        try:
            for law in contexts.log_laws:
                plan(_with_law(self.codebook, law), self.snr, names, method=Exact())
        except ValueError:
            return False
        return True

    def weighted(
        self, contexts: Contexts, names: tuple[str, ...], method: Method | None = None
    ) -> dict[str, Estimate]:
        """The weighted mean of the profiles of exhaustive contexts, each by itself.

        Of mutual information, too: what the context itself tells of a token is not in it.
        """
        method = self.method if method is None else method
        parts = []
        kept = np.flatnonzero(contexts.weights)
        for key, index in zip(split(self.key, kept.size), kept, strict=True):
            book = _with_law(self.codebook, contexts.log_laws[index])
            parts.append(plan(book, self.snr, names, method=method).run(key, self.progress))
        found: dict[str, Estimate] = {}
        for name in names:
            terms = (w * part[name] for w, part in zip(contexts.weights[kept], parts, strict=True))
            total: Any = sum(terms) if len(parts) > 1 else parts[0][name]
            found[name] = dataclasses.replace(total, quantity=name, unit=TABLE[name].unit)
        return found

    def _by_context(self, contexts: Contexts, names: tuple[str, ...]) -> dict[str, Findings]:
        """Exact for every context, with an error for being a sample of them."""
        columns = {"error_probability": {"accuracy", "error_probability"}, "mmse": {"mmse"}}
        information = {"conditional_entropy", "mutual_information"}
        columns["conditional_entropy"] = columns["mutual_information"] = information
        asked = tuple(name for name, served in columns.items() if served & set(names))
        values = np.zeros((2, self.problem.snr.size, len(STATISTICS), len(contexts.weights)))
        for index, law in enumerate(contexts.log_laws):
            made = plan(_with_law(self.codebook, law), self.problem.snr, asked, method=Exact())
            for name, one in made.find().items():
                column = (*STATISTICS[:3], "mutual_information").index(name)
                values[:, :, column, index] = one.value, one.numerical_error
        values[0, :, 3] -= contexts.entropies()
        values[:, :, 2] = np.ldexp(values[:, :, 2], -2 * self.problem.exponent)
        moments = group_moments(values[0], contexts)
        moments.rounding = values[1] @ contexts.weights
        return average(
            self.problem,
            moments,
            entropy=contexts.entropy,
            method="contexts, each exact",
            spread=float(len(contexts.weights) * contexts.weights.max()),
            once=groups_seen_once(contexts),
        )

    def _with_rest(self, found: Estimate, name: str, contexts: Contexts) -> Estimate:
        """What tokens that laws leave out may change is an error (docs/theory/context.md).

        With p = (1 - r) listed + r rest: accuracy is convex in p and below 1; entropy is between
        that given where the token is from, and that more the entropy of this, and rest tokens have
        at most log(K - 1) of it; the mmse is concave, and the listed law's estimate is never
        further off than the diameter.
        """
        rest = contexts.rest
        if not rest.any():
            return found
        size = rest
        if name in ("conditional_entropy", "mutual_information"):
            hidden = special.entr(rest) + special.entr(1 - rest)
            size = hidden + rest * math.log(max(self.codebook.K - 1, 1))
        elif name == "mmse":
            size = rest * self.codebook.diameter() ** 2
        mean, wobble = size @ contexts.weights, 0.0
        if not contexts.exhaustive:  # the terms that an error is of may differ as much
            wobble = math.sqrt(size**2 @ contexts.weights / max(np.min(found.n_samples), 1))
        return dataclasses.replace(
            found,
            numerical_error=found.numerical_error + mean,
            standard_error=found.standard_error + wobble,
        )

    # ---- The noisy context -----------------------------------------------------------------

    def joint(self, source: Source, position: int | None, names: tuple[str, ...]) -> Found:
        """Averages over sampled sequences, all of which is observed."""
        method = self.sampling("an average over observed sequences")
        positions = source.positions(position)
        known = self.alone(source, position)
        sequences = Sequences(self.problem, source, positions, self.key, known)
        entropy = source.token_entropy(position)
        return joint_averages(sequences, method, entropy, names, self.progress)

    def alone(self, source: Source, position: int | None) -> Known | None:
        """What is exact of tokens given their own observation alone; None where nothing is."""
        contexts = source.contexts("none", position=position)
        names = (*STATISTICS[:3], "mutual_information")
        if contexts.log_laws.shape[0] > FEW or not self.is_exact(contexts, names):
            return None
        found = self.weighted(contexts, names, Exact())
        values, errors = (
            np.stack([np.ravel(getattr(found[name], field)) for name in names], axis=-1)
            for field in ("value", "numerical_error")
        )
        values[:, 3] -= contexts.entropy
        scaled = [np.ldexp(one, [0, 0, -2 * self.problem.exponent, 0]) for one in (values, errors)]
        return Known(*scaled)


def _with_law(codebook: Codebook, log_law: Float[np.ndarray, " K"]) -> Codebook:
    """The codebook with a law as its prior; tokens that never occur are left out."""
    law = np.exp(log_law)
    there = law > 0
    if not there.all():
        points, law = codebook.points_at(np.flatnonzero(there)), law[there] / law[there].sum()
        return PointCodebook(points, law, allow_duplicates=True)
    if np.abs(law - codebook.prior).max() <= 1e-15:
        return codebook
    return codebook.with_prior(law)
