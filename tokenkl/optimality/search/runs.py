"""`search`: many starts, each climbed and explored, in a folder that it can be resumed from."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._files import PathLike, atomic_path, locked
from tokenkl._formats import conform, reading
from tokenkl._progress import Report, reporting
from tokenkl._random import generator, portable, seed_of
from tokenkl._validation import as_float_array, check_choice, check_count, reject
from tokenkl.codebooks.base import PointCodebook
from tokenkl.optimality.constraints import CONSTRAINTS
from tokenkl.optimality.search.climb import explore
from tokenkl.optimality.search.objectives import Objective, objective_of
from tokenkl.optimality.search.spaces import Space
from tokenkl.optimality.search.starts import CODES, KINDS, SYMMETRIC, WALK, start
from tokenkl.workers import each, threads_of_cluster

FORMAT = "tokenkl search, version 1"
STATE = "search.json"
#: Most numbers K n of a search.
MAX_NUMBERS = 2**20


@dataclasses.dataclass(frozen=True)
class Run:
    """What one start led to.

    - `index`: its number, which with the key gives the same start again.
    - `kind`, `what`: the kind of start, and it in words; `value`: of the objective; `seconds`.
    """

    index: int
    kind: str
    what: str
    value: float
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SearchResult:
    """The best codebook of a search, and what every start led to; see `search`.

    - `codebook`: the best one; `value`: of the objective, in floating point.
    - `runs`: one for every start, in their order.
    - `key`: of the random numbers, where it is a whole number.
    """

    codebook: PointCodebook
    objective: str
    constraint: str
    value: float
    runs: tuple[Run, ...]
    key: int | None

    @property
    def best(self) -> Run:
        """The start that led to the codebook."""
        return max(self.runs, key=lambda run: run.value)

    def __repr__(self) -> str:
        return (
            f"<SearchResult {self.objective} ({self.constraint}), K = {self.codebook.K}, "
            f"n = {self.codebook.n}: {self.value:.9g}, start {self.best.index} of {len(self.runs)} "
            f"({self.best.what})>"
        )


def search(
    n: int,
    K: int,
    objective: str | Callable[..., Any] = "mean_distance",
    constraint: str = "box",
    *,
    snr: float | None = None,
    starts: int = 20,
    hops: int = 10,
    kinds: Sequence[str] | None = None,
    include: Sequence[Any] = (),
    enough: float | None = None,
    key: Any = 0,
    folder: PathLike | None = None,
    workers: int = 1,
    progress: Report | None = None,
) -> SearchResult:
    """Look for the codebook of K tokens in R^n with the largest objective.

    Every start (Sobol points, jittered grids, cuts of lattices, uniform points; for distances in a
    box also annealed subsets of codes) is climbed by quasi-Newton steps, on smooth functions that
    tend to the distances, over neighbour lists; distances are then polished by linear programmes,
    each of which is a step upwards; and left by `hops` random changes for better ones. What is
    found is the best that was met, a lower bound of the maximum and no proof of anything else:
    `certify_local` says whether it is a local maximum, `nn_distance_bound` what no codebook
    exceeds. (docs/theory/optimality.md, O7.)

    Args:
        n, K: dimensions and number of tokens, of equal priors.
        objective: "mean_distance" (D), "min_distance", "accuracy" or "mutual_information" (both at
            `snr`, by fixed draws of noise), or a function of the points (K, n): one that JAX can
            differentiate, or one that returns its value and its gradient as NumPy arrays.
        constraint: "box" [-1, 1]^n; "ball" of radius 1; "power", mean |e - mean|^2 = n;
            "variance", 1 in every coordinate.
        snr: 1 / s^2, for accuracy and information.
        starts: how many; `hops`: tries to improve each.
        kinds: of starts, which take turns: "sobol", "grid", "lattice", "uniform", "code"; and, only
            if they are named, "symmetric": points that a random group of symmetries of the box
            maps to themselves, which leads to packings that no other start finds; and, for
            distances in a box, "walk": tokens that are annealed on a fine grid, from a subset of a
            code, for half a minute at 64 tokens.
        include: further starts, codebooks or arrays (K, n), which come first.
        enough: a value at which the search ends, so that not all starts are made.
        key: of all random numbers; the same key gives the same result, whatever the workers.
        folder: where every finished start is written at once, and read again by the next call with
            the same arguments (`starts` may be larger), so that a search goes on where it ended.
            One search at a time may write there.
        workers: processes (threads, for a function) that share the starts; inside `tk.cluster` its
            workers do, whatever this is.
        progress: called with starts done and to do; a bar on stderr if left out.

    Raises:
        ValueError: arguments out of range, or a folder of another search.

    Example:
        >>> import tokenkl as tk
        >>> found = tk.search(2, 5, "min_distance", starts=4, hops=2)
        >>> round(found.value / 2, 9)  # in the unit square: sqrt(2)/2
        0.707106781
    """
    n, K = check_count(n, "n"), check_count(K, "K", minimum=2)
    if n * K > MAX_NUMBERS:
        reject("K", f"{K:,}", f"at most {MAX_NUMBERS // n:,} for n = {n}")
    check_choice(constraint, CONSTRAINTS, "constraint")
    starts, hops = check_count(starts, "starts"), check_count(hops, "hops", minimum=0)
    workers = check_count(workers, "workers")
    goal = objective_of(objective, n, snr, key)
    space = Space(K, n, constraint)
    chosen = _kinds(kinds, goal, space)
    given = [_points(one, space) for one in include]
    goal_value = np.inf if enough is None else float(enough)
    task = _Task(space, objective, snr, hops, chosen, given, key, goal_value)
    with (
        _alone_in(folder),
        reporting(f"search, K = {K}, n = {n}", progress) as report,
    ):
        state = _State(folder, task, goal)
        missing = [index for index in range(starts) if index not in state.runs]
        done = starts - len(missing)
        report(done, starts)
        if state.best >= goal_value:
            missing = []
        for run, points in _share(task, missing, workers, named=isinstance(objective, str)):
            state.add(run, points)
            done += 1
            report(done, starts)
            if run.value >= goal_value:
                break
    if state.points is None or state.best == -np.inf:
        reject("objective", "NaN or -inf", "a number at the points that are found")
    runs = tuple(state.runs[index] for index in sorted(state.runs))
    best = max(runs, key=lambda run: run.value)
    name = f"search, {goal.name} ({constraint})"
    return SearchResult(
        PointCodebook(state.points, allow_duplicates=True, name=name),
        goal.name,
        constraint,
        best.value,
        runs,
        seed_of(key),
    )


@contextlib.contextmanager
def _alone_in(folder: PathLike | None) -> Iterator[None]:
    """No other search writes to the folder meanwhile; what killed ones left behind is removed."""
    if folder is None:
        yield
        return
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    with locked(where / ".lock", wait=False) as held:
        if not held:
            reject("folder", str(folder), "one that no other search is writing to")
        for left in where.glob(f".{Path(STATE).stem}.*{Path(STATE).suffix}"):
            left.unlink()
        yield


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """All that a start needs, in this process or another."""

    space: Space
    objective: Any
    snr: float | None
    hops: int
    kinds: tuple[str, ...]
    given: list[np.ndarray]
    key: Any
    enough: float


def _run(task: _Task, index: int) -> tuple[Run, Float[np.ndarray, "K n"]]:
    began = time.perf_counter()
    rng = generator(task.key, index)
    goal = objective_of(task.objective, task.space.n, task.snr, task.key)
    if index < len(task.given):
        kind, what, points = "given", "given", task.given[index]
    else:
        turn, place = divmod(index - len(task.given), len(task.kinds))
        kind = task.kinds[place]
        points, what = start(kind, turn, task.space, rng)
    found_as_good = kind in ("given", CODES, WALK)
    value, found = explore(
        points, task.space, goal, task.hops, rng, given=found_as_good, enough=task.enough
    )
    return Run(index, kind, what, value, time.perf_counter() - began), found


def _share(task: _Task, missing: list[int], workers: int, named: bool) -> Any:
    """Results of these starts, in any order."""
    if threads_of_cluster():
        sent = dataclasses.replace(task, key=portable(task.key))
        yield from (found for _, found in each(functools.partial(_run, sent), missing))
        return
    if workers == 1 or len(missing) < 2:
        for index in missing:
            yield _run(task, index)
        return
    pool: Executor
    if named:
        import multiprocessing

        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    else:
        pool = ThreadPoolExecutor(workers)
    try:
        futures = [pool.submit(_run, task, index) for index in missing]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _kinds(kinds: Sequence[str] | None, goal: Objective, space: Space) -> tuple[str, ...]:
    boxed = goal.is_distance and space.constraint == "box"
    if kinds is None:
        return (CODES, *KINDS) if boxed and space.n > 2 else KINDS
    if isinstance(kinds, str) or not kinds:
        reject("kinds", kinds, "a sequence of at least one kind of start")
    for kind in kinds:
        check_choice(kind, (*KINDS, SYMMETRIC, CODES, WALK), "kinds")
    for kind in {CODES, WALK} & set(kinds) if not boxed else ():
        reject("kinds", kind, "left out unless distances are maximised in a box")
    return tuple(kinds)


def _points(given: Any, space: Space) -> Float[np.ndarray, "K n"]:
    points = as_float_array("include", getattr(given, "points", given), ndim=2)
    if points.shape != (space.K, space.n):
        reject("include", f"points of shape {points.shape}", f"of shape {(space.K, space.n)}")
    return np.asarray(space.inside(points))


class _State:
    """Finished starts and the best points, in memory and, if there is a folder, in a file."""

    def __init__(self, folder: PathLike | None, task: _Task, goal: Objective) -> None:
        self.runs: dict[int, Run] = {}
        self.points: np.ndarray | None = None
        self.best = -np.inf
        self.path: Path | None = None
        self.head = {
            "format": FORMAT,
            "n": task.space.n,
            "K": task.space.K,
            "objective": goal.name,
            "constraint": task.space.constraint,
            "snr": task.snr,
            "hops": task.hops,
            "kinds": list(task.kinds),
            "given": [hashlib.sha256(one.tobytes()).hexdigest() for one in task.given],
            "key": seed_of(task.key) if seed_of(task.key) is not None else repr(task.key),
        }
        if folder is None:
            return
        self.path = Path(folder) / STATE
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        assert self.path is not None
        with reading(self.path, "the state of tk.search, as JSON") as file:
            found = file.json(dict[str, Any])
            for name, value in self.head.items():
                if found.get(name) != value:
                    file.refuse(
                        f"it is of another search: {name} is {found.get(name)!r}, not {value!r}"
                    )
            for run in conform(found.get("runs"), list[Run], "runs"):
                self.runs[run.index] = run
            rows = conform(found.get("points"), list[list[str]], "points")
            try:
                self.points = np.array([[float.fromhex(x) for x in row] for row in rows])
            except ValueError:
                file.refuse("its points are no numbers")
            if self.points.shape != (self.head["K"], self.head["n"]):
                file.refuse("its points are not as many as it says")
            self.best = max((run.value for run in self.runs.values()), default=-np.inf)

    def add(self, run: Run, points: Float[np.ndarray, "K n"]) -> None:
        """One more finished start."""
        self.runs[run.index] = run
        # Of equal values the earlier start counts, whichever was finished first.
        first = min(r.index for r in self.runs.values() if r.value == run.value)
        if run.value > self.best or (run.value == self.best and first == run.index):
            self.best, self.points = run.value, points
        if self.path is None:
            return
        assert self.points is not None
        record = {
            **self.head,
            "runs": [dataclasses.asdict(self.runs[index]) for index in sorted(self.runs)],
            "points": [[float(x).hex() for x in row] for row in self.points],
        }
        with atomic_path(self.path) as new:
            Path(new).write_text(json.dumps(record) + "\n")
