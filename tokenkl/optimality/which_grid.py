"""What to take instead of a level set: grids, checkerboards and cuts, in dB at equal token error.

Tokens are independent and equally probable, and the best guess is made. In the box every codebook
fills [-1, 1]^n; at equal power all have the same tr Cov, and spacings are free.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from tokenkl._progress import Report
from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import check_choice, check_count, check_levels, check_positive, reject
from tokenkl.codebooks import FSQ, Checkerboard, Codebook, LatticeCodebook, ProductCodebook
from tokenkl.codebooks.product import power_notation
from tokenkl.estimate import Estimate
from tokenkl.information import error_probability
from tokenkl.information.lattice.accuracy import Rays, cell_reach
from tokenkl.optimality.surplus import MAX_LISTED, SAMPLES, Rule, ThinnedBoard, drop_surplus
from tokenkl.optimality.tuples import level_tuples

if TYPE_CHECKING:
    import pandas as pd

Constraint = Literal["box", "power"]
Spacing = Literal["box", "equal"]
#: Most tokens of a candidate, in those asked for (and for cuts of D_n+ and E8).
SLACK, SLACK_OF_CUTS = 1.5, 1.25
#: Level tuples looked at; checkerboards whose error is computed, after a look at union bounds;
#: those whose surplus is then dropped.
MAX_TUPLES, FINALISTS, THINNED = 200_000, 6, 3
#: Decibels less noise at which union bounds are compared as well.
LESS_NOISE = (0.0, 3.0, 6.0)
#: Dimensions in which neighbours are found quickly.
FEW = 6
#: From this dimension on points of D_n+ are farther apart than those of a grid as dense.
LEAST_PLUS = 5
#: Beside the error that is asked for, gains are told at this one.
HALF = 0.5
#: Fewest tokens, and the rarest error that is compared.
FEWEST, MOST_RARE = 4, 1e-100
#: Decibels between which an error is looked for, and how closely where it is exact.
LOWEST_DB, HIGHEST_DB, CLOSE_DB = -100.0, 200.0, 1e-7
#: Directions in which cells of a cut are followed, and the relative error with which they serve.
RAYS, MOST_SPREAD = 2**17, 0.03
#: Steps of a sampled search, and the part of a standard error that is close enough.
STEPS, CLOSE_ENOUGH = 8, 0.1
EPS, TINY = float(np.finfo(float).eps), float(np.finfo(float).tiny)


@dataclasses.dataclass(frozen=True, eq=False)
class GridChoice:
    """A codebook to take instead, and what it gains.

    - `name`: "given", "equal spacing", "balanced", "checkerboard", "D5+ cut", "E8 cut", ...
    - `levels`: numbers of levels of the coordinates; those of a checkerboard before every second
      word, and of a cut of D_n+ before the halves, are left out or added.
    - `spacing`: "box", every coordinate on [-1, 1], or "equal", the same in all coordinates.
    - `K`: tokens, at least as many as were asked for.
    - `codebook`: the points, within [-1, 1]^n.
    - `gain_in_box`, `gain_at_power`: how much less SNR it needs for the token error that the given
      levels have, in dB.
    - `at_half_in_box`, `at_half_at_power`: the same at a token error of one half.
    - `error`: its token error where the given levels have the one asked for, under the constraint.
    """

    name: str
    levels: tuple[int, ...]
    spacing: Spacing
    codebook: Codebook
    gain_in_box: Estimate
    gain_at_power: Estimate
    at_half_in_box: Estimate
    at_half_at_power: Estimate
    error: Estimate
    constraint: Constraint

    @property
    def K(self) -> int:
        """Number of tokens."""
        return self.codebook.K

    @property
    def n(self) -> int:
        """Number of coordinates."""
        return self.codebook.n

    @property
    def gain(self) -> Estimate:
        """That under the constraint."""
        return self.gain_in_box if self.constraint == "box" else self.gain_at_power

    @property
    def gain_at_half(self) -> Estimate:
        """That under the constraint, at a token error of one half."""
        return self.at_half_in_box if self.constraint == "box" else self.at_half_at_power


@dataclasses.dataclass(frozen=True, eq=False)
class WhichGrid:
    """What `which_grid` found.

    - `choices`: the given levels among them, the largest gain under the constraint first.
    - `snr`: at which the given levels, in the box, have the token error `error`.
    """

    choices: tuple[GridChoice, ...]
    constraint: Constraint
    error: float
    snr: float

    def to_frame(self) -> pd.DataFrame:
        """One row for each choice; gains in dB with their standard errors."""
        import pandas as pd

        rows = []
        for one in self.choices:
            row: dict[str, Any] = {
                "name": one.name,
                "levels": power_notation(one.levels),
                "spacing": one.spacing,
            }
            row |= {"K": one.K, "n": one.n}
            for name in GAINS:
                gain: Estimate = getattr(one, name)
                row |= {name: float(gain.value), f"{name}_error": float(gain.standard_error)}
            row["error_there"] = float(one.error.value)
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def limits(self) -> tuple[str, ...]:
        """What the numbers do not say, as sentences."""
        best = self.choices[0]
        where = "in the same box" if self.constraint == "box" else "at equal power"
        said = [f"At a token error of {self.error:.3g}, {where}, nothing beats the given levels."]
        if best.name != "given":
            half = best.gain_at_half
            said = [
                f"The best, {best.name} {power_notation(best.levels)}, gains "
                f"{float(best.gain.value):.2f} dB {where} at a token error of {self.error:.3g}; "
                f"at 50 % error it is {float(half.value):+.2f} dB."
            ]
        if any(one.K > self.given.K for one in self.choices):
            said.append("Choices with more tokens than asked for may leave some unused.")
        said.append(
            "Tokens are independent and equally probable, and the best guess is made: whether it "
            "matters for a trained model is another question."
        )
        return tuple(said)

    @property
    def given(self) -> GridChoice:
        """The levels that were asked about, or the balanced ones where none were."""
        return next(one for one in self.choices if one.name == "given")


#: Columns of gains.
GAINS = ("gain_in_box", "gain_at_power", "at_half_in_box", "at_half_at_power")


def which_grid(
    levels: Sequence[int] | None = None,
    *,
    n: int | None = None,
    K: int | None = None,
    error: float | None = None,
    snr: float | None = None,
    constraint: Constraint = "box",
    key: Any = 0,
    progress: Report = lambda done, total: None,
) -> WhichGrid:
    """What to take instead of an FSQ level set, in the same number of coordinates.

    Balanced levels, the given ones with equal spacing in all coordinates (at equal power), a
    checkerboard of unequal levels with as many tokens, and from five dimensions on, where L^n
    tokens are not many more than asked for, the cut of D_n+ (E8 for n = 8). The levels of each
    family are those with the least token error at the noise at which the given ones have `error`,
    of boards the best of a short list. Grids and whole checkerboards are exact, dropped tokens and
    cuts sampled, with error bars.

    Args:
        levels: such as (8, 5, 5, 5); or `n` and `K`, and the balanced grid stands for them.
        n: number of coordinates.
        K: tokens asked for.
        error: token error of the given levels at which all are compared; or
        snr: alpha^2 / sigma^2 at which the given levels, on [-1, 1]^n, have it. By default the
            error is 0.01.
        constraint: "box": every codebook fills [-1, 1]^n; "power": all have the same tr Cov.
        key: integer seed or JAX key.
        progress: called with what is done and the total.

    Raises:
        ValueError: neither or both of `levels` and `n` with `K`, fewer than four tokens, both
            `error` and `snr`, or an error that the given levels have at no noise.

    Example:
        >>> import tokenkl as tk
        >>> found = tk.which_grid((8, 6, 5), error=0.01, constraint="power")
        >>> [(one.name, one.levels, one.K) for one in found.choices[:2]]
        [('checkerboard', (8, 8, 8), 240), ('balanced', (7, 6, 6), 252)]
        >>> round(float(found.choices[0].gain_at_power), 1)
        2.1
    """
    check_choice(constraint, ("box", "power"), "constraint")
    if error is not None and snr is not None:
        reject("error and snr", f"{error} and {snr}", "given alone")
    counts, tokens = _asked(levels, n, K, error, snr)
    given = _Contender("given", counts, "box", FSQ(counts))
    target, db = _noise(given, error, snr)
    power = given.codebook.average_power()
    contenders = [
        given,
        *_rivals(counts, tokens, db, power if constraint == "power" else None, key),
    ]
    base: tuple[Estimate, Estimate] | None = None
    choices = []
    for place, one in enumerate(contenders):
        start = db - 10 * math.log10(one.codebook.min_distance() / given.codebook.min_distance())
        needed = _needed(one, target, start, key), _needed(one, HALF, start, key)
        base = needed if base is None else base
        gains = [_gain(ours, theirs) for ours, theirs in zip(base, needed, strict=True)]
        more = 10 * math.log10(power / one.codebook.average_power())
        there = db + (more if constraint == "power" else 0.0)
        choices.append(
            GridChoice(
                *(one.name, one.levels, one.spacing, one.codebook),
                *(gains[0], _moved(gains[0], more), gains[1], _moved(gains[1], more)),
                one.error(there, key),
                constraint,
            )
        )
        progress(place + 1, len(contenders))
    choices.sort(key=lambda one: (-float(one.gain.value), one.name != "given"))
    return WhichGrid(tuple(choices), constraint, target, 10 ** (db / 10))


# ---- What is compared ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Contender:
    """A codebook, and how its token error is found at an SNR in dB."""

    name: str
    levels: tuple[int, ...]
    spacing: Spacing
    codebook: Codebook
    thinned: ThinnedBoard | None = None
    rays: tuple[np.ndarray, np.ndarray] | None = None

    def error(self, db: float, key: Any) -> Estimate:
        snr = 10 ** (db / 10)
        if self.thinned is not None:
            samples = SAMPLES if self.codebook.n <= FEW else SAMPLES // 4
            return self.thinned.error_probability(snr, key=key, n_samples=samples)
        if self.rays is not None:
            return _along_rays(self.codebook, self.rays, snr, key)
        return error_probability(self.codebook, snr, key=key)


def _along_rays(
    cut: Codebook, rays: tuple[np.ndarray, np.ndarray], snr: float, key: Any
) -> Estimate:
    """The error probability, from rays that are the same at every SNR (statement D4)."""
    reach, is_open = rays
    half_square = snr * reach**2 / 2
    tails = special.gammaincc(cut.n / 2, half_square)
    value, spread = float(tails.mean()), float(tails.std(ddof=1)) / RAYS**0.5
    if spread > MOST_SPREAD * value:  # errors so rare that few rays matter
        return error_probability(cut, snr, key=key)
    return Estimate(
        value,
        standard_error=spread,
        numerical_error=float(tails[is_open].sum()) / RAYS + 1e-13 * value,
        n_samples=RAYS,
        method=Rays.name,
        seed=seed_of(key),
        quantity="error_probability",
        draws=draws_of(key),
    )


def _asked(
    levels: Sequence[int] | None,
    n: int | None,
    K: int | None,
    error: float | None,
    snr: float | None,
) -> tuple[tuple[int, ...], int]:
    """The level set that others are compared with, and the tokens that they have to have."""
    if (levels is None) != (n is not None and K is not None) or (levels is not None and (n or K)):
        reject("levels, n and K", f"{levels}, {n} and {K}", "levels alone, or n and K")
    if levels is not None:
        counts = check_levels(levels)
        if min(counts) < 2 or math.prod(counts) < FEWEST:
            reject("levels", levels, f"two or more in every coordinate, {FEWEST} tokens or more")
        return counts, math.prod(counts)
    size, tokens = check_count(n, "n"), check_count(K, "K", FEWEST)
    if 2**size > SLACK * tokens:
        reject("n", n, f"at most {math.floor(math.log2(tokens))} for {tokens:,} tokens")
    tuples = _tuples(size, tokens)
    counts = min(tuples, key=lambda one: (max(one), math.prod(one)))
    for _ in range(3):  # which is best depends on the noise, and the noise on which is given
        _, db = _noise(_Contender("given", counts, "box", FSQ(counts)), error, snr)
        counts = min(tuples, key=lambda one: _grid_error(one, "box", db, None))
    return counts, tokens


def _noise(given: _Contender, error: float | None, snr: float | None) -> tuple[float, float]:
    """The token error at which all are compared, and where the given levels have it, in dB."""
    if snr is not None:
        db = 10 * math.log10(check_positive(snr, "snr"))
        target = float(given.error(db, None).value)
        if not MOST_RARE <= target < 1 - 1 / given.codebook.K - 1e-6:
            reject("snr", snr, f"one at which the given levels err, with at least {MOST_RARE:g}")
        return target, db
    target = 0.01 if error is None else check_positive(error, "error")
    if not MOST_RARE <= target < 0.99 * (1 - 1 / given.codebook.K):
        most = 0.99 * (1 - 1 / given.codebook.K)
        reject("error", error, f"from {MOST_RARE:g} to below {most:.3g}, that of a guess")
    return target, float(_needed(given, target, 10.0, None).value)


def _rivals(
    counts: tuple[int, ...], tokens: int, db: float, power: float | None, key: Any
) -> Iterator[_Contender]:
    """What to compare with, each the best of its family at this noise.

    `power` is that of the given levels, where powers are to be equal.
    """
    n, ordered = len(counts), tuple(sorted(counts, reverse=True))
    spacings: tuple[Spacing, ...] = ("box",) if power is None else ("equal", "box")
    if power is not None and len(set(counts)) > 1:
        yield _Contender("equal spacing", counts, "equal", _grid(counts, "equal"))
    options = [(one, spacing) for one in _tuples(n, tokens) for spacing in spacings]
    best, spacing = min(options, key=lambda one: _grid_error(one[0], one[1], db, power))
    if best != ordered:
        yield _Contender("balanced", best, spacing, _grid(best, spacing))
    if n > 1:
        yield _best_board(n, tokens, db, power, spacings, key)
    most = max(2, math.ceil(tokens ** (1 / n) * (1 - 1e-9)))
    if n >= LEAST_PLUS and most**n <= SLACK_OF_CUTS * tokens:
        cut = LatticeCodebook("D+", most, n)
        name = "E8 cut" if n == 8 else f"D{n}+ cut"
        rays = cell_reach(cut, generator(key), RAYS)
        yield _Contender(name, (most,) * n, "equal", cut, rays=rays)


def _grid(levels: tuple[int, ...], spacing: Spacing) -> ProductCodebook:
    if spacing == "box":
        return FSQ(levels)
    step = 2 / (max(levels) - 1)
    name = f"FSQ {power_notation(levels)}, equal spacing"
    return ProductCodebook([step * (np.arange(L) - (L - 1) / 2) for L in levels], name=name)


def _best_board(
    n: int,
    tokens: int,
    db: float,
    power: float | None,
    spacings: tuple[Spacing, ...],
    key: Any,
) -> _Contender:
    """The checkerboard with at least so many tokens that errs least, without its surplus."""
    options = [
        (levels, spacing)
        for levels in _tuples(n, 2 * tokens - 1)
        if tokens <= Checkerboard(levels).K
        for spacing in spacings
    ]
    rough: list[tuple[tuple[int, ...], Spacing]] = []
    for less in LESS_NOISE:  # where errors are common, union bounds say little of their order
        ranked = sorted(options, key=lambda one: _board_bound(one[0], one[1], db + less, power))
        rough += [one for one in ranked[:FINALISTS] if one not in rough]

    def exactly(option: tuple[tuple[int, ...], Spacing]) -> float:
        board = Checkerboard(option[0], spacing=option[1])
        more = 0.0 if power is None else 10 * math.log10(power / board.average_power())
        return float(error_probability(board, 10 ** ((db + more) / 10)).value)

    made = [
        _board(option, tokens, db, power is not None)
        for option in sorted(rough, key=exactly)[:THINNED]
    ]

    def without_surplus(one: _Contender) -> float:
        more = 0.0 if power is None else 10 * math.log10(power / one.codebook.average_power())
        return float(one.error(db + more, key).value)

    return min(made, key=without_surplus)


def _board(
    option: tuple[tuple[int, ...], Spacing], tokens: int, db: float, by_power: bool
) -> _Contender:
    levels, spacing = option
    board = Checkerboard(levels, spacing=spacing)
    if board.K * board.n > MAX_LISTED:
        return _Contender("checkerboard", levels, spacing, board)
    rule: Rule = "power" if by_power else "neighbours"
    thinned = drop_surplus(board, tokens, by=rule, snr=10 ** (db / 10))
    return _Contender("checkerboard", levels, spacing, thinned.codebook, thinned)


def _tuples(n: int, tokens: int) -> list[tuple[int, ...]]:
    """Level tuples with at least so many tokens, and fewer with a level less anywhere."""
    widest = 2 * math.ceil(tokens ** (1 / n)) + 2 if n > 1 else tokens
    found = level_tuples(n, max(math.ceil(SLACK * tokens), 2**n), widest, tokens, MAX_TUPLES)
    if len(found) > MAX_TUPLES:
        reject("n", n, f"such that at most {MAX_TUPLES:,} level sets have {tokens:,} tokens")
    # To take one from the largest number of levels loses fewest tokens.
    return [one for one in found if math.prod(one) * (one[0] - 1) < tokens * one[0] or one[0] == 2]


def _steps(
    levels: tuple[int, ...], spacing: Spacing, power: float | None
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Numbers of levels and steps, in the box or of this power (that of the grid)."""
    L = np.array(levels, dtype=float)
    steps = 2 / (L - 1) if spacing == "box" else np.full(L.size, 2 / (L.max() - 1))
    if power is not None:
        steps = steps * math.sqrt(power / float((steps**2 * (L**2 - 1) / 12).sum()))
    return L, steps


def _grid_error(levels: tuple[int, ...], spacing: Spacing, db: float, power: float | None) -> float:
    """Token error of a grid, exactly."""
    L, steps = _steps(levels, spacing, power)
    wrong = 2 * (1 - 1 / L) * special.ndtr(-(10 ** (db / 20)) * steps / 2)
    return -math.expm1(float(np.log1p(-wrong).sum()))


def _board_bound(
    levels: tuple[int, ...], spacing: Spacing, db: float, power: float | None
) -> float:
    """About the union bound of a checkerboard: steps along two coordinates, or two along one."""
    L, steps = _steps(levels, spacing, power)
    h, share = 10 ** (db / 20), 1 - 1 / L
    i, j = np.triu_indices(L.size, 1)
    pairs = 4 * share[i] * share[j] * special.ndtr(-h * np.hypot(steps[i], steps[j]) / 2)
    return float(pairs.sum() + (2 * (1 - 2 / L) * special.ndtr(-h * steps)).sum())


# ---- Where an error is reached ------------------------------------------------------------------


def _needed(one: _Contender, target: float, start: float, key: Any) -> Estimate:
    """The SNR, in dB, at which a codebook has this token error."""
    found = functools.cache(lambda db: one.error(db, key))

    def excess(db: float) -> float:
        value = float(found(db).value)
        return _log_odds(value) - _log_odds(target)

    db = start
    exact = float(found(db).standard_error) == 0

    def between() -> float:
        low, high = start - 3, start + 3
        while excess(low) <= 0 and low > LOWEST_DB:
            low -= 6
        while excess(high) >= 0 and high < HIGHEST_DB:
            high += 6
        return float(optimize.brentq(excess, low, high, xtol=CLOSE_DB))

    if exact:
        db = between()
        slope = (excess(db + 0.01) - excess(db - 0.01)) / 0.02
    else:
        slope, before = -0.5, None
        for _ in range(STEPS):
            off = excess(db)
            if before is not None and abs(db - before[0]) > 1e-3:
                secant = (off - before[1]) / (db - before[0])
                slope = min(secant, -0.02)
            spread = float(found(db).standard_error) / (target * (1 - target))
            if abs(off) <= CLOSE_ENOUGH * spread:
                break
            before = db, off
            db += float(np.clip(-off / slope, -4, 4))
        else:  # steps that do not end
            db = between()
            slope = min((excess(db + 0.5) - excess(db - 0.5)), -0.02)
    last = found(db)
    # From the error's odds to dB, at the slope there.
    scale = 1 / (abs(slope) * target * (1 - target))
    left = 0.0 if exact else abs(excess(db) / slope)
    return Estimate(
        db,
        standard_error=scale * float(last.standard_error),
        numerical_error=scale * float(last.numerical_error) + left + CLOSE_DB,
        n_samples=last.n_samples,
        method=last.method,
        seed=last.seed,
        quantity="SNR",
        unit="dB",
        draws=last.draws,
    )


def _log_odds(value: float) -> float:
    return math.log(max(value, TINY)) - math.log1p(-min(value, 1 - EPS))


def _gain(given: Estimate, other: Estimate) -> Estimate:
    """How much less SNR it needs; the given levels are exact."""
    return dataclasses.replace(
        other,
        value=float(given.value) - float(other.value),
        numerical_error=float(given.numerical_error) + float(other.numerical_error),
        quantity="gain",
    )


def _moved(gain: Estimate, by: float) -> Estimate:
    return dataclasses.replace(gain, value=float(gain.value) + by)
