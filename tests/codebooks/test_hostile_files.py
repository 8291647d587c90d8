"""Every kind of file that the library reads, damaged in many ways; those of speech are in tts/."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from safetensors.numpy import save_file

from tokenkl import (
    FSQ,
    OneHot,
    PointCodebook,
    ProductCodebook,
    ResidualCodebook,
    load_codebook,
    save_codebook,
)
from tokenkl.codebooks import load_prior, load_tokens, save_prior

RNG = np.random.default_rng(0)
PRIOR = np.array([0.1, 0.2, 0.3, 0.4])
CODEBOOKS = {
    "points": PointCodebook(RNG.normal(size=(4, 3)), PRIOR, name="four"),
    "onehot": OneHot(4, PRIOR),
    "stages": ResidualCodebook([RNG.normal(size=(3, 2)), RNG.normal(size=(4, 2))]),
    "fsq": FSQ((3, 4), order="F"),
    "product": ProductCodebook([np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0])], name="grid"),
}


def _saved(name: str) -> Callable[[Path], object]:
    return lambda path: save_codebook(CODEBOOKS[name], path)


def _prior(path: Path) -> None:
    save_prior(PRIOR, path)


def _text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def _state_dict(path: Path) -> None:
    layers = {f"layers.{i}._codebook.embed": RNG.normal(size=(1, 4, 2)) for i in range(3)}
    save_file(layers, path)


Kind = tuple[str, Callable[[Path], object], Callable[[Path], Any], hostile.Damage | None]
KINDS: list[Kind] = [
    *((f"{n}.npz", _saved(n), load_codebook, hostile.damage_npz) for n in CODEBOOKS),
    *(
        (f"{n}.safetensors", _saved(n), load_codebook, hostile.damage_safetensors)
        for n in CODEBOOKS
    ),
    ("state.safetensors", _state_dict, load_codebook, hostile.damage_safetensors),
    ("a.npy", lambda p: np.save(p, RNG.normal(size=(5, 2))), load_codebook, hostile.damage_npy),
    ("p.npz", _prior, load_prior, hostile.damage_npz),
    ("p.npy", _prior, load_prior, hostile.damage_npy),
    ("p.json", _prior, load_prior, hostile.damage_json),
    ("p.csv", _prior, load_prior, hostile.damage_lines),
    ("t.npy", lambda p: np.save(p, np.arange(9)), load_tokens, hostile.damage_npy),
    ("t.npz", lambda p: np.savez(p, tokens=np.arange(9)), load_tokens, hostile.damage_npz),
    ("t.txt", _text("1 2 3\n4 5\n"), load_tokens, hostile.damage_lines),
]
kinds = pytest.mark.parametrize(
    ("name", "make", "load", "damage"), KINDS, ids=[k[0] for k in KINDS]
)


def _attack(kind: Kind, folder: Path, count: int, seed: int) -> dict[str, int]:
    name, make, load, damage = kind
    path = folder / name
    make(path)
    load(path)
    return hostile.attack(path, lambda: load(path), damage, count, seed=seed)


@kinds
def test_damaged_files(name, make, load, damage, tmp_path):
    told = _attack((name, make, load, damage), tmp_path, 60, 0)
    assert told["refused"] > 10


@pytest.mark.slow
@kinds
def test_files_damaged_in_many_ways(name, make, load, damage, tmp_path):
    _attack((name, make, load, damage), tmp_path, 250, 1)
