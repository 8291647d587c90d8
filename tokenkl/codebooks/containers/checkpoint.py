"""Files of PyTorch, read by PyTorch alone, tensors and nothing else (`weights_only=True`)."""

from __future__ import annotations

import contextlib
import importlib.util
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tokenkl._formats import Arrays, Opened, parsing

#: Parts of a checkpoint that hold no codebook: states of training.
TRAINING = ("optim", "lr_sched", "scheduler", "loops", "callbacks", "amp_", "scaler")
#: How deep tables in tables are looked into, and most of what is in them: in a small file one
#: table may stand in another many times.
MAX_DEPTH, MAX_ENTRIES = 8, 2**20


@contextlib.contextmanager
def open_checkpoint(file: Opened) -> Iterator[Arrays]:
    """The tensors of a .pt, .pth, .ckpt or .bin file; tables in tables become dotted names.

    Raises:
        ValueError: PyTorch is not installed, the file holds other objects, or it is no such file.
    """
    with parsing(), zipfile.ZipFile(file.path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            file.refuse("its members are compressed, as PyTorch does not write them")
    if importlib.util.find_spec("torch") is None:
        file.refuse(
            "reading it needs PyTorch, which is not installed; where it is, convert it by "
            f"state = torch.load('{file.path.name}', map_location='cpu', weights_only=True); "
            "safetensors.torch.save_file({k: v.contiguous().clone() for k, v in state.items()}, "
            f"'{file.path.stem}.safetensors')"
        )
    import torch

    content = _load(torch, file)
    notes = {name: str(switch) for name, switch in _leaves(file, content, bool)}
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = dict(_leaves(file, content, torch.Tensor))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def numbers(name: str) -> np.ndarray:
        tensor = tensors[name]
        if tensor.layout != torch.strided or tensor.is_quantized:
            file.refuse(f"{name} in it is a sparse or quantized tensor, which is not read")
        if tensor.dtype in (torch.bfloat16, torch.float16) or "float8" in str(tensor.dtype):
            tensor = tensor.float()
        return np.asarray(tensor.detach().numpy())

    yield Arrays(file, shapes, numbers, notes=notes)


def _load(torch: Any, file: Opened) -> Any:
    with parsing(Exception):  # of any kind, where a file is damaged
        try:
            # Mapped: a tensor that claims more than the file holds is refused, not allocated.
            return torch.load(file.path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            if "Weights only" not in str(error):
                raise
    file.refuse(
        "it holds more than tensors, such as a whole module, and to unpickle that would run its "
        "code; save its state instead: torch.save(module.state_dict(), ...)"
    )


def _leaves(file: Opened, content: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """Everything of this kind in tables and lists in each other, by names with dots."""
    kinds: Any = (kind, Mapping, list, tuple)
    waiting = [("", content, 0)]
    for _ in range(MAX_ENTRIES):
        if not waiting:
            return
        name, value, depth = waiting.pop()
        if isinstance(value, kind):
            yield name or "tensor", value
        elif isinstance(value, kinds) and depth <= MAX_DEPTH:
            table = value.items() if isinstance(value, Mapping) else enumerate(value)
            inner = [
                (f"{name}.{key}" if name else str(key), one, depth + 1)
                for key, one in table
                if isinstance(one, kinds) and not str(key).startswith(TRAINING)
            ]
            waiting += reversed(inner)
    file.refuse(f"it holds more than {MAX_ENTRIES:,} tables and tensors in each other")
