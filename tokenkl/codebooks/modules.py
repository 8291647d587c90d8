"""`from_module`: the codebook of a module of PyTorch in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tokenkl._formats import Arrays, Opened
from tokenkl._validation import is_tensor, reject
from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.layouts import (
    Lengths,
    Part,
    Space,
    Structure,
    check_words,
    interpret,
)
from tokenkl.codebooks.layouts.tables import NORMALISING

#: Attributes that say what the arrays of a quantizer do not, where they are numbers or switches.
ATTRIBUTES = (
    "preserve_symmetry",
    "need_inv_act",
    "codebook_scale",
    "spherical",
    "adds_halves",
    "equal_spacing",
    "leech_inner",
    "num_codebooks",
    "heads",
    "groups",
    "num_groups",
    *NORMALISING,
)


def from_module(
    module: Any,
    *,
    key: str | None = None,
    structure: Structure | None = None,
    space: Space | None = None,
    lengths: Lengths | None = None,
    allow_duplicates: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Codebook:
    """The codebook of a quantizer or model of PyTorch, such as `load_codebook` reads from a file.

    A module knows what its file may not: the levels of an FSQ, the scale of an LFQ, the number of
    heads. Numbers are copied; the codebook does not follow later training.

    Args:
        module: a `torch.nn.Module`.
        key: the name of one parameter or buffer, or of the submodule that is meant.
        structure: "vq", "rvq" or "product"; what has another structure is refused.
        space: "latent" (before projections) or "decoded" (behind them).
        lengths: "unit" (vectors divided by their lengths) or "stored" (as they are).
        allow_duplicates: accept equal rows.
        tell: called with one sentence on which arrays were read, and how.

    Raises:
        ValueError: no module, or one without a codebook or with several.

    Example:
        >>> import tokenkl as tk
        >>> from vector_quantize_pytorch import FSQ
        >>> tk.from_module(FSQ(levels=[8, 5, 5, 5]), tell=print)
        scalar quantizer: _levels
        <FSQ FSQ 8x5x5x5: K = 1,000, n = 4, equal priors>
    """
    parts = ("state_dict", "named_buffers", "named_modules")
    if isinstance(module, type) or not all(hasattr(module, name) for name in parts):
        got = repr(module) if isinstance(module, type) else type(module).__name__
        reject("module", got, "a torch.nn.Module; points go into PointCodebook")
    check_words(structure, space, lengths, key)
    named = dict(module.named_buffers(remove_duplicate=False)) | dict(module.state_dict())
    tensors = {name: tensor for name, tensor in named.items() if _has_numbers(tensor)}
    if named and not tensors:
        expected = "a module whose tensors have numbers, not on the meta device nor lazy"
        reject("module", type(module).__name__, expected)
    numbers = {
        f"{owner}.{name}".lstrip("."): np.float64(value)
        for owner, one in module.named_modules(remove_duplicate=False)
        for name in ATTRIBUTES
        if isinstance(value := getattr(one, name, None), (bool, int, float))
    }
    shapes = {n: tuple(t.shape) for n, t in tensors.items()} | dict.fromkeys(numbers, ())

    def read(name: str) -> Any:
        if name in numbers:
            return numbers[name]
        tensor = tensors[name].detach().cpu()
        return (tensor.double() if tensor.is_floating_point() else tensor).numpy()

    expected = "a module with a codebook"
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    arrays = Arrays(Opened(Path(type(module).__name__), size, expected), shapes, read)
    codebook, how = interpret(Part(arrays, "", structure, space, allow_duplicates, lengths), key)
    if tell is not None:
        tell(how)
    return codebook


def _has_numbers(tensor: Any) -> bool:
    """Not so for what a module keeps besides tensors, and for tensors that were never made."""
    try:
        return is_tensor(tensor) and not tensor.is_meta and len(tensor.shape) >= 0
    except RuntimeError:  # of a lazy module, whose shapes follow from its first input
        return False
