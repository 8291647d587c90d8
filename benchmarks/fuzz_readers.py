"""Every reader of files, and the grammar of codebooks, on bytes that nobody wrote.

    python -m benchmarks.fuzz_readers [--seconds 60] [--runs 0] [--corpus DIR] [NAMES ...]

Guided by coverage where atheris is installed (`pip install atheris`, on Linux): bytes that reach
new lines of our parsers are kept in the corpus, and changed further, by their bytes and by the
structure of their kind (`tests/hostile.py`). Without it changes are drawn at random. A reader may
load, or refuse in one printable sentence that names the file, in two seconds; all else is printed,
and the bytes that caused it are kept beside the corpus. What is found becomes a test.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import logging
import multiprocessing
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
GRAMMAR = "grammar"
#: Modules that read: theirs is the coverage that counts. Compiled code bears no instruments.
READERS = (
    "tokenkl._formats", "tokenkl.codebooks.containers", "tokenkl.codebooks.layouts",
    "tokenkl.codebooks.files", "tokenkl.codebooks.grammar", "tokenkl.codebooks.registry",
    "tokenkl.codebooks.digits", "tokenkl.schedule", "tokenkl.sources.contexts", "tokenkl.tasks",
    "tokenkl.tts.audio", "tokenkl.tts.loaders", "tokenkl.tts.corpus", "tokenkl.tts.stored",
    "tokenkl.tts.reports", "tokenkl.tts.recipes", "tokenkl.tts.training_log",
)  # fmt: skip
#: Most seconds for one file, and bytes of one.
PATIENCE, LARGEST = 2.0, 1 << 14
#: Where tables of kinds are: name, what makes a file, what reads it, how it is damaged.
TABLES = ("codebooks.test_hostile_files", "other_files", "tts.test_hostile_speech_files")
#: Words that a grammar is made of.
SPECS = (
    "fsq:3^8", "fsq:8,5,5,5:rounding", "perturb:centre:fsq:3x3:0.1", "checker:7x7x6:equal", "e6:9",
    "ball:16:4", "onehot:12", "bsq:4", "d+:3^8", "permute:d:4^4", "vq:none.npz:name",
)  # fmt: skip


class Target(NamedTuple):
    """What is fuzzed: files to begin with are made by `make` at a path, and read by `load`."""

    name: str
    make: Callable[[Path], object]
    load: Callable[[Path], object]
    damage: Callable[[bytes, np.random.Generator], bytes] | None
    refusal: type[ValueError]


def targets() -> dict[str, Target]:
    """All readers, by the names of their files; those of speech where PyTorch is installed."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from tokenkl._formats import FileError

    found = {GRAMMAR: Target(GRAMMAR, _write_spec, _read_spec, None, ValueError)}
    for table in TABLES:
        try:
            kinds = importlib.import_module(table).KINDS
        except ImportError as error:
            print(f"without {table}: {error}", file=sys.stderr)
            continue
        for name, make, load, damage in kinds:
            loose = table.startswith("tts.")  # a folder of recordings, say
            found[name] = Target(name, make, load, damage, ValueError if loose else FileError)
    return found


def _write_spec(path: Path) -> None:
    path.write_text(SPECS[0])


def _read_spec(path: Path) -> None:
    import tokenkl as tk

    tk.codebook(path.read_bytes().decode("utf-8", "replace"))


class Fault(AssertionError):
    """What a reader must not do."""


def trial(target: Target, path: Path, content: bytes) -> bool:
    """Whether the reader takes this; `Fault` where it neither loads nor refuses well."""
    path.write_bytes(content)
    began = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what was skipped
            target.load(path)
        loaded = True
    except target.refusal as refusal:
        message, loaded = str(refusal), False
        named = target.refusal is ValueError or path.name in message
        if not (named and message.isprintable() and message.endswith(".") and len(message) < 2000):
            raise Fault(f"a refusal that is no sentence: {message!r}") from refusal
    except Exception as error:
        raise Fault(traceback.format_exc(limit=-3)) from error
    if (seconds := time.monotonic() - began) > PATIENCE:
        raise Fault(f"{seconds:.1f} seconds")
    return loaded


@contextlib.contextmanager
def _place(target: Target) -> Iterator[tuple[Path, bytes]]:
    """Where the reader finds its file, with those around it; and what is in a whole one."""
    with tempfile.TemporaryDirectory(prefix="tokenkl-fuzz-") as folder:
        path = Path(folder) / target.name
        path.parent.mkdir(exist_ok=True)
        target.make(path)
        yield path, path.read_bytes()


@contextlib.contextmanager
def _keeping(content: bytes, path: Path) -> Iterator[None]:
    """Write bytes to where they are kept, if there is a fault."""
    try:
        yield
    except Fault:
        path.write_bytes(content)
        raise


def at_random(target: Target, seconds: float, kept: Path, seed: int, runs: int = 0) -> int:
    """Changes drawn at random, `runs` at most; how many were tried."""
    import hostile

    count, until = 0, time.monotonic() + seconds
    with _place(target) as (path, whole):
        starts = [whole] + [spec.encode() for spec in SPECS if target.name == GRAMMAR]
        while count == 0 or (time.monotonic() < until and count != runs):
            rng = np.random.default_rng([seed, count])
            start = starts[count % len(starts)]
            structural = target.damage is not None and rng.random() < 0.65
            content = (target.damage if structural else hostile.damage_bytes)(start, rng)  # type: ignore[misc]
            with _keeping(content, kept / f"fault-{target.name.replace('/', '-')}-{count}"):
                trial(target, path, content)
            count += 1
    return count


def instrument() -> None:
    """Import what reads so that its coverage is seen; once, for all that is fuzzed after."""
    import atheris

    with atheris.instrument_imports(include=list(READERS), enable_loader_override=False):
        for module in READERS:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)


def by_coverage(target: Target, given: argparse.Namespace, own: Path, log: Path) -> None:
    """Guided by coverage; ends the process, with an exit code where something was found."""
    import atheris
    import hostile

    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.disable()
    with _place(target) as (path, whole):
        starts = [spec.encode() for spec in SPECS if target.name == GRAMMAR]
        for number, start in enumerate([whole, *starts]):
            (own / f"seed-{number}").write_bytes(start)

        count = itertools.count()

        def one(content: bytes) -> None:
            with _keeping(content, own.parent / f"fault-{own.name}-{next(count)}"):
                trial(target, path, content)

        def mutate(content: bytes, most: int, number: int) -> bytes:
            rng = np.random.default_rng([number])
            changed = content
            if rng.random() < 0.5:
                with contextlib.suppress(Exception):  # what is broken already has no structure
                    way = target.damage if target.damage is not None else hostile.damage_bytes
                    changed = way(content, rng)
            if changed == content:
                changed = atheris.Mutate(content, most)
            return bytes(changed[:most])

        words = [f"-max_total_time={given.seconds}", f"-max_len={LARGEST}"]
        words += [f"-seed={given.seed + 1}"] + ([f"-runs={given.runs}"] if given.runs else [])
        words += ["-rss_limit_mb=4096", "-timeout=20", "-verbosity=0", "-print_final_stats=1"]
        words += [f"-artifact_prefix={own.parent}/crash-{own.name}-", str(own)]
        atheris.Setup([sys.argv[0], *words], one, custom_mutator=mutate)
        atheris.Fuzz()


def has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", help="readers, by names of their files; all without")
    parser.add_argument("--seconds", type=int, default=60, help="for every reader, at most")
    parser.add_argument("--runs", type=int, default=0, help="files for every reader; 0: any number")
    parser.add_argument("--corpus", type=Path, help="where interesting bytes are kept")
    parser.add_argument("--seed", type=int, default=0, help="of the changes")
    parser.add_argument("--random", action="store_true", help="without coverage")
    given = parser.parse_args(arguments)
    guided = has_atheris() and not given.random
    if guided:
        instrument()
    known = targets()
    for name in given.names:
        if name not in known:
            parser.error(f"{name} is none of {', '.join(known)}")
    if given.seconds < 1:
        parser.error("--seconds must be at least 1")
    corpus = given.corpus or ROOT / "build" / "fuzz"
    corpus.mkdir(parents=True, exist_ok=True)
    print("guided by coverage" if guided else "at random, without atheris", flush=True)
    bad = 0
    for name in given.names or known:
        try:
            if guided:
                told = _guided(known[name], given, corpus)
            else:
                told = (
                    f"{at_random(known[name], given.seconds, corpus, given.seed, given.runs)} tried"
                )
        except Fault as fault:
            bad += 1
            told = f"FAULT: {fault}"
        print(f"{name}: {told}", flush=True)
    print(f"{len(given.names or known)} readers, {bad} with faults; corpus in {corpus}")
    if bad:
        raise SystemExit(1)


def _guided(target: Target, given: argparse.Namespace, corpus: Path) -> str:
    """Fuzz one reader in a process of its own, which libFuzzer ends."""
    own = corpus / target.name.replace("/", "-")
    own.mkdir(parents=True, exist_ok=True)
    log = corpus / f"{own.name}.log"
    child = multiprocessing.get_context("fork").Process(
        target=by_coverage, args=(target, given, own, log)
    )
    child.start()
    child.join()
    told = log.read_text(errors="replace")
    if child.exitcode:
        raise Fault(told[-3000:])
    log.unlink()
    stats = dict(re.findall(r"^stat::(\w+):\s*(\d+)", told, re.MULTILINE))
    tried, new = (stats.get(key, "?") for key in ("number_of_executed_units", "new_units_added"))
    return f"{tried} tried, {new} kept for what they reached"


if __name__ == "__main__":
    main()
