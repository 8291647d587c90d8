"""Files: lossless round trips, other programs' layouts, and every way for a file to be bad."""

import errno
import io
import json
import math
import os
import pickle
import stat
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import equinox as eqx
import hostile
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from tokenkl._files import atomic_path
from tokenkl._formats import FileError
from tokenkl.codebooks import (
    FSQ,
    OneHot,
    PointCodebook,
    ProductCodebook,
    ResidualCodebook,
    e8_codebook,
)
from tokenkl.codebooks.files import (
    load_codebook,
    load_prior,
    load_sequences,
    load_tokens,
    save_codebook,
    save_prior,
)

RNG = np.random.default_rng(11)
LEVELS = [RNG.normal(size=3), RNG.normal(size=4)]
STAGES = [RNG.normal(size=(size, 3)) for size in (2, 3)]


def simplex(K: int) -> np.ndarray:
    return RNG.dirichlet(np.ones(K))


CODEBOOKS = {
    "points": PointCodebook(RNG.normal(size=(7, 3)) / 3, name="mine ä"),
    "points, prior": PointCodebook(RNG.normal(size=(7, 3)), simplex(7)),
    "duplicates": PointCodebook([[1.0], [1.0]], allow_duplicates=True),
    "e8": e8_codebook(),
    "fsq": FSQ((8, 5, 5, 5), grid="rounding", order="F"),
    "fsq, huge": FSQ((10,) * 40),
    "fsq, priors": FSQ((3, 4), priors=[simplex(3), None]),
    "fsq, product prior": FSQ((3, 4), np.outer(simplex(3), simplex(4)).ravel()),
    "fsq, joint": FSQ((3, 4), simplex(12)),
    "product": ProductCodebook(LEVELS, name="grid of mine"),
    "product, priors": ProductCodebook(LEVELS, [None, simplex(4)], order="F"),
    "product, joint": ProductCodebook(LEVELS, prior=simplex(12), order="F"),
    "one-hot": OneHot(10**6, scale=0.1),
    "one-hot, prior": OneHot(5, simplex(5), scale=1 / 3),
    "residual": ResidualCodebook(STAGES),
    "residual, prior": ResidualCodebook(STAGES, simplex(6), name="rvq"),
}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".NPZ"])
@pytest.mark.parametrize("name", CODEBOOKS)
def test_round_trip_is_lossless(name: str, suffix: str, tmp_path: Path) -> None:
    cb = CODEBOOKS[name]
    path = tmp_path / f"codebook{suffix}"
    save_codebook(cb, path)
    back = load_codebook(str(path))
    structure: Any = jax.tree.structure(back)
    assert structure == jax.tree.structure(cb)  # kind and static fields too
    for ours, theirs in zip(jax.tree.leaves(cb), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert repr(back) == repr(cb)
    assert os.listdir(tmp_path) == [path.name]
    if cb.K > 10**5:
        assert path.stat().st_size < 5000


def test_an_fsq_with_replaced_levels_is_saved_as_what_it_is(tmp_path: Path) -> None:
    cb = eqx.tree_at(lambda c: c.levels[0], FSQ((3, 2)), np.array([0.0, 1.0, 7.0]))
    save_codebook(cb, tmp_path / "a.npz")
    back = load_codebook(tmp_path / "a.npz")
    assert type(back) is ProductCodebook
    np.testing.assert_array_equal(back.points, cb.points)


def test_codebooks_that_cannot_be_saved(tmp_path: Path) -> None:
    class Mine(PointCodebook):
        pass

    with pytest.raises(ValueError, match=r"codebook must be a kind that tk\.register was called"):
        save_codebook(cast(Any, Mine)([[0.0]]), tmp_path / "a.npz")

    def save(points: Any) -> Any:
        save_codebook(PointCodebook(points), tmp_path / "a.npz")
        return points.sum()

    with pytest.raises(ValueError, match="codebook must be a codebook of numbers"):
        jax.jit(save)(jnp.eye(2))
    for bad in ("a.npy", "a.pt", "a"):
        with pytest.raises(ValueError, match=rf"{bad} must be written to a .npz or .safetensors"):
            save_codebook(OneHot(2), tmp_path / bad)
    with pytest.raises(ValueError, match="must be in a folder that exists"):
        save_codebook(OneHot(2), tmp_path / "nowhere" / "a.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ValueError, match="it is a folder"):
        save_codebook(OneHot(2), tmp_path / "folder.npz")
    assert os.listdir(tmp_path) == ["folder.npz"]


both = pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
POINTS = RNG.normal(size=(5, 2)).astype(np.float32)


# Bad files


def refused(
    path: Path, *, match: str | None = None, load: Callable[..., Any] = load_codebook
) -> str:
    """The error is one sentence that names the file and what was expected."""
    with pytest.raises(ValueError, match=match) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} must be ")
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".npy"])
def test_missing_empty_and_foreign_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    refused(path, match="there is no such file")
    for content in (
        b"",
        b"hello",
        b"PK\x03\x04",
        b"\x93NUMPY\x01\x00",
        pickle.dumps(np.eye(3)),
        b"\xff" * 4096,
        bytes(64),
    ):
        path.write_bytes(content)
        refused(path, match="damaged, or of another kind")
    path.unlink()
    path.mkdir()
    refused(path, match="it is a folder with no model.safetensors; name the file")


def test_wrong_suffixes(tmp_path: Path) -> None:
    for name in ("a", "a.xls"):
        (tmp_path / name).write_bytes(b"x")
        refused(tmp_path / name, match="its name ends in")
    for name in ("a.pkl", "a.pickle", "a.joblib"):
        refused(tmp_path / name, match=f"{name[1:]} is a pickle, never opened; save its array by")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    bomb = np.array([Bomb(), Bomb()], dtype=object)
    np.save(tmp_path / "a.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=bomb)
    for name in ("b.npy", "b.npz", "b.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    for name in ("a.npy", "a.npz", "b.npy", "b.npz", "b.safetensors"):
        refused(tmp_path / name, match="damaged, or of another kind")
        for load in (load_prior, load_tokens):
            if not name.endswith("safetensors"):
                refused(tmp_path / name, match="damaged, or of another kind", load=load)
    assert not (tmp_path / "exploded").exists()


def test_pytorch_files_are_never_opened(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for suffix in (".npz", ".npy", ".safetensors"):
        torch.save({"x": torch.ones(3, 2)}, tmp_path / f"a{suffix}")
        refused(tmp_path / f"a{suffix}", match="PyTorch")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".npy"])
def test_truncated_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, POINTS)
    else:
        save_codebook(CODEBOOKS["points, prior"], path)
    whole = path.read_bytes()
    for length in sorted({0, 1, 4, 8, 50, len(whole) // 3, len(whole) // 2, len(whole) - 1}):
        path.write_bytes(whole[:length])
        refused(path, match="damaged, or of another kind")


def test_flipped_bits_in_an_archive_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save_codebook(CODEBOOKS["points"], path)
    whole = bytearray(path.read_bytes())
    whole[200] ^= 1  # in the numbers of the first array, which the zip checksum covers
    path.write_bytes(bytes(whole))
    refused(path, match="damaged")


def test_claims_that_no_machine_can_hold(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 1024), }"
    header = header.ljust(117) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(800)
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    refused(path, match="damaged")
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
    refused(path, match="damaged")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
    central = bytearray(path.read_bytes())
    at = central.index(b"PK\x01\x02") + 24  # the claimed size in the central directory
    central[at : at + 4] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(bytes(central))
    refused(path, match="damaged|unpack")


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path) -> None:
    """A kilobyte of zeros is a gigabyte: shapes are looked at before anything is unpacked."""
    path = tmp_path / "a.npz"
    header = (
        b"{'descr': '|b1', 'fortran_order': False, 'shape': (67108864, 4), }".ljust(117) + b"\n"
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("small.npy", _npy(np.eye(2)))
        with archive.open("huge.npy", "w") as file:
            file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
            for _ in range(2**28 // 2**22):
                file.write(bytes(2**22))
    assert path.stat().st_size < 2**19
    tracemalloc.start()
    refused(path, match="choose one with key=NAME")
    refused(
        path, match="unpack to 268,435,456 numbers", load=lambda p: load_codebook(p, key="huge")
    )
    assert load_codebook(path, key="small").K == 2
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_numbers_that_are_fewer_than_their_file_has_bytes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenkl._formats.FREE_NUMBERS", 100)
    points = RNG.normal(size=(60, 7))
    for dtype in (np.float64, np.float16, np.int8):
        np.save(tmp_path / "a.npy", (50 * points).astype(dtype))
        assert load_codebook(tmp_path / "a.npy", allow_duplicates=True).K == 60
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((60, 70)))
    refused(tmp_path / "a.npz", match="unpack to 4,200 numbers, too many for its size")


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    """Damage in the numbers of another array is not noticed, and need not be."""
    path = tmp_path / "a.npz"
    np.savez(path, good=np.eye(2), bad=np.full((5000, 3), 7.0))
    content = path.read_bytes()
    at = content.index(np.full(9000, 7.0).tobytes()) + 64_000
    path.write_bytes(content[:at] + b"x" + content[at + 1 :])
    assert load_codebook(path, key="good").K == 2
    refused(path, match="damaged", load=lambda p: load_codebook(p, key="bad"))


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_of_packing_without_limits(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("x.npy", _npy(np.eye(2)))
    refused(tmp_path / "a.npz", match="x.npy in it is packed by a method that is not read")


def test_encrypted_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.eye(2))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    content[6] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", match="damaged")


def test_names_are_short_and_show_what_terminals_obey(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("\x1b]0;owned\x07\x1b[31mred", "\u202eb", "n" * 400):
            archive.writestr(f"{name}.npy", _npy(np.eye(2)))
    message = refused(tmp_path / "a.npz", match=r"\\x1b\]0;owned\\x07\\x1b\[31mred \(2, 2\)")
    assert message.isprintable()
    assert len(message) < 600
    save_file({"layers.0.proj" * 10_000 + "\n": np.eye(2)}, tmp_path / "b.safetensors")
    refused(tmp_path / "b.safetensors", match="a name of 130,001 characters")


def test_devices_and_pipes_never_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    (tmp_path / "b.npz").symlink_to("/dev/zero")
    (tmp_path / "c.txt").symlink_to("/dev/zero")
    for name, load in (("a.npz", load_codebook), ("b.npz", load_prior), ("c.txt", load_tokens)):
        refused(tmp_path / name, match="it is a device or a pipe", load=load)


def test_names_of_files_that_no_disk_takes(tmp_path: Path) -> None:
    for name in ("x" * 300 + ".npz", "a\x00b.npz"):
        with pytest.raises(FileError, match=r"[.]npz must be a codebook .*(too long|null byte)"):
            load_codebook(tmp_path / name)


@pytest.mark.slow
def test_memory_that_runs_out_is_called_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address space that is too small, as for a file that is too large."""
    path = tmp_path / "a.npy"
    np.save(path, np.ones((2**25, 1), np.int8))
    code = (
        "import resource, sys\n"
        "from tokenkl import load_codebook\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**27,) * 2)\n"
        f"try: load_codebook({str(path)!r})\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("there is not enough memory to read it.")


def test_a_description_of_more_than_any_machine_holds(tmp_path: Path) -> None:
    for levels in ([2**24, 3], [2] * (2**16 + 1)):
        header = {"version": 1, "kind": "FSQ", "levels": levels, "grid": "symmetric", "order": "C"}
        save_file({}, tmp_path / "a.safetensors", metadata={"tokenkl": json.dumps(header)})
        refused(
            tmp_path / "a.safetensors", match="in it, levels must be at most 65,536, of 16,777,216"
        )


def test_an_archive_under_the_name_of_an_array(tmp_path: Path) -> None:
    save_codebook(OneHot(3), tmp_path / "a.npz")
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    refused(tmp_path / "a.npy", match="damaged, or of another kind")
    np.save(tmp_path / "b.npy", POINTS)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    refused(tmp_path / "b.npz", match="damaged, or of another kind")


def test_files_without_a_codebook(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz")
    refused(tmp_path / "a.npz", match="it holds no array")
    np.savez(tmp_path / "b.npz", x=np.ones(3))
    refused(tmp_path / "b.npz", match=r"a codebook has 2 or 3 axes, and x in it has shape \(3,\)")
    held: dict[str, Any] = {f"x{i:02}": np.eye(2) for i in range(40)}
    np.savez(tmp_path / "c.npz", **held)
    assert len(refused(tmp_path / "c.npz", match="and 28 more")) < 600


def test_numbers_that_make_no_codebook(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for points, why in [
        ([[np.nan]], "points must be finite"),
        ([[1.0], [1.0]], "rows 0 and 1 that are equal"),
        (np.zeros((0, 3)), "K >= 1"),
        ([["a"]], "real numbers"),
    ]:
        np.save(path, np.array(points))
        refused(path, match=rf"in it, points must be .*{why}|{why}")
    np.save(path, [[1.0], [1.0]])
    assert load_codebook(path, allow_duplicates=True).K == 2


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "Mystery"},
        {"kind": "OneHot"},
        {"kind": "ResidualCodebook", "stages": 10**15},
        {"kind": "ProductCodebook", "coordinates": 10**15},
        {"kind": "FSQ", "levels": [10**15], "grid": "symmetric", "order": "C"},
        {"kind": "FSQ", "levels": [3], "grid": "odd", "order": "C"},
        {"kind": "FSQ", "levels": 3, "grid": "symmetric", "order": "C"},
        {"kind": "OneHot", "K": -1, "scale": 1.0},
        {"kind": "OneHot", "K": 3, "scale": "much"},
        {"version": 2},
        "[]",
        "{",
        "[" * 100_000,
    ],
    ids=lambda change: str(change)[:40],
)
@both
def test_damaged_headers(change: Any, suffix: str, tmp_path: Path) -> None:
    text = change
    if isinstance(change, dict):
        text = json.dumps({"version": 1, "kind": "PointCodebook", **change})
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, tokenkl=np.frombuffer(text.encode(), np.uint8), points=np.eye(2))
    else:
        save_file({"points": np.eye(2)}, path, metadata={"tokenkl": text})
    refused(path)


# Atomicity


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_full_disk_is_an_error_of_the_disk(suffix: str, tmp_path: Path) -> None:
    """Whatever the writer calls it; nothing is left behind."""
    codebook = PointCodebook(np.arange(4e3)[:, None])
    with hostile.full_disk(5000), pytest.raises(OSError) as caught:
        save_codebook(codebook, tmp_path / f"a{suffix}")
    assert caught.value.errno == errno.EFBIG
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("existing", [True, False])
def test_a_failed_write_leaves_things_as_they_were(existing: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    if existing:
        path.write_bytes(b"old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            assert (temporary.parent, temporary.suffix) == (path.parent, path.suffix)
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"old"] if existing else [])


def test_a_failing_writer_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: IO[bytes], **arrays: np.ndarray) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="No space left"):
        save_codebook(OneHot(3), tmp_path / "a.npz")
    assert os.listdir(tmp_path) == []


def test_writing_replaces_keeps_ordinary_permissions_and_follows_links(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    link = tmp_path / "link.txt"
    link.symlink_to(path)
    for text in ("one", "two"):
        with atomic_path(link) as temporary:
            temporary.write_text(text)
        assert path.read_text() == text
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_the_same_codebook_gives_the_same_bytes(tmp_path: Path) -> None:
    for suffix in (".npz", ".safetensors"):
        for name in ("a", "b"):
            save_codebook(CODEBOOKS["residual, prior"], tmp_path / f"{name}{suffix}")
        first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
        assert first == second


# Priors and tokens


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".json", ".csv", ".txt"])
def test_priors_round_trip(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"prior{suffix}"
    prior = simplex(1000)
    prior = prior / prior.sum()
    save_prior(prior, path)
    save_prior(load_prior(path), tmp_path / f"again{suffix}")
    np.testing.assert_allclose(load_prior(path), prior, rtol=1e-15)
    np.testing.assert_array_equal(load_prior(tmp_path / f"again{suffix}"), load_prior(path))


def test_bad_priors(tmp_path: Path) -> None:
    for bad, message in [([0.5, 0.6], "sums to 1"), ([0.0, 1.0], "strictly positive"), ([], "sum")]:
        with pytest.raises(ValueError, match=message):
            save_prior(bad, tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"\.pkl is a pickle, never opened"):
        save_prior([1.0], tmp_path / "a.pkl")
    assert os.listdir(tmp_path) == []
    for name, text, match in [
        ("a.txt", "0.5\nhalf\n", "'half' in it is not such a number"),
        ("a.csv", "0.5,0.5\n", "'0.5,0.5' in it is not such a number"),
        ("a.txt", "", "prior must be"),
        ("a.json", "[0.5, 0.6]", "sums to 1"),
        ("a.json", '{"a": 1}', "prior must be a list; got a table of 1"),
        ("a.json", "[0.5, ", "damaged"),
        ("a.json", "[" * 100_000, "damaged"),
        ("a.json", "3", "prior must be a list; got 3"),
        ("a.json", "[0.5, null]", r"prior\[1\] must be a number; got None"),
        ("a.json", "[0.5, 1e999]", "finite"),
        ("a.csv", "nan\n", "finite"),
    ]:
        (tmp_path / name).write_text(text)
        refused(tmp_path / name, match=match, load=load_prior)
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    refused(tmp_path / "b.txt", match="damaged", load=load_prior)
    refused(tmp_path / "none.csv", match="no such file", load=load_prior)
    refused(tmp_path / "none.xls", match="its name ends in .xls", load=load_prior)
    np.savez(tmp_path / "c.npz", a=[1.0], b=[1.0])
    refused(tmp_path / "c.npz", match="and none named 'prior'", load=load_prior)
    np.save(tmp_path / "d.npy", np.full((2, 2), 0.25))
    refused(tmp_path / "d.npy", match="1 axes", load=load_prior)


def test_texts_of_more_than_one_piece(tmp_path: Path) -> None:
    """No number is lost, cut in two or read twice where one piece ends and the next begins."""
    ids = RNG.integers(10**6, size=400_000)
    (tmp_path / "t.txt").write_text("\n \t".join(map(str, ids.tolist())))
    assert (tmp_path / "t.txt").stat().st_size > 3 * 2**20
    np.testing.assert_array_equal(load_tokens(tmp_path / "t.txt"), ids)
    prior = simplex(60_000)
    prior = prior / math.fsum(prior)
    save_prior(prior, tmp_path / "p.csv")
    np.testing.assert_array_equal(load_prior(tmp_path / "p.csv"), prior)
    with open(tmp_path / "t.txt", "a") as file:
        file.write(" late")
    refused(tmp_path / "t.txt", match="'late' in it is not such a number", load=load_tokens)


def test_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeff3 1\n\n4\t1 5\n", encoding="utf-8")
    np.save(tmp_path / "a.npy", np.array([[3, 1, 4, 1, 5]], dtype=np.int16))
    np.savez(tmp_path / "a.npz", tokens=np.array([3, 1, 4, 1, 5], np.uint8), other=np.eye(2))
    for name in ("a.txt", "a.npy", "a.npz"):
        tokens = load_tokens(tmp_path / name)
        assert (tokens.dtype, tokens.tolist()) == (np.int64, [3, 1, 4, 1, 5])
    for text, match in [
        ("1 2 x", "'x' in it is not such a number"),
        ("1.5", "'1.5' in it"),
        ("-1", "it holds -1"),
        (" \n", "it holds no token"),
        ("9" * 40, f"it holds {'9' * 40}"),
        ("9" * 5000, "not such a number"),
    ]:
        (tmp_path / "b.txt").write_text(text)
        refused(tmp_path / "b.txt", match=match, load=load_tokens)
    np.save(tmp_path / "b.npy", np.array([0.5]))
    refused(tmp_path / "b.npy", match="it holds 0.5", load=load_tokens)
    np.save(tmp_path / "b.npy", np.array([True]))
    refused(tmp_path / "b.npy", match="numbers of type bool", load=load_tokens)
    np.save(tmp_path / "b.npy", np.array([1, 2**64 - 1], np.uint64))
    refused(tmp_path / "b.npy", match=f"it holds {2**64 - 1}", load=load_tokens)
    refused(tmp_path / "b.xml", match="its name ends in .xml", load=load_tokens)


@pytest.mark.parametrize("suffix", [".csv", ".txt"])
@pytest.mark.parametrize("line", ["1,,2", ",1,2", "1, ,2,", "1,2,,3,,"])
def test_a_number_left_out_of_a_sequence_shifts_nothing(
    tmp_path: Path, suffix: str, line: str
) -> None:
    path = tmp_path / f"tokens{suffix}"
    path.write_text(f"3,4,5\n{line}\n")
    refused(path, match="nothing between two commas, or before the first", load=load_sequences)
    path.write_text("3,4,5\n1,2,,\n")  # lines of a table are filled up
    assert [row.tolist() for row in load_sequences(path)] == [[3, 4, 5], [1, 2]]
