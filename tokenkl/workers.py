"""Work in many parts: done here, or by the workers of a Dask scheduler, with the same results.

`each` is the one map that searches, Monte-Carlo and experiments have. Alone it is a loop.
Inside `cluster(address)` the parts go to the workers of a scheduler, each part with the key or the
range of samples that it would have here, and what comes back is put together in the same order: the
bits are those of a computation here, as they would be on another machine. A part whose worker dies
is done by another.

Dask sends functions and results between its processes as pickles: whoever reaches the scheduler can
run code on it. Keep it in a network that you trust, or give it certificates (`Security`, and the
configuration of Dask). No pickle is read from a file.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import platform
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from tokenkl._extras import MissingExtra
from tokenkl._validation import reject

Item = TypeVar("Item")
Found = TypeVar("Found")

#: What long work calls with what is done and what there is to do.
Report = Callable[[float, float], None]
#: The same for one of many parts, whose number comes first.
Told = Callable[[int, float, float], None]

#: Seconds to wait for a scheduler, and for its first worker.
PATIENCE = 15.0
#: Seconds between two reports of progress out of one part.
EVERY = 1.0
#: Parts that are on their way for every thread of the workers.
AHEAD = 4
#: Packages whose version may change the last bits.
PACKAGES = ("numpy", "scipy", "jax", "jaxlib", "numba")


class ClusterError(OSError):
    """The workers, or the scheduler, went away and did not come back."""


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Meanwhile `search` and Monte-Carlo share their work with the workers of a Dask scheduler.

    Results are those without it, bit for bit, where the workers have the same versions (else they
    are refused) and processors of the same kind. Work of a worker that dies is done by another. It
    pays where a part of the work takes longer than about ten milliseconds (docs/cluster.md).

    Args:
        address: of the scheduler, such as "tcp://10.0.0.1:8786"; None does everything here.

    Raises:
        ValueError: no scheduler answers there, or it has no workers.
        MissingExtra: distributed is not installed (extra `dask`).
        ClusterError: (inside) a part has cost several workers their lives, or the scheduler ended.

    Example:
        >>> import tokenkl as tk
        >>> with tk.cluster(None):  # or the address of a scheduler
        ...     found = tk.search(2, 4, starts=2, hops=0)
        >>> found.value
        2.0
    """
    workers = None if address is None else _Dask(address)
    token = _CURRENT.set(workers)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        if workers is not None:
            workers.close()


def threads_of_cluster() -> int:
    """How many parts are worked on at a time by a cluster; 0 where everything is done here."""
    workers = _CURRENT.get()
    return 0 if workers is None else workers.threads()


def each(
    function: Callable[..., Found], items: Iterable[Item], *, told: Told | None = None
) -> Iterator[tuple[int, Found]]:
    """Number and `function(item)` of every item, as they are finished: here, in their order.

    On a cluster function and items are pickled, and no more than a few are on their way at a time.
    With `told` the function is called with the item and a `Report`, which leads to `told`.
    """
    workers = _CURRENT.get()
    if workers is not None:
        yield from workers.each(function, items, told)
        return
    for number, item in enumerate(items):
        if told is None:
            yield number, function(item)
        else:
            yield number, function(item, functools.partial(told, number))


def in_order(found: Iterable[tuple[int, Found]]) -> Iterator[Found]:
    """What `each` finds, in the order of the items.

    Example:
        >>> list(in_order([(1, "b"), (2, "c"), (0, "a")]))
        ['a', 'b', 'c']
    """
    waiting: dict[int, Found] = {}
    wanted = 0
    for number, one in found:
        waiting[number] = one
        while wanted in waiting:
            yield waiting.pop(wanted)
            wanted += 1


# ---- Workers of Dask ----------------------------------------------------------------------------


class _Dask:
    """A connection to a scheduler."""

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise MissingExtra("a cluster", "distributed", "dask") from error
        expected = "the address of a Dask scheduler that answers, as tcp://HOST:8786"
        if not re.fullmatch(r"((tcp|tls|wss?)://)?[^/\s]+:\d{1,5}/?", address):
            reject("the scheduler", repr(address), expected)
        try:
            self.client = Client(address, timeout=PATIENCE, set_as_default=False)
        except OSError:
            reject("the scheduler", repr(address), expected)
        try:
            self.client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            self.close()
            reject("the scheduler", repr(address), "one with workers; start some by `dask worker`")

    def close(self) -> None:
        self.client.close(timeout=PATIENCE)

    def threads(self) -> int:
        return max(sum(self.client.nthreads().values()), 1)

    def _submit(self, *task: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return self.client.submit(*task, pure=False)

    def each(
        self, function: Callable[..., Found], items: Iterable[Item], told: Told | None
    ) -> Iterator[tuple[int, Found]]:
        import cloudpickle
        from distributed import CancelledError, KilledWorker, as_completed

        # Sent once, as bytes: the function may hold a codebook. As a task it is made again where
        # the worker that has it dies, which data that were only sent would not be.
        sent = self._submit(bytes, cloudpickle.dumps(function))
        needed = _needed()
        topic = f"tokenkl-{sent.key}" if told is not None else None
        if told is not None and topic is not None:
            self.client.subscribe_topic(topic, lambda event: told(*event[1]))
        numbers: dict[Any, int] = {}
        rest = enumerate(items)

        def submit() -> Any:
            for number, item in rest:
                packed = cloudpickle.dumps(item)
                future = self._submit(_work, sent, packed, number, topic, needed)
                numbers[future] = number
                return future
            return None

        try:
            running = as_completed(loop=self.client.loop)
            for _ in range(AHEAD * self.threads()):
                if (future := submit()) is not None:
                    running.add(future)
            for future in running:
                found = future.result()
                number = numbers.pop(future)
                if (further := submit()) is not None:
                    running.add(further)
                yield number, cloudpickle.loads(found)
        except KilledWorker as error:
            raise ClusterError(
                f"one part of the work ended {error.allowed_failures + 1} workers, one after the "
                "other; is their memory too small?"
            ) from error
        except CancelledError as error:
            raise ClusterError("the scheduler ended, or cancelled the work.") from error
        finally:
            if topic is not None:
                self.client.unsubscribe_topic(topic)
            self.client.cancel([*numbers, sent], force=True)


def _work(
    function: bytes, item: bytes, number: int, topic: str | None, needed: tuple[str, ...]
) -> bytes:
    """One part, on a worker."""
    import cloudpickle

    check_here(needed)
    work = _unpacked(function)
    if topic is None:
        found = work(cloudpickle.loads(item))
    else:
        found = work(cloudpickle.loads(item), _Reporter(topic, number))
    return cloudpickle.dumps(found)


@functools.lru_cache(maxsize=4)
def _unpacked(function: bytes) -> Any:
    import cloudpickle

    return cloudpickle.loads(function)


class _Reporter:
    """Sends what is done of a part to whoever waits for it, not too often."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic, self.number, self.last = topic, number, 0.0

    def __call__(self, done: float, total: float) -> None:
        from distributed import get_worker

        if time.monotonic() - self.last >= EVERY:
            self.last = time.monotonic()
            get_worker().log_event(self.topic, (self.number, float(done), float(total)))


# ---- The same code and versions -----------------------------------------------------------------


def _needed() -> tuple[str, ...]:
    """What a worker has to have: packages, versions and sources, as words."""
    ours = ["tokenkl", *["experiments"] * ("experiments" in sys.modules)]
    words = [f"python {platform.python_version()}"]
    words += [f"{name} {metadata.version(name)}" for name in PACKAGES]
    return (*words, *(f"{name} {_digest(name)}" for name in ours))


@functools.cache
def check_here(needed: Sequence[str]) -> None:
    """Refuse work that was asked for with other versions than are here."""
    for word in needed:
        name, wanted = word.split()
        if name == "python":
            found = platform.python_version()
        else:
            try:
                found = metadata.version(name) if name in PACKAGES else _digest(name)
            except (ImportError, metadata.PackageNotFoundError):
                found = "not there"
        if found != wanted:
            what = "source" if len(wanted) == 16 else "version"
            raise ValueError(
                f"the worker on {platform.node()} must have the same {what} of {name} as here, "
                f"{wanted}; it has {found}."
            )


@functools.cache
def _digest(package: str) -> str:
    """Of the source of a package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(package)
    root = Path(next(iter(spec.submodule_search_locations)))
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)} ".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


_CURRENT: ContextVar[_Dask | None] = ContextVar("workers of this block", default=None)
