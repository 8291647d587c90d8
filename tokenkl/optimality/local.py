"""`certify_local`: is a codebook a local maximum of its distances, and what proves it?"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import typing
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._files import PathLike, atomic_path
from tokenkl._formats import conform, reading
from tokenkl._validation import check_choice, reject
from tokenkl.codebooks.base import Codebook, check_codebook
from tokenkl.numerics.neighbours import nearest_distances
from tokenkl.optimality import verify_ascent, verify_dual
from tokenkl.optimality.constraints import CONSTRAINTS, Constraint, constraint_at
from tokenkl.optimality.grid_duals import (
    balancing_weights,
    finest_axes,
    nearby_fractions,
    ranks,
    staggered,
)
from tokenkl.optimality.programmes import TINY, Dual, Programme
from tokenkl.optimality.ties import Ties, find_ties, whole_numbers
from tokenkl.optimality.verify_dual import CHOICES, FORMAT

#: Step sizes that are tried along an ascent, in units of the smallest distance.
STEPS = 2.0 ** -(np.arange(0, 25) / 2)
#: The same around the best of them.
FINER = 2.0 ** (np.arange(-3, 4) / 8)
#: How often a flat motion is improved; directions that are drawn to find one.
ROUNDS, DRAWS = 6, 2
#: Numbers K n up to which spectra on flat motions are computed.
MAX_DENSE = 1500
#: Numbers K n up to which linear programmes are solved.
MAX_PROGRAMME = 2**16
#: Whole numbers that directions are rounded to.
GRID = 2**24
#: How far a direction of first order is turned inwards, so that rounding does not leave a curve.
INWARDS = 1e-5


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LocalCertificate:
    """What is known of a codebook as a local maximum, and what proves it; see `certify_local`.

    - `verdict`: "strict", "weak", "not a maximum" or "undecided".
    - `order`: 1 or 2, the order of the derivatives that decide.
    - `value`: largest directional derivative over motions of at most 1 in every coordinate; 0 at
      what is stationary.
    - `curvature`: second derivative along the direction found; 0 where none was needed.
    - `gain`, `step`: the largest rise of the objective along it, of the steps tried, and that step.
    - `arithmetic`: "exact" if the verifier confirmed it in whole numbers, else "floating point".
    - `method`: how it was found.
    - `record`: all that `verify_dual.py`, or `verify_ascent.py` where the verdict is "not a
      maximum", checks, as JSON has it: points, dual, direction.
    """

    codebook: str
    objective: str
    constraint: str
    verdict: str
    order: int
    value: float
    curvature: float
    gain: float
    step: float
    arithmetic: str
    method: str
    record: dict[str, Any]

    @functools.cached_property
    def points(self) -> Float[np.ndarray, "K n"]:
        """The tokens, whole numbers over a common one, as floats."""
        over = self.record["points_over"]
        return np.array([[x / over for x in row] for row in self.record["points"]])

    @functools.cached_property
    def direction(self) -> Float[np.ndarray, "K n"] | None:
        """The motion along which the objective rises, largest entry 1; None where there is none."""
        rows = self.record.get("direction")
        if not rows:
            return None
        motion = np.zeros(self.points.shape)
        for k, c, value in rows:
            motion[k, c] = value
        return np.asarray(motion / np.abs(motion).max())

    def check(self) -> str:
        """Verify again, in exact arithmetic; returns a sentence that says what is proved.

        Raises:
            ValueError: a certificate that proves nothing, or one in floating point.
        """
        if self.arithmetic != "exact":
            reject("certificate", f"one in {self.arithmetic}", "exact for it to be verified")
        return _verified(self.record)

    def save(self, path: PathLike) -> None:
        """Write it as JSON: for `load_certificate`, and for its verifier by itself."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        inner = fields.pop("record")
        with atomic_path(path) as new:
            Path(new).write_text(json.dumps({**fields, **inner}, separators=(",", ":")) + "\n")

    def __repr__(self) -> str:
        sign = {"strict": "a strict local maximum", "weak": "a local maximum, not a strict one"}
        says = sign.get(self.verdict, self.verdict if self.verdict == "undecided" else "no maximum")
        rise = f", rises by {self.gain:.3g}" if self.verdict == "not a maximum" else ""
        return (
            f"<LocalCertificate {self.codebook}: {says} of {self.objective} ({self.constraint}), "
            f"order {self.order}{rise}; {self.arithmetic}>"
        )


def certify_local(
    codebook: Codebook, objective: str = "mean_distance", constraint: str = "box"
) -> LocalCertificate:
    """Decide whether no codebook near this one has larger distances, with a proof where one is.

    First order: the directional derivative is sum_k share_k min_j <u_kj, v_k - v_j> over tied
    nearest neighbours j; the largest is found by a linear programme (HiGHS). Where it is 0, weights
    on the ties and multipliers on the constraint balance, which is the certificate: in whole
    numbers, and checked in whole numbers, for points with rational coordinates. Where other motions
    keep the objective in first order, second derivatives decide. Grids in their box need no
    programme. (docs/theory/optimality.md, O1 to O5; claim C2 of arXiv 2606.09962.)

    Args:
        codebook: K n up to some thousands, or a grid of any size that can be listed. Fractions with
            denominators up to 1000 are recognised in coordinates.
        objective: "mean_distance", D, or "min_distance", the smallest distance of two tokens.
        constraint: "box", the smallest one that holds the tokens; "ball" around 0; "power", the
            mean squared distance to the mean; "variance", that of every coordinate. Equal priors.
            With the last three, "strict" is up to shifts and rotations that keep the constraint.

    Raises:
        ValueError: another objective or constraint, fewer than two tokens, tokens that coincide,
            or too many to be listed.

    Example:
        >>> import tokenkl as tk
        >>> found = tk.certify_local(tk.FSQ((3, 3)))
        >>> found.verdict, found.order, found.arithmetic
        ('strict', 1, 'exact')
        >>> other = tk.certify_local(tk.FSQ((4, 3)))  # unequal levels: it rises in second order
        >>> other.verdict, other.order, round(other.gain, 3)
        ('not a maximum', 2, 0.028)
    """
    check_codebook(codebook)
    check_choice(objective, CHOICES["objective"], "objective")
    check_choice(constraint, CONSTRAINTS, "constraint")
    if codebook.K < 2:
        reject("K", codebook.K, "at least 2 for a nearest neighbour to exist")
    given = np.asarray(codebook.points, dtype=np.float64)
    whole, over, recognised = whole_numbers(given)
    points = np.array(whole, dtype=float) / over if recognised else given
    minimum = objective == "min_distance"
    ties = find_ties(points, recognised, over, minimum)
    search = _Search(ties, constraint_at(points, constraint), minimum)
    grid = codebook.as_grid
    finest = finest_axes(grid, whole) if grid and recognised and constraint == "box" else None
    if finest is not None:
        search.of_grid(ranks(whole), finest)
    else:
        if points.size > MAX_PROGRAMME:
            expected = (
                f"one with at most {MAX_PROGRAMME:,} numbers, or a grid of fractions in its box"
            )
            reject("codebook", repr(codebook), expected)
        search.by_programmes()
    record: dict[str, Any] = {"format": FORMAT, "points_over": over, "points": whole}
    # The dual of what is no maximum would only show that the first order is 0.
    if search.weights is not None and search.verdict in ("strict", "weak"):
        rows = zip(ties.first.tolist(), ties.second.tolist(), search.weights, strict=True)
        record["dual"] = [[k, j, w] for k, j, w in rows if w > 0]
    if search.direction is not None:
        motion = search.direction / np.abs(search.direction).max()
        if constraint != "box":
            away = points - (0 if constraint == "ball" else points.mean(axis=0))
            motion = motion - INWARDS * away / np.abs(away).max()
        v = np.rint(motion * GRID).astype(np.int64)
        record["direction"] = [[int(k), int(c), int(v[k, c])] for k, c in np.argwhere(v)]
    head = {"objective": objective, "constraint": constraint, "verdict": search.verdict}
    arithmetic = "floating point"
    if search.verdict != "undecided":
        try:
            _verified({**record, **head})
            arithmetic = "exact"
        except ValueError:
            pass
    return LocalCertificate(
        codebook.label,
        **head,
        order=search.order,
        value=search.value,
        curvature=search.curvature,
        gain=search.gain,
        step=search.step,
        arithmetic=arithmetic,
        method=search.method,
        record={**record, **head},
    )


def load_certificate(path: PathLike) -> LocalCertificate:
    """A certificate that `LocalCertificate.save` wrote; nothing is verified before `check`.

    Raises:
        FileError: a file that is missing, damaged, or no certificate.
    """
    with reading(path, "a certificate of tk.certify_local, as JSON") as file:
        found = file.json(dict[str, Any])
        record = {"format", "points_over", "points", "dual", "direction"} & found.keys()
        hints = typing.get_type_hints(LocalCertificate)
        names = [f.name for f in dataclasses.fields(LocalCertificate) if f.name != "record"]
        if found.get("format") != FORMAT or not all(name in found for name in names):
            file.refuse("it has no such description")
        values = {name: conform(found[name], hints[name], name) for name in names}
        head = ("objective", "constraint", "verdict")
        inner = {name: found[name] for name in (*record, *head)}
        verify_dual.read({**inner, "verdict": "strict"})  # refuses what has no points
        certificate = LocalCertificate(**values, record=inner)
        try:
            _ = certificate.points, certificate.direction
        except (IndexError, OverflowError, TypeError):
            file.refuse("its points or its direction are not numbers of tokens")
        return certificate


def _verified(record: dict[str, Any]) -> str:
    """What the verifier of its verdict says.

    Raises:
        ValueError: a certificate that proves nothing.
    """
    ascent = record.get("verdict") == "not a maximum"
    return (verify_ascent if ascent else verify_dual).verify(record)


class _Search:
    """What decides, one step after the other; its attributes are what was found."""

    def __init__(self, ties: Ties, constraint: Constraint, minimum: bool) -> None:
        self.ties, self.constraint, self.minimum = ties, constraint, minimum
        self.programme = Programme(ties, constraint)
        self.verdict, self.order, self.method = "undecided", 1, ""
        self.value = self.curvature = self.gain = self.step = 0.0
        self.weights: list[int] | None = None
        self.direction: np.ndarray | None = None

    def of_grid(self, place: np.ndarray, finest: list[int]) -> None:
        """A grid whose smallest gaps fill whole axes, in its box: closed forms."""
        self.weights, _ = balancing_weights(self.ties, place, finest, self.minimum)
        motion = staggered(place, finest)
        if motion is None:
            self.verdict, self.method = "strict", "weights of a grid in closed form"
            return
        self.verdict, self.order = "not a maximum", 2
        self.method = "odd index sums shifted along the coarser axes"
        growth = np.square(self.ties.across(motion)).sum(axis=1)
        growth /= self.ties.distance[self.ties.owner]
        least = np.full(self.ties.share.size, np.inf)
        np.minimum.at(least, self.ties.owner, growth)
        self.curvature = float(self.ties.share @ least)
        self._rises_along(motion, np.zeros_like(motion))

    def by_programmes(self) -> None:
        """Any codebook: first order, then what it leaves open."""
        programme = self.programme
        self.value, motion = programme.ascent()
        if self.value > TINY:
            self.verdict, self.method = "not a maximum", "linear programme of the first order"
            self._rises_along(motion, np.zeros_like(motion))
            return
        self.value = 0.0
        dual = programme.dual()
        self.method = "linear programmes"
        if dual is None:
            return
        if (found := self._rational(dual)) is not None:
            self.weights = found
        rng = np.random.default_rng(0)
        flat = self._flat(dual, rng, differences=False)
        if flat is None:
            self.verdict = "strict"
            return
        self.order = 2
        if self.constraint.name == "box":
            flat = self._flat(dual, rng, differences=True)
            if flat is None:
                self.verdict = "weak"
                return
        else:
            flat = self._by_spectrum(dual, flat)
            if flat is None:
                return
        self._ascend(flat, dual)

    def _rational(self, dual: Dual) -> list[int] | None:
        unit = float(self.ties.share[0])
        found = nearby_fractions(dual.weights, unit)
        return None if found is None else found[0]

    def _flat(
        self, dual: Dual, rng: np.random.Generator, *, differences: bool
    ) -> np.ndarray | None:
        """A motion that keeps the objective in first order; None if there is (almost surely) none.

        With `differences`, one that moves tied tokens of a positive weight against each other.
        """
        ties = self.ties
        for _ in range(DRAWS):
            towards = rng.standard_normal(ties.points.shape)
            if differences:
                used = dual.weights > 0
                first, second = ties.first[used], ties.second[used]
                across = rng.standard_normal((first.size, ties.points.shape[1]))
                towards = np.zeros(ties.points.shape)
                np.add.at(towards, first, across)
                np.add.at(towards, second, -across)
            for sign in (1, -1):
                motion = self.programme.flat(sign * towards, dual)
                if float((sign * towards * motion).sum()) > TINY * ties.points.size:
                    return motion
        return None

    def _by_spectrum(self, dual: Dual, flat: np.ndarray) -> np.ndarray | None:
        """With a curved constraint: strict if the Lagrangian falls on all flat motions."""
        if self.ties.points.size > MAX_DENSE:
            return flat
        basis = self.programme.flat_space(dual)
        if not basis.size:
            self.verdict, self.order = "strict", 1
            return None
        values, vectors = np.linalg.eigh(self.programme.hessian(dual, basis))
        self.curvature = float(values[-1])
        if values[-1] < -TINY:
            self.verdict = "strict"
            self.method = f"second order: {values.size} flat motions, eigenvalues all below 0"
            return None
        motion = (basis @ vectors[:, -1]).reshape(self.ties.points.shape)
        return np.asarray(motion / np.abs(motion).max())

    def _ascend(self, motion: np.ndarray, dual: Dual) -> None:
        """The flat motion with the largest curvature in reach: convex, by linearisation."""
        best = -math.inf
        ties = self.ties
        for _ in range(ROUNDS if self.constraint.name == "box" else 1):
            curvature, bend = self.programme.curvature(motion)
            if curvature <= best * (1 + 1e-9) + TINY:
                break
            best, chosen, bent = curvature, motion, bend
            pull = (dual.weights / ties.distance[ties.owner])[:, None] * ties.across(motion)
            slope = np.zeros_like(motion)
            np.add.at(slope, ties.first, pull)
            np.add.at(slope, ties.second, -pull)
            motion = self.programme.flat(slope, dual)
        self.curvature = max(best, 0.0)
        if best > TINY:
            self.method = "linear programmes of the first and the second order"
            if self._rises_along(chosen, bent):
                self.verdict = "not a maximum"

    def _rises_along(self, motion: np.ndarray, bend: np.ndarray) -> bool:
        """The best of some steps, each brought inside the constraint and measured anew.

        Returns whether one of them rises by at least half of what the derivatives say.
        """
        self.direction = motion
        points, seen, best = self.ties.points, False, 0.0
        for steps in (STEPS * float(self.ties.distance.min()), None):
            # The second time between the neighbours of the best step.
            around = self.step * FINER if steps is None else steps
            for step in around:
                moved = self.constraint.inside(points + step * motion + step**2 / 2 * bend)
                distances = nearest_distances(moved)
                found = float(distances.min()) if self.minimum else float(distances.mean())
                rise = found - self.ties.value
                seen |= rise > (step * self.value + step**2 / 2 * self.curvature) / 2
                if rise > self.gain:
                    self.gain, best = rise, float(step)
            self.step = best
        return seen
