"""Every kind of file that the library reads, damaged in many ways; those of speech are in tts/."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from safetensors.numpy import save_file

from tokenkl import (
    FSQ,
    Codebook,
    OneHot,
    PointCodebook,
    Product,
    ProductCodebook,
    ResidualCodebook,
    load_codebook,
    save_codebook,
)
from tokenkl.codebooks import load_prior, load_tokens, parts, save_prior

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


def _codec(path: Path) -> None:
    """Mimi's sums, counts and projections."""
    arrays = {}
    for branch, count in (("semantic", 1), ("acoustic", 2)):
        home = f"q.{branch}_residual_vector_quantizer"
        arrays[f"{home}.output_proj.weight"] = RNG.normal(size=(5, 2, 1))
        for i in range(count):
            arrays[f"{home}.layers.{i}.codebook.embed_sum"] = RNG.normal(size=(4, 2))
            arrays[f"{home}.layers.{i}.codebook.cluster_usage"] = np.ones(4)
    save_file(arrays, path)


def _groups(path: Path) -> None:
    arrays = {
        f"rvqs.{group}.layers.{i}._codebook.embed": RNG.normal(size=(1, 4, 2))
        for group in range(2)
        for i in range(2)
    }
    save_file(arrays, path)


def _codevectors(path: Path) -> None:
    arrays = {"quantizer.vars": RNG.normal(size=(1, 8, 2)), "project_q.weight": np.ones((3, 4))}
    save_file(arrays, path)


def _levels(path: Path) -> None:
    arrays = {f"values_per_latent.{i}": RNG.normal(size=3) for i in range(2)}
    save_file(arrays | {"project_in.weight": RNG.normal(size=(2, 5))}, path)


def _index(path: Path) -> None:
    save_file({"embed_tokens.weight": RNG.normal(size=(4, 2))}, path.with_name("s.safetensors"))
    path.write_text('{"weight_map": {"embed_tokens.weight": "s.safetensors"}}')


def _checkpoint(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"quantizer._codebook.embed": torch.randn(1, 4, 2)}, path)


def _words(path: Path) -> None:
    path.write_bytes(b"3 2\n" + b"".join(b"w%d " % i + struct.pack("<2f", i, 7) for i in range(3)))


def _gguf(path: Path) -> None:
    text = struct.pack("<Q", 17) + b"token_embd.weight"
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1) + b"a"
    whole = head + struct.pack("<IIQ2i", 9, 5, 2, 1, 2) + text
    whole += struct.pack("<I2QIQ", 2, 2, 4, 0, 0)
    path.write_bytes(whole + bytes(-len(whole) % 32) + RNG.normal(size=8).astype("f").tobytes())


def _index_of_faiss(path: Path) -> None:
    head = b"IxPq" + struct.pack("<iqqq?i", 4, 0, 2**20, 2**20, True, 1)
    numbers = RNG.normal(size=16).astype("f").tobytes()
    path.write_bytes(head + struct.pack("<QQQQ", 4, 2, 2, 16) + numbers)


Kind = tuple[str, Callable[[Path], object], Callable[[Path], Any], hostile.Damage | None]
KINDS: list[Kind] = [
    *((f"{n}.npz", _saved(n), load_codebook, hostile.damage_npz) for n in CODEBOOKS),
    *(
        (f"{n}.safetensors", _saved(n), load_codebook, hostile.damage_safetensors)
        for n in CODEBOOKS
    ),
    ("state.safetensors", _state_dict, load_codebook, hostile.damage_safetensors),
    ("codec.safetensors", _codec, load_codebook, hostile.damage_safetensors),
    ("groups.safetensors", _groups, load_codebook, hostile.damage_safetensors),
    ("vars.safetensors", _codevectors, load_codebook, hostile.damage_safetensors),
    ("levels.safetensors", _levels, load_codebook, hostile.damage_safetensors),
    ("m.index.json", _index, load_codebook, hostile.damage_json),
    ("c.pt", _checkpoint, load_codebook, None),
    ("w.bin", _words, load_codebook, None),
    ("pq.faiss", _index_of_faiss, load_codebook, None),
    ("w.gguf", _gguf, load_codebook, None),
    ("w.txt", _text("2 3\na 1 2 3\nb 4 5 6\n"), load_codebook, hostile.damage_lines),
    ("k.csv", _text("x,y\n1,2\n3,4\n5,7\n"), load_codebook, hostile.damage_lines),
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
def test_damaged_files(
    name: str,
    make: Callable[..., Any],
    load: Callable[..., Any],
    damage: Callable[..., Any] | None,
    tmp_path: Path,
) -> None:
    told = _attack((name, make, load, damage), tmp_path, 60, 0)
    assert told["refused"] > 10


@pytest.mark.slow
@kinds
def test_files_damaged_in_many_ways(
    name: str,
    make: Callable[..., Any],
    load: Callable[..., Any],
    damage: Callable[..., Any] | None,
    tmp_path: Path,
) -> None:
    _attack((name, make, load, damage), tmp_path, 250, 1)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"_codebook.embed": np.eye(3), "heads": np.float64(1e300)}, "heads in it is 1e\\+300"),
        (
            {"_levels": np.full(9, 2**26), "preserve_symmetry": np.float64(0)},
            "no numbers of levels",
        ),
        ({"_levels": np.ones(3), "preserve_symmetry": np.float64(np.nan)}, "finite everywhere"),
        (
            {"_levels": np.full(5, 3), "preserve_symmetry": np.float64(0)}
            | {"num_codebooks": np.float64(2**40)},
            "num_codebooks in it is 1.09951e\\+12",
        ),
        (
            {"quantizer.vars": np.ones((1, 4, 2)), "quantizer.groups": np.float64(1e18)},
            "groups in it is 1e\\+18",
        ),
        (
            {"mask": np.ones(2**17)} | {n: np.float64(1) for n in ("codebook_scale", "spherical")},
            "bits",
        ),
        ({"rvqs.0.layers.0._codebook.embed": np.eye(2), "rvqs.1.x": np.eye(2)}, "stages must be a"),
        ({"layers.0.frozen_codebook": np.eye(2)}, "code_transform, which is not a linear map"),
    ],
)
def test_numbers_that_would_fill_the_memory(
    arrays: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=sentence):
        load_codebook(tmp_path / "a.npz", allow_duplicates=True)


def test_products_in_products(tmp_path: Path) -> None:
    """Read as deep as MAX_DEPTH says, and no deeper."""
    nested: Codebook = OneHot(2)
    for _ in range(parts.MAX_DEPTH):
        nested = Product([nested])
    save_codebook(nested, tmp_path / "a.npz")
    assert load_codebook(tmp_path / "a.npz").K == 2
    save_codebook(Product([nested]), tmp_path / "b.npz")
    with pytest.raises(ValueError, match="nested at most 8 times; got a list of 1"):
        load_codebook(tmp_path / "b.npz")
