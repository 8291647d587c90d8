"""A second device on a machine that has none: tensors of the CPU that count as those of a GPU.

Within `Elsewhere()`, `ELSEWHERE` may be asked for by name. What is made without a device is on the
host, results are where their inputs are, host and device do not mix, and nothing but `.cpu()` and
`.to` brings tensors back, as with a real GPU. `carried` has the shapes of what `.to` carried over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

ELSEWHERE = torch.device("cuda:0")
HOST = torch.device("cpu")

_Generator = torch.Generator
_DEVICE = Tensor.device.__get__


class Mixed(AssertionError):
    """Host and device in one operation, or numbers taken from the device as if it were the host."""


def is_there(tensor: Tensor) -> bool:
    return getattr(tensor, "is_elsewhere", False)


def bring(module: nn.Module) -> nn.Module:
    """A module counts as moved to the device, with what it registers and nothing else."""
    for tensor in [*module.parameters(), *module.buffers()]:
        tensor.is_elsewhere = True  # type: ignore[attr-defined]
    return module


def _marked(result: Any, there: bool) -> Any:
    for tensor in tree_leaves(result):
        if isinstance(tensor, Tensor) and not isinstance(tensor, nn.Parameter):
            tensor.is_elsewhere = there  # type: ignore[attr-defined]
    return result


class Elsewhere(TorchFunctionMode):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.carried: list[tuple[int, ...]] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        there = any(map(is_there, tensors))
        if function == _DEVICE:
            return ELSEWHERE if there else HOST
        if name in ("to", "cpu", "numpy", "item", "tolist", "__array__"):
            return self._moved(function, name, args, kwargs, there)
        host = [t for t in tensors if not is_there(t) and t.ndim]
        if there and host and not (name == "__getitem__" and is_there(args[0])):
            raise Mixed(f"{name}: {[tuple(t.shape) for t in host]} of the host")
        asked = kwargs.get("device")
        if asked is not None:
            there = torch.device(asked) == ELSEWHERE
            kwargs["device"] = HOST
        source = kwargs.get("generator")
        if source is not None and getattr(source, "is_elsewhere", False) != there:
            raise Mixed(f"{name}: a generator of the other device")
        return _marked(function(*args, **kwargs), there)

    def _moved(self, function: Any, name: str, args: Any, kwargs: Any, there: bool) -> Any:
        if name in ("item", "tolist"):
            return function(*args, **kwargs)  # a copy of few numbers, as on a GPU
        if name in ("numpy", "__array__"):
            if there:
                raise Mixed(f"{name} of a tensor of the device")
            return function(*args, **kwargs)
        before, after = there, there
        if name == "cpu":
            return _marked(args[0].clone(), False)
        rest = [*args[1:], *kwargs.values()]
        for target in rest:
            if isinstance(target, Tensor):
                after = is_there(target)
            elif isinstance(target, torch.device) or target in ("cpu", "cuda", "cuda:0"):
                after = torch.device(target).type == "cuda"
        if before != after:
            self.carried.append(tuple(args[0].shape))
        plain = tree_map_only(torch.device, lambda device: HOST, (args, kwargs))
        result = function(*plain[0], **plain[1])
        return _marked(result.clone() if result is args[0] else result, after)


class _Source(_Generator):
    """A generator that says of which device it is."""

    is_elsewhere = False

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return ELSEWHERE if self.is_elsewhere else HOST

    def __new__(cls, device: Any = "cpu") -> _Source:
        made = super().__new__(cls, "cpu")  # type: ignore[call-arg]
        made.is_elsewhere = torch.device(device).type == "cuda"
        return made


@contextlib.contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """The mode, with generators of the device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", _Source)
        with Elsewhere() as mode:
            yield mode
