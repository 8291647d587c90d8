"""Codebooks out of tables: sums over stages, coordinates side by side, and their projections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokenkl._validation import MAX_ELEMENTS
from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.codebooks.digits import ByDigits
from tokenkl.codebooks.layouts.base import Part
from tokenkl.codebooks.layouts.linear import Linear
from tokenkl.codebooks.parts import Product
from tokenkl.codebooks.residual import ResidualCodebook


def points(part: Part, vectors: np.ndarray) -> Codebook:
    """The rows of one table."""
    return PointCodebook(vectors, name=part.name, allow_duplicates=part.allow_duplicates)


def added(part: Part, stages: Sequence[np.ndarray]) -> Codebook:
    """One row of each table, added up; the rows themselves where there is one table."""
    if len(stages) == 1 and part.structure != "rvq":
        return points(part, stages[0])
    return ResidualCodebook(list(stages), name=part.name)


def beside(part: Part, codebooks: Sequence[Codebook]) -> Codebook:
    """One token of each codebook, their coordinates one after the other."""
    if len(codebooks) == 1 and part.structure != "product":
        return codebooks[0]
    return Product(codebooks, name=part.name)


def projected(part: Part, codebook: Codebook, linear: Linear, name: str) -> Codebook:
    """The codebook behind a projection: one of a product, too, is a sum over its parts."""
    if codebook.n != linear.n_in:
        part.refuse(
            f"{name} in it is for vectors of {linear.n_in} numbers, and its codes have {codebook.n}"
        )
    if _rows(codebook) * max(linear.weight.shape) > MAX_ELEMENTS:
        part.refuse("its decoded codes are too many to be listed")
    stages = [table @ linear.weight.T for table in _summands(codebook)]
    stages[0] = stages[0] + linear.bias
    return added(part, stages)


def decoded(part: Part, codebook: Codebook, out: Linear | None) -> Codebook:
    """The codes as they are, or behind their projection where that was asked for."""
    if out is None:
        if part.space == "decoded":
            part.remarks.append("no projection: decoded codes are the codes")
        return codebook
    if part.space != "decoded":
        part.remarks.append("before the projection out of the space of the codes")
        return codebook
    part.remarks.append("decoded, behind the projection")
    return projected(part, codebook, out, "the projection")


def _rows(codebook: Codebook) -> int:
    """How many rows the tables of `_summands` have."""
    if isinstance(codebook, ResidualCodebook):
        return sum(codebook.shape)
    return codebook.K if len(codebook.parts) == 1 else sum(map(_rows, codebook.parts))


def _summands(codebook: Codebook) -> list[np.ndarray]:
    """Tables of which one row each adds up to a token, the last varying fastest in the ids."""
    if isinstance(codebook, ResidualCodebook):
        return [np.asarray(stage) for stage in codebook.stages]
    if len(codebook.parts) == 1:
        return [np.asarray(codebook.points)]
    tables, start = [], 0
    for one in codebook.parts:
        around = ((0, 0), (start, codebook.n - start - one.n))
        tables.append([np.pad(table, around) for table in _summands(one)])
        start += one.n
    if isinstance(codebook, ByDigits) and codebook.order == "F":
        tables.reverse()
    return [table for group in tables for table in group]
