"""`Problem`: one codebook at some noise levels, and what estimators need to know of the two."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Float, Int

from tokenkl._validation import is_traced
from tokenkl.codebooks.base import Codebook
from tokenkl.halfspaces.tokens import Tokens, make_tokens

Made = TypeVar("Made")


class Problem:
    """A codebook and SNRs on one axis.

    Lengths are divided by 2^exponent, which costs no bit and keeps squares from overflow and
    underflow; `h` is what sqrt(snr) is in that unit. What follows from the codebook alone is made
    when it is first asked for, and shared with every problem `at` some of the levels.
    """

    def __init__(self, codebook: Codebook, snr: Float[Any, " s"], exponent: int | None = None):
        self.codebook, self.snr = codebook, snr
        #: Where its levels stand among those of the whole.
        self.place = np.arange(snr.size)
        self._exponent, self._made = exponent, dict[Any, Any]()

    def once(self, make: Callable[..., Made], *how: Any) -> Made:
        """make(codebook, *how), made when it is first asked for."""
        if (make, *how) not in self._made:
            self._made[make, *how] = make(self.codebook, *how)
        found: Made = self._made[make, *how]
        return found

    def at(self, levels: Int[np.ndarray, " levels"]) -> Problem:
        """The same codebook at some of the levels."""
        if levels.size == self.snr.size:
            return self
        part = Problem(self.codebook, self.snr[levels], self._exponent)
        part._made, part.place = self._made, self.place[levels]
        return part

    @cached_property
    def parts(self) -> tuple[Problem, ...]:
        """The independent parts of the codebook at the same levels."""
        problems = []
        for codebook, made in zip(self.codebook.parts, self.once(_made_by_part), strict=True):
            part = Problem(codebook, self.snr)
            part._made, part.place = made, self.place
            problems.append(part)
        return tuple(problems)

    @cached_property
    def is_traced(self) -> bool:
        """Whether JAX traces the SNRs or the codebook."""
        return is_traced(self.snr, *jax.tree_util.tree_leaves(self.codebook))

    @property
    def points(self) -> Float[np.ndarray, "K n"]:
        return np.asarray(self.codebook.points)

    @property
    def exponent(self) -> int:
        """For which no centred coordinate is above 1, and the largest above 1/2 (by default)."""
        return self.once(_centred)[1] if self._exponent is None else self._exponent

    @property
    def centred(self) -> Float[np.ndarray, "K n"]:
        """The points less their mean, since large offsets would cost digits; scaled."""
        points, exponent = self.once(_centred)
        shift = exponent - self.exponent
        return np.ldexp(points, shift) if shift else points

    @property
    def log_prior(self) -> Float[np.ndarray, " K"]:
        return self.once(_log_prior)

    @cached_property
    def root(self) -> Float[np.ndarray, " s"]:
        """sqrt(snr), in the codebook's own unit."""
        return np.sqrt(self.snr)

    @cached_property
    def h(self) -> Float[np.ndarray, " s"]:
        """sqrt(snr), scaled."""
        return np.ldexp(self.root, self.exponent)

    @property
    def tokens(self) -> Tokens:
        """The tokens in k-d order, for half-spaces; scaled."""
        return self.once(make_tokens, self.exponent)


def _made_by_part(codebook: Codebook) -> list[dict[Any, Any]]:
    return [{} for _ in codebook.parts]


def _centred(codebook: Codebook) -> tuple[Float[np.ndarray, "K n"], int]:
    points = np.asarray(codebook.points, dtype=float)
    before = _exponent_of(points)
    points = np.ldexp(points, -before)
    points = points - points.mean(axis=0)
    after = _exponent_of(points)
    return np.ldexp(points, -after), before + after


def _exponent_of(points: Float[np.ndarray, "K n"]) -> int:
    return math.frexp(float(np.abs(points).max()) or 1.0)[1]


def _log_prior(codebook: Codebook) -> Float[np.ndarray, " K"]:
    return np.asarray(codebook.log_prior, dtype=float)
