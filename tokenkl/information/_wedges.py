"""Draws from intersections of two half-spaces: what is left of an error when pairs are summed.

The sums over pairs of tokens exceed the error probability, the entropy and the variance by E R(Y),
where R vanishes unless a third token matters. Token k, a pair {i, j} and the noise given that both
beat k are drawn with a probability proportional to pi_k P(H_ki and H_kj), so that y has the density
f(y) M_2(y) / D, with M_2 = sum_k p(k|y) S_k (S_k - 1) / 2 and D the second Bonferroni sum, and

    E R(Y) = D E[R(Y) / M_2(Y)].

This is "at least one rare event" once more, for pairs of events; for the error the ratio is in
(0, 1]. D has too many terms. So a first half-space is drawn from the sums over pairs, and a second
one from all those that meet it: for one half of the draws the first is the nearer of the two, for
the other half the farther one. Weights by the balance heuristic (Veach and Guibas 1995) are at most
twice the smaller of what either way alone would give.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tokenkl._random import draw_ids
from tokenkl.information._halfspaces import Draws, Level, upper_tail

#: Part of the draws by the farther half-space whose token is drawn evenly.
EVEN = 0.1


def doubles(level: Level, size: int, rng: np.random.Generator, moments: bool) -> Draws:
    """Draws from two half-spaces each, and the excess of the sums over pairs."""
    from tokenkl.information import _overlaps
    from tokenkl.information._pairs import in_tiles

    tokens, h = level.tokens, level.h
    K, n = tokens.points.shape
    by_far = np.arange(size) % 2 == 1
    active = level.rows > 0
    second = np.maximum(level.rows - level.most, 1e-12 * level.rows)
    shares = np.stack([level.rows, second])
    shares /= shares.sum(axis=1, keepdims=True)
    shares[1] = (1 - EVEN) * shares[1] + EVEN * active / active.sum()
    drawn = [draw_ids(rng, share, K, size) for share in shares]
    k = np.where(by_far, drawn[1], drawn[0])
    uniform, noise = rng.random((size, 3)), rng.standard_normal((size, n))
    tiles = in_tiles(tokens.points)
    found = np.zeros((size, len(_overlaps.WEDGE)))
    known = (tiles, tokens.points, tokens.log_prior, tokens.ids, tokens.equal, h, level.edge)
    _overlaps.share_out(
        lambda part: _overlaps.choose(*known, k[part], by_far[part], uniform[part], found[part]),
        size,
    )
    by_name = dict(zip(_overlaps.WEDGE, found.T, strict=True))
    prior = np.exp(tokens.log_prior[k])
    inverse = np.zeros(size)
    for kind, (row, sums) in enumerate((("near_row", "near_sum"), ("far_row", "far_sum"))):
        scale = by_name[row] * by_name[sums] * prior
        inverse += np.where(scale > 0, shares[kind, k] / np.where(scale > 0, scale, 1.0), 0.0) / 2
    alive = np.flatnonzero((inverse > 0) & (by_name["first"] + by_name["second"] > 0))
    weight = np.zeros(size)
    weight[alive] = 1 / inverse[alive]
    ratios = np.zeros((3, size))
    if alive.size:
        chosen = {name: values[alive] for name, values in by_name.items()}
        inside = _into_wedges(tokens.points, k[alive], chosen, noise[alive], rng)
        some = np.zeros((3, alive.size))

        def work(part: slice) -> None:
            _overlaps.remainders(
                tiles, tokens.points, tokens.log_prior, h, k[alive][part], inside[part], moments,
                some[:, part],
            )

        _overlaps.share_out(work, alive.size)
        ratios[:, alive] = some
    near = np.maximum(by_name["r"][~by_far], 0.0)
    faint = K * np.exp(-_overlaps.FAINT / 2) * float(np.exp(-(near**2) / 2).mean())
    return Draws(
        (weight * ratios).T,
        np.zeros((size, 0)),
        by_far.astype(int),
        overlap=float(weight.mean()),
        faint=faint,
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
    """w >= corner with a density proportional to phi(w) / (radius^2 + w^2), by rejection."""
    w = np.zeros(radius.size)
    least = radius**2 + np.maximum(corner, 0.0) ** 2
    open_ = np.arange(radius.size)
    while open_.size:
        tried = np.maximum(upper_tail(corner[open_], 1 - rng.random(open_.size)), corner[open_])
        taken = rng.random(open_.size) * (radius[open_] ** 2 + tried**2) < least[open_]
        w[open_[taken]] = tried[taken]
        open_ = open_[~taken]
    return w


def _rejected(outer: Any, inner: Any, c: Any, root: Any, rng: np.random.Generator) -> Any:
    """(x, y) standard normal given x > outer and c x + root y > inner."""
    x, y = np.zeros((2, outer.size))
    open_ = np.arange(outer.size)
    while open_.size:
        first = upper_tail(outer[open_], 1 - rng.random(open_.size))
        second = rng.standard_normal(open_.size)
        taken = c[open_] * first + root[open_] * second >= inner[open_]
        x[open_[taken]], y[open_[taken]] = first[taken], second[taken]
        open_ = open_[~taken]
    return x, y
