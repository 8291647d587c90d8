"""Who finds which quantity at which level: chosen once, run once, merged once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl._random import draws_of, seed_of
from tokenkl._validation import check_choice, check_snr, is_traced, reject
from tokenkl.codebooks.base import Codebook, check_codebook
from tokenkl.estimate import Estimate
from tokenkl.information.estimators import Estimator, Progress, Task
from tokenkl.information.exact.estimators import EXACT
from tokenkl.information.findings import Findings
from tokenkl.information.lattice.accuracy import Rays
from tokenkl.information.lattice.rare import ShortVectors
from tokenkl.information.methods import Auto, Exact, Method, check_method
from tokenkl.information.parts import EachPart, ExactParts
from tokenkl.information.problem import Problem
from tokenkl.information.profiles import Profile
from tokenkl.information.rare.profile import RareSampling
from tokenkl.information.residual.profile import ParticleFilter
from tokenkl.information.sampling.clusters import Sampling
from tokenkl.information.sampling.traced import TracedSampling
from tokenkl.quantities import QUANTITIES as TABLE
from tokenkl.quantities import check_quantities

if TYPE_CHECKING:
    import pandas as pd

#: Found where none is named; the one of the table that is left out, where it is.
QUANTITIES = tuple(name for name in TABLE if name != "sampling_error")
#: In the order of preference: the first that serves a quantity at a level takes it.
ESTIMATORS: tuple[Estimator, ...] = (
    *EXACT,
    ExactParts(),
    EachPart(),
    ShortVectors(),
    Rays(),
    ParticleFilter(),
    RareSampling(),
    Sampling(),
    TracedSampling(),
)


@dataclasses.dataclass(frozen=True)
class Share:
    """What one estimator is to find, in one go: quantities at some levels, with what settings."""

    estimator: Estimator
    quantities: tuple[str, ...]
    levels: Int[np.ndarray, " levels"]
    method: Method | None


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Which estimator finds each quantity at each SNR, and about what it costs.

    Prints as a table with a line for everything that is found in one go. Times are orders of
    magnitude, of one core: constants measured on one machine times the work that is known
    beforehand. With a target for the standard error they are those of the fixed number of samples
    without one. Sampling looks again at what it has found: where mistakes between clusters of
    tokens would stay unseen it takes them apart, which the estimate's `method` then says.
    """

    problem: Problem
    shape: tuple[int, ...]
    quantities: tuple[str, ...]
    shares: tuple[Share, ...]

    def __getitem__(self, quantity: str) -> np.ndarray:
        """Names of the estimators of a quantity, in the shape of the SNRs."""
        check_choice(quantity, self.quantities, "quantity")
        names = np.full(self.problem.snr.size, "", dtype=object)
        for share in self.shares:
            if quantity in share.quantities:
                names[share.levels] = share.estimator.name
        return names.reshape(self.shape)

    @property
    def seconds(self) -> float:
        """About what all of it costs."""
        return sum(self._seconds(share) * share.levels.size for share in self.shares)

    def _seconds(self, share: Share) -> float:
        """Of each of its levels."""
        return share.estimator.seconds(self.problem.at(share.levels), share.method)

    def to_frame(self) -> pd.DataFrame:
        """One row for every quantity and SNR: its estimator, and its part of the time there.

        Quantities that one estimator finds in one go have equal parts.
        """
        import pandas as pd

        rows = []
        for share in self.shares:
            seconds = self._seconds(share) / len(share.quantities)
            for name in share.quantities:
                for level in share.levels:
                    place = self.quantities.index(name), level, name
                    rows.append((*place, self.problem.snr[level], share.estimator.name, seconds))
        columns = ["quantity", "snr", "estimator", "seconds"]
        return pd.DataFrame([row[2:] for row in sorted(rows)], columns=columns)

    def profile(self, key: Any = None, progress: Progress | None = None) -> Profile:
        """Do what was planned: what `tokenkl.profile` returns."""
        book, snr = self.problem.codebook, self.problem.snr.reshape(self.shape)
        return Profile(book.label, book.K, book.n, snr, self.run(key, progress))

    @property
    def sampled(self) -> set[str]:
        """Quantities that need a key."""
        drawn = [share.quantities for share in self.shares if share.estimator.samples]
        return {name for names in drawn for name in names}

    def find(self, key: Any = None, progress: Progress | None = None) -> dict[str, Findings]:
        """What the estimators found for every quantity, on one axis of levels."""
        for name in self.quantities:
            if name in self.sampled and key is None:
                why = f"since {name} of {self.problem.codebook!r} has to be sampled"
                reject("key", "None", f"an integer seed or a JAX key, {why}")
        parts: dict[str, list[tuple[np.ndarray, Findings]]] = {name: [] for name in self.quantities}
        for share in self.shares:
            part = self.problem.at(share.levels)
            task = Task(part, share.quantities, share.method, key, progress)
            for name, one in share.estimator.run(task).items():
                note = share.estimator.note(one, share.method)
                parts[name].append((share.levels, one.noted(note)))
        size = self.problem.snr.size
        return {name: Findings.joined(size, parts[name]) for name in self.quantities}

    def run(self, key: Any = None, progress: Progress | None = None) -> dict[str, Estimate]:
        """An `Estimate` of every quantity."""
        estimates = {}
        for name, found in self.find(key, progress).items():
            words: dict[str, Any] = {"quantity": name, "unit": TABLE[name].unit}
            if name in self.sampled:
                words |= {"seed": seed_of(key), "draws": draws_of(key)}
            estimates[name] = found.estimate(self.shape, **words)
        return estimates

    def __repr__(self) -> str:
        book, lines = self.problem.codebook, []
        for share in self.shares:
            levels = share.levels.size
            seconds = levels * self._seconds(share)
            where = "all SNRs" if levels == self.problem.snr.size else _range(self.problem, share)
            is_all = set(QUANTITIES) <= set(share.quantities)
            what = "all quantities" if is_all else ", ".join(share.quantities)
            lines.append((what, where, share.estimator.name, f"about {seconds:.1g} s"))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = (
            "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )
        return "\n".join([f"Plan for {book.label}, K = {book.K:,}, n = {book.n:,}:", *rows])


def _range(problem: Problem, share: Share) -> str:
    low, high = (end(problem.snr[share.levels]) for end in (np.min, np.max))
    return f"snr {low:.3g}" + (f" to {high:.3g} ({share.levels.size})" if low < high else "")


def plan(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    quantities: str | Sequence[str] = QUANTITIES,
    *,
    method: Method | None = None,
) -> Plan:
    """Which estimator would find each quantity at each SNR, and about what it would cost.

    Args:
        codebook: any codebook.
        snr: signal-to-noise ratios alpha^2 / sigma^2, at least 0.
        quantities: one or more of `QUANTITIES` and "sampling_error".
        method: as in `profile`.

    Returns:
        A `Plan`, which prints as a table; `plan["mmse"]` are the names for one quantity.

    Raises:
        ValueError: an argument out of its range, a method that does not serve a quantity, or a
            setting that the estimator in question does not honour.

    Example:
        >>> import tokenkl as tk
        >>> points = tk.PointCodebook([[0.0, 0.0], [1.0, 0.0], [0.3, 1.0]])
        >>> made = tk.plan(points, [1.0, 100.0], ["accuracy", "mmse"])
        >>> made["mmse"].tolist()
        ['Monte-Carlo', 'rare-event sampling']
    """
    check_codebook(codebook)
    names = check_quantities(quantities)
    check_method(method)
    snr = check_snr(snr)
    problem = Problem(codebook, (jnp if is_traced(snr) else np).reshape(snr, (-1,)))
    return planned(problem, snr.shape, names, method)


def planned(
    problem: Problem, shape: tuple[int, ...], quantities: tuple[str, ...], method: Method | None
) -> Plan:
    """`plan` with arguments that were checked.

    Raises:
        ValueError: a method that does not serve a quantity, or a setting that is not honoured.
    """
    shares, missing = shares_of(problem, quantities, method)
    codebook = problem.codebook
    for name, open_ in missing.items():
        if open_.any() and isinstance(method, Exact):
            reject(
                "method",
                f"Exact() for {name} of {codebook!r}",
                "MonteCarlo(...) where neither a product prior on a grid, one-hot tokens nor two "
                "dimensions give an exact formula",
            )
        if open_.any():
            level = "inside a JAX transformation"
            if not problem.is_traced:
                level = f"at snr = {problem.snr[np.argmax(open_)]:g}"
            given = f"{type(method).__name__}(...) for {name} {level}"
            reject("method", given, f"one that serves {codebook!r} there")
    shares.sort(key=lambda share: (share.levels[0], share.estimator.samples))
    return Plan(problem, shape, quantities, tuple(shares))


def shares_of(
    problem: Problem, quantities: Sequence[str], method: Method | None
) -> tuple[list[Share], dict[str, Bool[np.ndarray, " s"]]]:
    """Who takes what, and for each quantity the levels at which nobody does."""
    missing = {name: np.ones(problem.snr.size, dtype=bool) for name in quantities}
    shares = []
    wish = method if isinstance(method, Auto) else Auto() if method is None else None
    for estimator in ESTIMATORS:
        wanted = tuple(name for name, open_ in missing.items() if open_.any())
        asked = isinstance(method, estimator.settings)
        if not (wanted and (asked or wish) and estimator.is_for(problem)):
            continue
        if wish and not estimator.honours(estimator.chosen(wish)):
            continue
        served, where = estimator.serves(problem, wanted, asked)
        groups: dict[bytes, list[str]] = {}  # quantities that it takes at the same levels
        for name in served:
            groups.setdefault((where & missing[name]).tobytes(), []).append(name)
        for levels, names in groups.items():
            taken = np.frombuffer(levels, dtype=bool)
            if taken.any() or (not taken.size and not estimator.samples):
                given = estimator.chosen(wish) if wish else method
                estimator.check(given)
                shares.append(Share(estimator, tuple(names), np.flatnonzero(taken), given))
                missing |= {name: missing[name] & ~taken for name in names}
    return shares, missing
