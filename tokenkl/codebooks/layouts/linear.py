"""Projections: the affine map that takes codes to the space that a model works in."""

from __future__ import annotations

import dataclasses

import numpy as np

from tokenkl.codebooks.layouts.base import Part

#: Names of projections away from the codes.
OUT = ("project_out", "out_proj", "output_proj")
#: The same beside a quantizer of images.
BESIDE = "post_quant_conv"
#: Names under which the two halves of a weight-normalised map are kept: length, and direction.
NORMALISED = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


@dataclasses.dataclass(frozen=True)
class Linear:
    """x -> weight x + bias."""

    weight: np.ndarray
    bias: np.ndarray

    @property
    def n_in(self) -> int:
        """Dimension of what is projected."""
        return int(self.weight.shape[1])

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Rows of vectors behind the projection."""
        return np.asarray(vectors @ self.weight.T + self.bias)


def projection(part: Part) -> Linear | None:
    """The projection away from the codes of this part; None where there is none.

    Linear layers and convolutions of width one, weight-normalised or not. One beside the quantizer
    is read where it is asked for, since it may be a wider convolution.

    Raises:
        ValueError: one that is something else.
    """
    for name in OUT:
        found = part.below(f"{name}.")
        if found.names():
            return _read(found)
    beside = part.above().below(f"{BESIDE}.")
    if beside.names() and part.space == "decoded":
        return _read(beside)
    if beside.names():
        part.remarks.append(f"before {beside.owner[:-1]}")
    return None


def _read(part: Part) -> Linear:
    pair = next((pair for pair in NORMALISED if part.shape(pair[1]) is not None), None)
    main = pair[1] if pair else "weight"
    shape = part.shape(main) or ()
    others = {*(pair or ()), main, "bias"}
    if len(shape) < 2 or any(width != 1 for width in shape[2:]) or set(part.names()) - others:
        part.refuse(f"{part.owner[:-1]} in it is no linear map of one vector")
    weight = part.read(main)
    if pair:
        length = part.read(pair[0]).reshape(-1)
        rows = weight.reshape(len(weight), -1)
        if length.shape != rows.shape[:1]:
            part.refuse(f"{part.owner}{pair[0]} in it does not have one length for each row")
        norms = np.linalg.norm(rows, axis=1)
        weight = rows * (length / np.where(norms > 0, norms, 1.0))[:, None]
    weight = weight.reshape(shape[:2])
    bias = np.zeros(shape[0]) if part.shape("bias") is None else part.read("bias")
    if bias.shape != shape[:1]:
        part.refuse(f"{part.owner}bias in it does not fit {part.owner}{main}")
    return Linear(weight, bias)
