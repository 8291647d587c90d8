"""Every estimator beside what a user would write, and against floors: `make bench`.

Jobs: those of `benchmarks.estimators`, `threads` (`benchmarks.threads`) and `scaling`
(`benchmarks.scaling`). All but `threads` keep to one core and one thread. docs/benchmarks.md says
what is measured and how the table is read.

Writes estimators.json and estimators.png into benchmarks/results, and of the last job scaling.json
and scaling.png, as soon as each job is done. `python -m benchmarks.run NAME ...` runs some jobs and
keeps the other results; `--small` runs them at sizes that tell nothing but that they work.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks import scaling, tables
from benchmarks.cases import FULL, SMALL, Sizes
from benchmarks.ceilings import ceilings
from benchmarks.comparison import committed, compare, rows_of
from benchmarks.estimators import JOBS, timer
from benchmarks.floors import Rates
from benchmarks.machine import keep_to_one_core, load_average, machine
from benchmarks.threads import threads_job
from benchmarks.timing import progress
from tokenkl._files import atomic_path
from tokenkl.cli import is_ctrl_c, stopped

RESULTS = Path(__file__).parent / "results"
ROWS = {**JOBS, "threads": threads_job}
NAMES = (*ROWS, "scaling")


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def run(names: Sequence[str], sizes: Sizes, folder: Path, done: list[str]) -> None:
    """Jobs one after the other; `done` gets the name of each that is written down."""
    path, scaling_path = folder / "estimators.json", folder / "scaling.json"
    before, scaled_before = (committed(RESULTS / one.name) for one in (path, scaling_path))
    jobs = json.loads(path.read_bytes())["jobs"] if path.exists() else {}
    about = {"machine": machine(), "python": platform.python_version()}
    rates: Rates = {}
    if set(names) & set(ROWS):
        rates = ceilings() if sizes == FULL else ceilings(1, 10, 64)
        Console().print({key: round(value, 3) for key, value in rates.items()})
    fresh = []
    for name in names:
        told = {"machine": about["machine"], "load_average": load_average()}
        print(f"{time.strftime('%H:%M:%S')} {name} ...", file=sys.stderr, flush=True)
        with progress(name) as report:
            if name == "scaling":
                found = scaling.measure(sizes, report, timer(sizes))
                _write(scaling_path, about | told | {"turns": sizes.turns, "moved": found})
                scaling.draw(found, folder / "scaling.png")
                scaling.print_exponents(found, scaled_before.get("moved", {}))
            else:
                rows = [row | told for row in ROWS[name](sizes, rates, report)]
                fresh += rows
                jobs = {one: {**jobs, name: rows}[one] for one in ROWS if one in {*jobs, name}}
                _write(path, about | {"ceilings": rates, "jobs": jobs})
        done.append(name)
    if fresh:
        tables.print_table(fresh, compare(fresh, rows_of(before)))
        tables.draw(rows_of({"jobs": jobs}), folder / "estimators.png")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among {', '.join(NAMES)}")
    parser.add_argument("--small", action="store_true", help="tiny sizes; needs --folder")
    parser.add_argument("--folder", type=Path, help="where results go (benchmarks/results)")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f"NAME must be among {', '.join(NAMES)}; got {unknown[0]!r}.")
    if given.small and given.folder is None:
        parser.error("--small needs a --folder, since it says nothing of the results here.")
    names = given.names or list(NAMES)
    keep_to_one_core()
    done: list[str] = []
    try:
        with threadpool_limits(1):
            run(names, SMALL if given.small else FULL, given.folder or RESULTS, done)
    except (KeyboardInterrupt, SystemError) as error:
        if not is_ctrl_c(error):
            raise
        left = names[len(done) :] + ["--small"] * given.small
        left += [] if given.folder is None else ["--folder", str(given.folder)]
        kept = f"{' and '.join(done)} written" if done else "nothing written"
        command = shlex.join(["python", "-m", "benchmarks.run", *left])
        print(f"Stopped, {kept}; `{command}` goes on from there.", file=sys.stderr)
        raise SystemExit(stopped()) from None


if __name__ == "__main__":
    main()
