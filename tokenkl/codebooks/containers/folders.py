"""A model in a folder, in one file or in several that an index lists."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from tokenkl._files import PathLike
from tokenkl._formats import Arrays, Opened, open_arrays, reading, refuse
from tokenkl._validation import shortened
from tokenkl.codebooks.containers.checkpoint import open_checkpoint

#: What models are called in their folders, the first that is there.
MODELS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
#: How files of an index are opened, by their endings.
SHARDS = {".safetensors": open_arrays, ".bin": open_checkpoint}
#: Most files that an index may list.
MAX_SHARDS = 2000


class _Index(TypedDict):
    weight_map: dict[str, str]


def in_folder(folder: PathLike, expected: str) -> Path:
    """The model in a folder: by its usual name, or the only .safetensors file.

    Raises:
        FileError: none, or several.
    """
    for name in MODELS:
        if (path := Path(folder, name)).is_file():
            return path
    found = sorted(Path(folder).glob("*.safetensors"))
    if len(found) != 1:
        how_many = f"{len(found)} .safetensors files" if found else "no model.safetensors"
        refuse(folder, expected, f"it is a folder with {how_many}; name the file")
    return found[0]


@contextlib.contextmanager
def open_shards(file: Opened) -> Iterator[Arrays]:
    """The arrays that an index lists, whichever file they are in.

    It is called model.safetensors.index.json, or pytorch_model.bin.index.json.
    """
    places = file.json(_Index)["weight_map"]
    shards = sorted(set(places.values()))
    if len(shards) > MAX_SHARDS:
        file.refuse(f"it lists {len(shards):,} files")
    with contextlib.ExitStack() as stack:
        opened: dict[str, Arrays] = {}
        size = file.size
        for shard in shards:
            opener = next((open for end, open in SHARDS.items() if shard.endswith(end)), None)
            if Path(shard).name != shard or opener is None:
                expected = "a .safetensors or .bin file beside it"
                file.refuse(f"it lists {shortened(shard, 60)!r}, not {expected}")
            path = file.path.with_name(shard)
            if not path.is_file():
                file.refuse(f"it lists {shortened(shard, 60)}, and there is no such file beside it")
            part = stack.enter_context(reading(path, file.expected))
            opened[shard] = stack.enter_context(opener(part))
            size += part.size
        shapes: dict[str, Any] = {}
        for name, shard in places.items():
            if name not in opened[shard].shapes:
                file.refuse(f"{shortened(name, 60)} is not in {shard}, where it says that it is")
            shapes[name] = opened[shard].shapes[name]
        whole = dataclasses.replace(file, size=size)
        yield Arrays(whole, shapes, lambda name: opened[places[name]].read(name))
