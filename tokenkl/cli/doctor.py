"""`tokenkl doctor`: is this installation well, and what is it made of?"""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from tokenkl.cli._app import progress_bar
from tokenkl.cli._result import JsonFile, Result, command

WELL, NOTE, WRONG = "ok", "note", "WRONG"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line: `state` is "ok", "note" for what only costs time or is missing, or "WRONG"."""

    what: str
    state: str
    said: str


@command(files=JsonFile, epilog=None, short_help="Is this installation well? In ten seconds.")
def doctor() -> Result:
    """What tokenkl runs on here, and whether it computes what it should.

    Versions beside those that are asked for, threads, GPU, the folder of compiled code, and a self
    test against stored exact values: ten seconds, and half a minute where code is compiled for the
    first time. Exit code 1 if anything is wrong; what is slower, or missing of an extra, is a note.

    \b
    Example: tokenkl doctor
    """
    from tokenkl.verification.selftest import CHECKS, self_checks

    found: list[Finding] = []
    for part in (_python, _packages, _threads, _devices, _cache):
        found += part()
    with progress_bar("self test") as progress:
        for number, one in enumerate(self_checks()):
            state = WELL if one.ok else WRONG
            found.append(Finding(f"self test: {one.name}", state, one.said))
            progress(number + 1, len(CHECKS))
    wrong = sum(one.state == WRONG for one in found)
    return Result(
        record={"well": not wrong, "findings": [dataclasses.asdict(one) for one in found]},
        show=lambda console: _print(console, found, wrong),
        found=found,
        exit_code=1 if wrong else 0,
    )


def _print(console: Console, found: Sequence[Finding], wrong: int) -> None:
    from tokenkl.cli.tables import print_pairs

    rows = [
        (one.what, one.said if one.state == WELL else f"{one.state}: {one.said}") for one in found
    ]
    print_pairs(console, rows)
    console.print()
    counts = f"{wrong} of {len(found)} findings are" if wrong != 1 else "1 finding is"
    console.print(f"{counts} wrong." if wrong else "All is well.")


def _python() -> Iterator[Finding]:
    import tokenkl

    state = WELL if sys.version_info >= (3, 11) else WRONG
    bits = "" if sys.maxsize > 2**32 else ", 32 bits"
    yield Finding("Python", state, f"{platform.python_version()}{bits}, {sys.executable}")
    where = Path(tokenkl.__file__).parent
    yield Finding("system", WELL, f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield Finding("tokenkl", WELL, f"{tokenkl.__version__}, {where}")


def _packages() -> Iterator[Finding]:
    """Those that tokenkl asks for, and what is missing of each extra."""
    from packaging.requirements import Requirement

    from tokenkl._extras import install_command

    try:
        asked = [Requirement(one) for one in metadata.requires("tokenkl") or ()]
        extras = metadata.metadata("tokenkl").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        yield Finding("packages", NOTE, "tokenkl is on the path, but not installed")
        return
    for one in asked:
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            state, said = _version(one)
            yield Finding(f"  {one.name}", state, said)
    for extra in extras:
        parts = [
            one
            for one in asked
            if one.marker is not None
            and one.marker.evaluate({"extra": extra})
            and not one.marker.evaluate({"extra": ""})
            and one.name != "tokenkl"
        ]
        states = {one.name: _version(one) for one in parts}
        missing = [name for name, (_, said) in states.items() if said == "not installed"]
        bad = [f"{n}: {said}" for n, (s, said) in states.items() if s == WRONG and n not in missing]
        if bad:
            yield Finding(f"  extra {extra}", WRONG, "; ".join(bad))
        elif missing:
            said = f"without {', '.join(missing)}; `{install_command(extra)}` adds it"
            yield Finding(f"  extra {extra}", NOTE, said)
        elif parts:
            yield Finding(
                f"  extra {extra}", WELL, ", ".join(f"{n} {states[n][1]}" for n in states)
            )


def _version(wanted: Any) -> tuple[str, str]:
    """Of a package, and whether it is one that is asked for."""
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return WRONG, "not installed"
    if wanted.specifier.contains(version, prereleases=True):
        return WELL, version
    return WRONG, f"{version}, but {wanted.specifier} is asked for"


def _threads() -> Iterator[Finding]:
    from threadpoolctl import threadpool_info

    from tokenkl.numerics.threads import threads

    given = os.environ.get("NUMBA_NUM_THREADS")
    source = f"NUMBA_NUM_THREADS={given}" if given else f"of {os.cpu_count()} cores"
    yield Finding("threads", WELL, f"{threads()} ({source}); the bits do not depend on them")
    pools = {f"{one['internal_api']} {one['num_threads']}" for one in threadpool_info()}
    yield Finding("  of linear algebra", WELL, ", ".join(sorted(pools)) or "none")


def _devices() -> Iterator[Finding]:
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:  # a driver that does not start
        yield Finding("JAX devices", WRONG, str(error))
        return
    kinds = [f"{one.platform}:{one.id} {one.device_kind}" for one in devices]
    yield Finding("JAX devices", WELL, ", ".join(kinds))
    torch = sys.modules.get("torch")
    if torch is not None:  # importing it takes longer than all else
        yield Finding("PyTorch GPU", WELL, "yes" if torch.cuda.is_available() else "none")


def _cache() -> Iterator[Finding]:
    from tokenkl.numerics import compiled  # which imports Numba

    folder = compiled.code_folder()
    what = "compiled code"
    if folder is None:
        said = "is kept nowhere: no folder of yours can be written; every start compiles anew"
        yield Finding(what, NOTE, said + " (see XDG_CACHE_HOME)")
        return
    try:
        sizes = [path.stat().st_size for path in folder.iterdir()]
        probe = folder / f".doctor-{os.getpid()}"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        yield Finding(what, NOTE, f"{folder}: {error.strerror}; every start compiles anew")
        return
    yield Finding(what, WELL, f"{len(sizes)} functions, {sum(sizes) / 2**20:.1f} MiB, {folder}")
