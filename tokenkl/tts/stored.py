"""Networks in files: weights as safetensors, everything else as JSON in the header.

A file is compared with the network that it describes before that is built: a configuration may ask
for more layers, and wider ones, than any machine holds.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tokenkl._files import PathLike, atomic_path
from tokenkl._formats import HEADER, Arrays, errors_of_the_disk, open_tensors, parse_json, reading
from tokenkl._validation import reject, shortened

#: Largest count in the configuration of a network; beyond it, products overflow.
LARGEST = 2**20

Network = TypeVar("Network", bound=nn.Module)

_FLOATS = ("F64", "F32", "F16", "BF16")
_WHOLE = ("I64", "I32", "I16", "I8", "U8", "BOOL")


def write_network(path: PathLike, state: Mapping[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a header of plain values; the file appears whole or not at all.

    Raises:
        ValueError: a folder that does not exist.
        OSError: what the disk says.
    """
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(path) as temporary, errors_of_the_disk():
        save_file(tensors, temporary, {HEADER: json.dumps(header)})


class _NothingDrawn(TorchFunctionMode):
    """Normal draws are left out: for tensors without numbers PyTorch takes a second to import."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") == "normal_":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


class Stored:
    """An open file of `write_network`: `header` has been compared with a type."""

    def __init__(self, header: Any, arrays: Arrays, kinds: dict[str, str]) -> None:
        self.header, self._arrays, self._kinds = header, arrays, kinds

    def refuse(self, why: str) -> NoReturn:
        """This file is not what was expected."""
        self._arrays.file.refuse(why)

    def tensors(self) -> dict[str, Tensor]:
        """All of them, on the CPU."""
        for name, kind in self._kinds.items():
            if kind not in (*_FLOATS, *_WHOLE):
                reject(f"the tensor {shortened(name, 80)}", f"type {kind}", "of numbers")
        return {name: self._arrays.read(name) for name in self._arrays.shapes}

    def network(self, make: Callable[[], Network], parts: int) -> Network:
        """The network that `make` makes, with these weights, in evaluation mode.

        Args:
            make: the network with any weights. It is first called where tensors have no numbers;
                what it computes of constants is best computed on the CPU by name.
            parts: layers that it has at least.

        Raises:
            ValueError: a tensor is missing, too many, of another shape or type, or not finite.
        """
        if parts > len(self._arrays.shapes):  # each has a tensor, and even a sketch takes its time
            reject("its configuration", f"{parts:,} layers", "of fewer layers than weights")
        with torch.device("meta"), _NothingDrawn():  # shapes without numbers
            sketch = make().state_dict()
        _compare(self._arrays.shapes, {name: tuple(v.shape) for name, v in sketch.items()})
        state = self.tensors()
        check_state(state, sketch)
        made = make()
        made.load_state_dict(state)
        return made.eval()


@contextlib.contextmanager
def open_network(path: PathLike, expected: str, kind: Any) -> Iterator[Stored]:
    """Open what `write_network` wrote; whatever is wrong with it, also later, is one sentence.

    Args:
        path: the file.
        expected: what it must be, for the sentence.
        kind: type of the header, see `tokenkl._formats.conform`.

    Raises:
        ValueError: no such file, or another one, or what is refused while this is open.
    """
    with reading(path, expected) as file, open_tensors(file, "pt") as (arrays, kinds):
        if arrays.header is None:
            file.refuse("it does not say what it is")
        yield Stored(parse_json(arrays.header, kind, "its header"), arrays, kinds)


def check_state(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Tensors have the names, shapes and kinds of others, and finite numbers.

    Raises:
        ValueError: the first that is not so.
    """
    shapes = ({n: tuple(v.shape) for n, v in state.items()} for state in (found, wanted))
    _compare(*shapes)
    for name, value in found.items():
        if value.is_floating_point() != wanted[name].is_floating_point():
            reject(f"the tensor {name}", str(value.dtype), f"of type {wanted[name].dtype}")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            reject(f"the tensor {name}", "numbers that are not", "finite everywhere")


def _compare(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    for name in (*wanted, *found):
        if found.get(name) != wanted.get(name):
            shown = [f"of shape {s[name]}" if name in s else "missing" for s in (found, wanted)]
            reject(f"the tensor {shortened(name, 80)}", shown[0], shown[1])
