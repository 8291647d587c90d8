"""Work on a cluster: the same bits as here, also where a worker is killed in the middle."""

import functools
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import tokenkl as tk
from benchmarks.scale_out import processes
from tokenkl import workers
from tokenkl._extras import MissingExtra

ROOT = Path(__file__).resolve().parents[1]


def square(number: int) -> int:
    return number * number


def slow_square(number: int, report: Callable[[float, float], None]) -> int:
    report(1, 2)
    time.sleep(0.2)
    return number * number


def refused(number: int) -> int:
    raise ValueError(f"{number} must be another.")


def test_here_it_is_a_loop() -> None:
    assert list(workers.each(square, range(4))) == [(0, 0), (1, 1), (2, 4), (3, 9)]
    told: list[tuple[int, float, float]] = []
    found = workers.each(slow_square, [5, 6], told=lambda *one: told.append(one))
    assert list(found) == [(0, 25), (1, 36)]
    assert told == [(0, 1, 2), (1, 1, 2)]
    assert workers.threads_of_cluster() == 0


def test_put_in_order() -> None:
    waited: list[int] = []

    def found() -> Iterator[tuple[int, int]]:
        for number in (2, 0, 1, 4, 3):
            waited.append(number)
            yield number, 10 * number

    seen = [(one, len(waited)) for one in workers.in_order(found())]
    assert seen == [(0, 2), (10, 3), (20, 3), (30, 5), (40, 5)]  # each as early as can be


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("nonsense", "tcp://", "http://host:1", "host", "tcp://a b:1"):
        with (
            pytest.raises(ValueError, match="the scheduler must be the address"),
            tk.cluster(address),
        ):
            pass
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    with (
        pytest.raises(ValueError, match="a Dask scheduler that answers"),
        tk.cluster("tcp://127.0.0.1:9"),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(MissingExtra, match=r"a cluster needs distributed.*\[dask\]"),
        tk.cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_other_sources_are_refused() -> None:
    needed = workers._needed()
    workers.check_here(needed)
    for number, name in enumerate(word.split()[0] for word in needed):
        other = (*needed[:number], f"{name} 0.0.1", *needed[number + 1 :])
        with pytest.raises(ValueError, match=f"the same version of {name} as here, 0.0.1; it has"):
            workers.check_here(other)
    with pytest.raises(ValueError, match="source of none"):
        workers.check_here(("none 0123456789abcdef",))


# ---- A real cluster ------------------------------------------------------------------------------


def bits_of(profile: tk.Profile) -> list[bytes]:
    """All values and errors."""
    arrays = [getattr(one, name) for one in profile.estimates.values() for name in ERRORS]
    return [np.asarray(array).tobytes() for array in arrays]


ERRORS = ("value", "standard_error", "numerical_error", "n_samples")


def sampled() -> list[list[bytes]]:
    """Nets and controls, targets, and plain blocks."""
    points = np.random.default_rng(0).standard_normal((700, 4))
    book = tk.PointCodebook(points)
    ways: list[dict[str, Any]] = [
        {"n_samples": 20_000},
        {"rtol": 0.004},
        {"n_samples": 20_000, "variance_reduction": False},
    ]
    keys = (3, jax.random.key(7), 3)
    return [
        bits_of(tk.profile(book, [0.3, 3.0, 30.0], method=tk.MonteCarlo(**way), key=key))
        for way, key in zip(ways, keys, strict=True)
    ]


@pytest.mark.slow  # most of it imports, in three processes
def test_a_cluster_of_processes(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    here = sampled()
    search = functools.partial(tk.search, 2, 7, starts=6, hops=1, key=3)
    found = search(progress=lambda done, total: None)
    folder = tmp_path / "dask"
    folder.mkdir()
    with processes(folder) as (address, others), tk.cluster(address):
        assert workers.threads_of_cluster() in (1, 2)
        told: list[tuple[int, float, float]] = []
        squares = workers.each(slow_square, range(5), told=lambda *one: told.append(one))
        assert list(workers.in_order(squares)) == [0, 1, 4, 9, 16]
        with pytest.raises(ValueError, match=r"^2 must be another\.$"):
            list(workers.each(refused, [2]))

        # What a worker had in hand when it was killed is done by the other one.
        victim = others.pop()

        def kill(done: float, total: float) -> None:
            if done >= 1 and victim.poll() is None:
                victim.kill()
                victim.wait()

        again = search(progress=kill)
        assert victim.returncode == -signal.SIGKILL
        assert again.codebook.points.tobytes() == found.codebook.points.tobytes()
        assert [(one.index, one.value) for one in again.runs] == [
            (one.index, one.value) for one in found.runs
        ]
        with tk.cluster(None):  # a block inside that does its work here
            assert workers.threads_of_cluster() == 0

        assert sampled() == here
