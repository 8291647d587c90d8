"""Do the tests notice errors? Plants random ones in a copy of the package, one at a time.

    python -m benchmarks.mutations --seed 1 --count 150 [--again] [--limit SECONDS]

Every mutant (benchmarks/mutants.py) meets the tests that run its line, or failing that its function
or its file: fast ones and those that run little else first, slow ones last, until one fails, hangs
or `--limit` seconds are over. Which test runs which line is found once for every test file, by
tracing the tests without mutation, which must pass; build/mutations/ keeps it.

Results are written after every mutant to benchmarks/results/mutations.json, and a run that was
interrupted goes on where it stopped; `--again` tries the survivors once more. Which survivors are
right all the same is decided by hand, in benchmarks/results/equivalent.json: name and reason.
The working tree is never touched.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import functools
import hashlib
import importlib
import itertools
import json
import math
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.mutants import PARTS, Mutant, draw, function_of, part_of
from tokenkl._files import atomic_path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "mutations.json"
EQUIVALENT, TABLE = RESULTS.with_name("equivalent.json"), RESULTS.with_suffix(".md")
#: Above the table.
HEAD = """Random errors planted one at a time by `python -m benchmarks.mutations`. Killed: a test
failed or hung. Equivalent ones, which are right all the same, do not count.

"""
WORK = ROOT / "build" / "mutations"
#: The copy has one place, or compiled code and bytecode would be made anew for every mutant.
COPY = WORK / "copy"
#: What takes long to import and is not ours, loaded once, before children are forked.
LIBRARIES = (
    "hypothesis", "mpmath", "scipy.stats", "scipy.optimize", "scipy.integrate", "scipy.spatial",
    "scipy.signal", "sklearn.neighbors", "pandas", "matplotlib.pyplot", "jax", "equinox", "optax",
    "numba", "sympy", "torch", "vector_quantize_pytorch", "accelerate", "jiwer", "typer.testing",
)  # fmt: skip
#: Memory that a child may map, in bytes: a mutant may ask for any amount.
MEMORY = 24 << 30
#: A test hangs if it takes this many seconds, compiled code has to be compiled anew or not, and so
#: many times what it took without mutation.
PATIENCE, COMPILING, TIMES = 120, 600, 10
#: Tests that run nothing, and hold what is promised.
PROMISES = "tests/test_defaults.py"
#: Failing examples need not be made smaller; added to the copy's conftest.py.
NO_SHRINKING = """
hypothesis.settings.register_profile(
    "mutations",
    hypothesis.settings.get_profile("tokenkl"),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile("mutations")
"""
ENVIRONMENT = {
    "PYTHONPATH": str(COPY),
    "NUMBA_CACHE_DIR": str(WORK / "numba"),
    "JAX_PLATFORMS": "cpu",
    "MPLBACKEND": "Agg",
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
}


# Children.


class Watch:
    """Pytest plugin: keeps the chosen tests, in their order, and reports every step on a pipe."""

    def __init__(self, pipe: int, chosen: Sequence[str] | None, traced: bool) -> None:
        self.pipe, self.chosen, self.traced = pipe, chosen, traced
        self.lines: set[tuple[str, int]] = set()
        self.failed = False

    def say(self, *words: object) -> None:
        os.write(self.pipe, (json.dumps(words) + "\n").encode())

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.chosen is not None:
            order = {name: number for number, name in enumerate(self.chosen)}
            items[:] = sorted(
                (item for item in items if item.nodeid in order), key=lambda one: order[one.nodeid]
            )

    def pytest_runtest_protocol(self, item: Any) -> None:
        """Before a test."""
        self.say("start", item.nodeid)
        self.began, self.failed = time.perf_counter(), False
        if self.traced:
            self.lines, self.calls = set(), collections.Counter[tuple[str, int]]()
            threading.settrace(self._trace)
            sys.settrace(self._trace)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed |= report.failed

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)
        threading.settrace(None)
        seconds = time.perf_counter() - self.began
        if not self.traced:
            self.say("end", nodeid, self.failed)
            return
        lines = collections.defaultdict(list)
        for file, line in sorted(self.lines):
            lines[file].append(line)
        self.say("end", nodeid, self.failed, round(seconds, 3), lines)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.say("end", report.nodeid or "collection", True)

    def _trace(self, frame: Any, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(f"{COPY}/tokenkl/"):
            return None
        self.calls[code.co_filename, code.co_firstlineno] += 1
        # After so many calls a function has shown its lines.
        busy = self.calls[code.co_filename, code.co_firstlineno] > 1000
        return None if busy else self._line

    def _line(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines.add((frame.f_code.co_filename[len(f"{COPY}/tokenkl/") :], frame.f_lineno))
        return self._line


def child(
    files: Sequence[str],
    environment: dict[str, str],
    *,
    chosen: Sequence[str] | None = None,
    slow: bool = False,
    traced: bool = False,
) -> tuple[int, int]:
    """Fork a process that runs tests in the copy; its number and the pipe it speaks on."""
    out, pipe = os.pipe()
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX was imported and never used here: forking is safe
        number = os.fork()
    if number:
        os.close(pipe)
        return number, out
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(environment)
        log = os.open(WORK / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.chdir(COPY)
        sys.path[:] = [str(COPY), *(one for one in sys.path if Path(one or ".").resolve() != ROOT)]
        for name in [
            name for name in sys.modules if name.split(".")[0] in ("tokenkl", "benchmarks")
        ]:
            del sys.modules[name]
        sys.dont_write_bytecode = True
        import pytest

        watch = Watch(pipe, chosen, traced)
        stop = [] if traced else ["-x"]
        which = "slow" if slow else "not slow"
        fixed = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", "-m", which]
        fixed += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is there already
        code = pytest.main([*fixed, *stop, *files], plugins=[watch])
        watch.say("done", int(code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def steps(number: int, out: int, patience: Callable[[str], float]) -> Iterator[list[Any]]:
    """What a child says, until it ends; last of all ["hang", test] or ["died", test] if it did."""
    buffer, now, done = b"", "", False
    try:
        while True:
            ready, _, _ = select.select([out], [], [], patience(now))
            if not ready:
                yield ["hang", now]
                return
            piece = os.read(out, 1 << 20)
            if not piece:
                break
            *lines, buffer = (buffer + piece).split(b"\n")
            for line in lines:
                words = json.loads(line)
                now = words[1] if words[0] == "start" else ""
                done |= words[0] == "done"
                yield words
        if not done:
            yield ["died", now]
    finally:
        os.close(out)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(number, signal.SIGKILL)
        os.waitpid(number, 0)


# The copy.


def make_copy() -> None:
    """Copy what the tests need, with its times, so that compiled code stays valid."""
    ignored = shutil.ignore_patterns(
        ".git", "build", "__pycache__", ".*_cache", ".hypothesis", ".venv", "site"
    )
    for path in COPY.glob("*/") if COPY.exists() else ():
        for old in path.rglob("*.py"):
            if not (ROOT / old.relative_to(COPY)).exists():
                old.unlink()
    shutil.copytree(ROOT, COPY, ignore=ignored, dirs_exist_ok=True)
    with (COPY / "tests" / "conftest.py").open("a") as conftest:
        conftest.write(NO_SHRINKING)
    import compileall

    compileall.compile_dir(COPY / "tokenkl", quiet=2)


@contextlib.contextmanager
def planted(mutant: Mutant) -> Iterator[dict[str, str]]:
    """The copy with an error in it, and the environment to run its tests in."""
    path = COPY / "tokenkl" / mutant.file
    source = path.read_bytes()
    compiled = is_compiled(source.decode())
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        path.write_bytes(mutant.apply(source))
        try:
            # Functions that others are compiled into are not watched by Numba's cache.
            yield ENVIRONMENT | ({"NUMBA_CACHE_DIR": folder} if compiled else {})
        finally:
            shutil.copy2(ROOT / "tokenkl" / mutant.file, path)


# Which tests run a line.


@functools.cache
def tree(file: str) -> ast.Module:
    return ast.parse((COPY / "tokenkl" / file).read_text())


def traced(file: str) -> dict[str, dict[str, Any]]:
    """Seconds and lines, as function and offset, of every quick test of a file; traced once."""
    digest = hashlib.sha256((COPY / file).read_bytes()).hexdigest()
    kept = WORK / "lines" / (file.replace("/", "-") + ".json")
    if kept.exists():
        record = json.loads(kept.read_text())
        if record["digest"] == digest:
            return record["tests"]
    tests: dict[str, dict[str, Any]] = {}
    number, out = child([file], ENVIRONMENT, traced=True)
    for what, *words in steps(number, out, lambda _: 1800):
        if what in ("hang", "died") or (what == "end" and words[1]):
            log = (WORK / "log.txt").read_text()
            raise SystemExit(f"without mutation: {what} {words[0]}\n{log[-3000:]}")
        if what == "end":
            name, _, seconds, lines = words
            places = {
                source: sorted({function_of(tree(source), line) for line in found})
                for source, found in lines.items()
            }
            tests[name] = {"seconds": seconds, "places": places}
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(kept) as path:
        path.write_text(json.dumps({"digest": digest, "tests": tests}))
    return tests


def is_compiled(source: str) -> bool:
    return "_compiled(" in source


def callers(file: str) -> set[str]:
    """The files that use compiled functions of a file, which themselves leave no trace."""
    used = re.compile(rf"\b{Path(file).stem}\b")
    return {
        path.relative_to(COPY / "tokenkl").as_posix()
        for path in (COPY / "tokenkl").rglob("*.py")
        if used.search(source := path.read_text()) and not is_compiled(source)
    }


def nearest(mutant: Mutant, tests: dict[str, dict[str, Any]]) -> list[str]:
    """Tests that run the mutant's line, else its function, else its file, the first one first."""
    function, offset = function_of(tree(mutant.file), mutant.line)
    compiled = is_compiled((COPY / "tokenkl" / mutant.file).read_text())
    levels = collections.defaultdict[tuple[bool, bool], set[str]](set)
    for name, record in tests.items():
        # The head of a function runs when its module is imported.
        places = [(*one,) for one in record["places"].get(mutant.file, []) if one[1]]
        ran = any(one == function for one, _ in places)
        if places:
            levels[(function, offset) in places, ran].add(name)
    near = levels[True, True] or levels[False, True]
    files = {mutant.file}
    if not near and compiled:
        files = callers(mutant.file)
        near = {name for name in tests if files & set(tests[name]["places"])}
    near = near or levels[False, False]

    def order(name: str) -> tuple[int, float]:
        places = tests[name]["places"]
        share = sum(len(places.get(file, [])) for file in files) / sum(map(len, places.values()))
        return round(math.log2(max(tests[name]["seconds"], 0.25))), -share

    # What no call runs, defaults and tables, is what these hold.
    promises = [] if levels[True, True] else [one for one in tests if one.startswith(PROMISES)]
    return list(dict.fromkeys([*promises, *sorted(near, key=order)]))


def attempt(mutant: Mutant, tests: dict[str, dict[str, Any]], limit: float) -> dict[str, Any]:
    """Does a test notice?"""
    began = time.perf_counter()

    def patience(name: str) -> float:
        left = limit - (time.perf_counter() - began)
        least = COMPILING if is_compiled((COPY / "tokenkl" / mutant.file).read_text()) else PATIENCE
        return max(least, TIMES * tests[name]["seconds"] if name in tests else left)

    near = nearest(mutant, tests)
    files = list(dict.fromkeys(name.split("::")[0] for name in near))
    record: dict[str, Any] = {"kind": mutant.kind, "tests": 0, "killed by": None}
    if not files:  # no test comes near
        return record
    with planted(mutant) as environment:
        # The quick tests, and then the slow ones of the files that these are in.
        for slow in (False, True):
            number, out = child(files, environment, chosen=None if slow else near, slow=slow)
            for what, *words in steps(number, out, patience):
                if what == "start":
                    record["tests"] += 1
                # How long a slow test takes is not known: it may be as slow without mutation.
                hang = what == "hang" and words[0] in tests
                if hang or what == "died" or (what == "end" and words[1]):
                    prefix = "" if what == "end" else f"{what}: "
                    record["killed by"] = (prefix + words[0]).replace(f"{COPY}/", "")
                    break
                if what == "hang" or time.perf_counter() - began > limit:
                    record["limit"] = limit
                    break
            if record["killed by"] or "limit" in record:
                break
    record["seconds"] = round(time.perf_counter() - began, 1)
    return record


# The whole.


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=1, help="of the random choice")
    parser.add_argument("--count", type=int, default=150, help="mutants")
    parser.add_argument("--limit", type=float, default=600, help="seconds of tests for a mutant")
    parser.add_argument("--again", action="store_true", help="run survivors once more")
    options = parser.parse_args(arguments)
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, lambda *_: sys.exit("stopped; the same command goes on"))
    os.environ.update(ENVIRONMENT | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    WORK.mkdir(parents=True, exist_ok=True)
    for name in LIBRARIES:
        importlib.import_module(name)
    make_copy()
    tests: dict[str, dict[str, Any]] = {}
    for path in sorted((COPY / "tests").rglob("test_*.py")):
        tests |= traced(path.relative_to(COPY).as_posix())
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    chosen = list(itertools.islice(draw(ROOT / "tokenkl", options.seed), options.count))
    before = record.get(f"seed {options.seed}", {})
    found = {one.name: before[one.name] for one in chosen if one.name in before}
    record[f"seed {options.seed}"] = found
    for number, mutant in enumerate(chosen, 1):
        done = found.get(mutant.name)
        if done is None or (options.again and not done["killed by"]):
            found[mutant.name] = attempt(mutant, tests, options.limit)
            with atomic_path(RESULTS) as path:
                path.write_text(json.dumps(record, indent=1) + "\n")
            verdict = found[mutant.name]["killed by"] or "SURVIVED"
            print(f"{number}. {mutant.name}: {verdict}", flush=True)
    TABLE.write_text(HEAD + summary(record) + "\n")
    print(TABLE.read_text())


def summary(record: dict[str, dict[str, Any]]) -> str:
    """How many were killed in every part of the package, and the survivors by name."""
    equivalent = json.loads(EQUIVALENT.read_text()) if EQUIVALENT.exists() else {}
    lines = ["| mutants | killed | equivalent | not killed |", "|---|---|---|---|"]
    survivors = []
    for seed, found in record.items():
        for part in (*PARTS, "all"):
            names = [name for name in found if part in ("all", part_of(name))]
            left = [name for name in names if not found[name]["killed by"]]
            same = sum(name in equivalent for name in left)
            killed, real = len(names) - len(left), len(names) - same
            share = f"{killed} of {real} ({killed / real:.1%})" if real else "none"
            lines.append(f"| {seed}, {part} | {share} | {same} | {real - killed} |")
        survivors += left
    for name in dict.fromkeys(survivors):
        lines.append(f"\n- `{name}`: {equivalent.get(name, 'not killed')}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
