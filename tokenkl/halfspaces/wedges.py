"""Draws from intersections of two half-spaces: what is left of an error when pairs are summed.

The sums over pairs of tokens exceed the error probability, the entropy and so on by E R(Y),
where R vanishes unless a third token matters. Token k, a pair {i, j} and the noise given that both
beat k are drawn with a probability proportional to pi_k P(H_ki and H_kj), so that y has the density
f(y) M_2(y) / D, with M_2 = sum_k p(k|y) S_k (S_k - 1) / 2 and D the second Bonferroni sum, and

    E R(Y) = D E[R(Y) / M_2(Y)].

This is "at least one rare event" once more, for pairs of events; for the error the ratio is in
(0, 1]. D has too many terms. So one half of the draws takes a first half-space from the sums over
pairs, and then one that is farther from all those that meet it; the other half takes both at once
from all pairs of a list of the nearest, for tokens whose lists overlap much. Weights by the balance
heuristic (Veach and Guibas 1995) are at most twice the smaller of what either way would give alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._random import draw_ids
from tokenkl.halfspaces.tokens import TINY, Draws, Level, upper_tail
from tokenkl.numerics.threads import share_out

#: How far in standard deviations what is left is next to nothing: exp(-REACH^2 / 2) = 3e-18.
REACH = 9.0
#: Part of the second way's draws whose token is drawn as in the first, and the most tokens whose
#: lists are gone through beforehand.
PLAIN, LISTS = 0.2, 1024


class Proposal(NamedTuple):
    """How draws at one level are made: the codebook for the kernel, shares of the tokens, and
    about the second Bonferroni sum, and that with squared distances.

    `carried` is the part of the draws that can be expected to carry the latter.
    """

    level: Level
    codebook: tuple[Any, ...]
    shares: Float[np.ndarray, "2 K"]
    overlap: float
    spread: float = 0.0
    carried: float = 1.0


def prepare(level: Level) -> Proposal:
    """Shares of the tokens in both ways of drawing, and how much overlaps; nothing random."""
    from tokenkl.halfspaces.pair_sums import in_tiles

    tokens = level.tokens
    known = (tokens.points, tokens.log_prior, tokens.ids, tokens.equal)
    codebook = (in_tiles(tokens.points), *known)
    first = level.rows / level.rows.sum()
    # All but the most likely rival, times their number, bounds the overlap.
    rest = np.maximum(level.rows - level.most, 1e-12 * level.rows)
    looked = np.sort(np.argsort(-rest, kind="stable")[:LISTS])
    prior = np.exp(tokens.log_prior[looked, None])
    sums = prior * _for_each("list_sums", level, codebook, looked, 3)
    found, (whole, spread, squares) = sums[:, 0], sums.sum(axis=0)
    overlap = rest * (found.sum() / rest[looked].sum())
    overlap[looked] = found
    if not overlap.sum() > 0:
        return Proposal(level, codebook, np.stack([first, first]), 0.0)
    second = (1 - PLAIN) * overlap / overlap.sum() + PLAIN * first
    carried = spread**2 / max(whole * squares, TINY) if spread > 0 else 1.0
    shares = np.stack([first, second])
    return Proposal(level, codebook, shares, float(overlap.sum()), float(spread), float(carried))


def lower_bound_of(level: Level, lists: bool) -> float:
    """A lower bound on the error probability: over the nearest half-spaces, or the one nearest."""
    from tokenkl.halfspaces.pair_sums import in_tiles

    tokens = level.tokens
    best = float(level.most.sum()) * (1 - 1e-12)
    if not lists:
        return best
    known = (tokens.points, tokens.log_prior, tokens.ids, tokens.equal)
    rows = np.arange(tokens.ids.size)
    found = _for_each("unions", level, (in_tiles(tokens.points), *known), rows)[:, 0]
    return max(best, float(np.exp(tokens.log_prior) @ found) * (1 - 1e-12))


def _for_each(
    name: str, level: Level, codebook: tuple[Any, ...], rows: Int[np.ndarray, " p"], width: int = 1
) -> Float[np.ndarray, "p width"]:
    """`overlaps.list_sums` or `overlaps.unions` of these tokens."""
    from tokenkl.halfspaces import overlaps

    found, kernel = np.zeros((len(rows), width)), getattr(overlaps, name)
    share_out(
        lambda part: kernel(codebook, level.h, level.edge, rows[part], found[part]),
        len(rows),
        overlaps.TASK,
    )
    return found


def doubles(proposal: Proposal, size: int, rng: np.random.Generator, moments: bool) -> Draws:
    """Draws from two half-spaces each, and the excess of the sums over pairs."""
    from tokenkl.halfspaces import overlaps

    level, codebook, shares = proposal[:3]
    tokens, h = level.tokens, level.h
    K, n = tokens.points.shape
    by_list = np.arange(size) % 2 == 1
    drawn = [draw_ids(rng, share, K, size) for share in shares]
    k = np.where(by_list, drawn[1], drawn[0])
    uniform, noise = rng.random((size, 2)), rng.standard_normal((size, n))
    found = np.zeros((size, len(overlaps.WEDGE)))
    share_out(
        lambda part: overlaps.choose(
            codebook, h, level.edge, k[part], by_list[part], uniform[part], found[part]
        ),
        size,
        overlaps.TASK,
    )
    by_name = dict(zip(overlaps.WEDGE, found.T, strict=True))
    prior = np.exp(tokens.log_prior[k])
    sums = np.stack([by_name["near_row"] * by_name["near_sum"], by_name["list_sum"]]) * prior
    chance = np.where(sums > TINY, shares[:, k] / np.maximum(sums, TINY), 0.0).mean(axis=0)
    alive = np.flatnonzero((chance > 0) & (by_name["first"] + by_name["second"] > 0))
    weight = np.zeros(size)
    weight[alive] = 1 / chance[alive]
    ratios = np.zeros((level.totals.size, size))
    if alive.size:
        chosen = {name: values[alive] for name, values in by_name.items()}
        inside = _into_wedges(tokens.points, k[alive], chosen, noise[alive], rng)
        some = np.zeros((level.totals.size, alive.size))
        share_out(
            lambda part: overlaps.remainders(
                codebook, h, k[alive][part], inside[part], moments, some[:, part]
            ),
            alive.size,
            overlaps.TASK,
        )
        ratios[:, alive] = some
    near = np.maximum(by_name["r"][~by_list], 0.0)
    return Draws(
        (weight * ratios).T,
        np.zeros((size, 0)),
        by_list.astype(int),
        faint=K * np.exp(-overlaps.FAINT / 2) * float(np.exp(-(near**2) / 2).mean()),
    )


def _into_wedges(
    points: Float[np.ndarray, "K n"],
    k: Int[np.ndarray, " p"],
    wedge: dict[str, Any],
    noise: Float[np.ndarray, "p n"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "p n"]:
    """Noise with its part in the plane of the two normals drawn anew, inside the wedge."""
    r, s, c = wedge["r"], wedge["s"], wedge["cosine"]
    normals = []
    for name in ("near", "far"):
        arrow = points[wedge[name].astype(int)] - points[k]
        length = np.sqrt(np.einsum("pn,pn->p", arrow, arrow))
        normals.append(arrow / np.where(length > 0, length, 1.0)[:, None])
    near, far = normals
    regular = (r > 0) & (s > 0)
    by_near = rng.random(k.size) * (wedge["first"] + wedge["second"]) < wedge["first"]
    # The face that is hit, its distance, and where along it the corner is.
    normal = np.where(by_near[:, None], near, far)
    other = np.where(by_near[:, None], far, near)
    distance, beyond = np.where(by_near, r, s), np.where(by_near, s, r)
    root = np.sqrt(np.maximum(1 - c**2, 1e-30))
    radius = np.where(regular, distance, 1.0)
    with np.errstate(invalid="ignore"):
        corner = np.where(regular, (beyond - c * distance) / root, 0.0)
    along = _along_face(radius, corner, rng)
    # Outwards from the face the squared radius has an exponential law.
    growth = np.sqrt(1 + 2 * rng.standard_exponential(k.size) / (radius**2 + along**2))
    x, y = radius * growth, along * growth
    # Half-planes that hold the origin: by rejection, from the farther one.
    odd = np.flatnonzero(~regular)
    if odd.size:
        farther = np.where(s[odd] >= r[odd], 1, 0)
        normal[odd] = np.where(farther[:, None] == 1, far[odd], near[odd])
        other[odd] = np.where(farther[:, None] == 1, near[odd], far[odd])
        outer, inner = np.maximum(r[odd], s[odd]), np.minimum(r[odd], s[odd])
        x[odd], y[odd] = _rejected(outer, inner, c[odd], root[odd], rng)
    across = other - c[:, None] * normal
    length = np.sqrt(np.einsum("pn,pn->p", across, across))
    flat = length < 1e-7  # one direction: what is across it stays as it was
    across = across / np.where(flat, 1.0, length)[:, None]
    across[flat] = 0.0
    is_real = np.einsum("pn,pn->p", normal, normal) > 0.5  # not of two tokens at one place
    now = np.einsum("pn,pn->p", noise, normal)
    noise = noise + np.where(is_real, x - now, 0.0)[:, None] * normal
    now = np.einsum("pn,pn->p", noise, across)
    return noise + np.where(flat, 0.0, y - now)[:, None] * across


def _along_face(radius: Any, corner: Any, rng: np.random.Generator) -> Any:
    """w >= corner with a density proportional to phi(w) / (radius^2 + w^2), by rejection.

    From the normal law, or from that of Cauchy where the peak at 0 is narrow and not cut off: both
    accept a fair part of what is tried, however small the radius.
    """
    w = np.zeros(radius.size)
    nearest = np.maximum(corner, 0.0)
    least = radius**2 + nearest**2
    peaked = (radius < 1) & (corner < 1)
    lowest = np.arctan2(corner, radius)
    open_ = np.arange(radius.size)
    while open_.size:
        uniform, chance = rng.random((2, open_.size))
        tried = np.maximum(upper_tail(corner[open_], 1 - uniform), corner[open_])
        taken = chance * (radius[open_] ** 2 + tried**2) < least[open_]
        some = np.flatnonzero(peaked[open_])
        rows = open_[some]
        angle = lowest[rows] + uniform[some] * (np.pi / 2 - lowest[rows])
        tried[some] = np.maximum(radius[rows] * np.tan(angle), corner[rows])
        taken[some] = chance[some] < np.exp((nearest[rows] ** 2 - tried[some] ** 2) / 2)
        w[open_[taken]] = tried[taken]
        open_ = open_[~taken]
    return w


def _rejected(outer: Any, inner: Any, c: Any, root: Any, rng: np.random.Generator) -> Any:
    """(x, y) standard normal given x > outer and c x + root y > inner, for inner <= 0.

    y > t(x) = (inner - c x) / root is left to be drawn once an x is taken, with a probability
    proportional to Q(t(x)). Where c < 0 that falls with x, and x is tried up to where nothing is
    left of it: at least one try in fifty is taken, however thin the wedge.
    """
    outer, inner = np.maximum(outer, -40.0), np.maximum(inner, -40.0)  # they may be -inf
    least = (inner - c * outer) / root
    with np.errstate(divide="ignore", invalid="ignore"):
        far = root / np.maximum(-c, 0.0) * (np.hypot(np.maximum(least, 0.0), REACH) - least)
    width = np.where(c < 0, far, np.inf)
    thin = width * np.maximum(np.abs(outer), 1.0) < 1e-6  # the normal density is a constant there
    beyond = np.exp(special.log_ndtr(-outer - width) - special.log_ndtr(-outer))
    highest = np.where(c < 0, special.log_ndtr(-least), 0.0)  # of Q(t), where it is the largest
    x, y = np.zeros((2, outer.size))
    open_ = np.arange(outer.size)
    while open_.size:
        place, chance, rest = rng.random((3, open_.size))
        inside = upper_tail(outer[open_], beyond[open_] + (1 - beyond[open_]) * (1 - place))
        further = np.where(thin[open_], place * np.where(thin, width, 0.0)[open_], 0.0)
        more = np.where(thin[open_], further, np.maximum(inside - outer[open_], 0.0))
        t = least[open_] - c[open_] / root[open_] * more
        taken = np.log1p(-chance) < special.log_ndtr(-t) - highest[open_]
        rows = open_[taken]
        x[rows] = outer[rows] + more[taken]
        y[rows] = np.maximum(upper_tail(t[taken], 1 - rest[taken]), t[taken])
        open_ = open_[~taken]
    return x, y
