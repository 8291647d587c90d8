"""A search that is killed, out of disk or begun twice loses no finished start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile
import numpy as np
import pytest

import tokenkl as tk
from tokenkl._files import locked

#: Imports once, and forks before anything has threads: every child is killed at another moment.
KILLED = """
import os, signal, sys, time
import numpy as np
import tokenkl as tk
from tokenkl.cli import is_ctrl_c

folder = sys.argv[1]
signals = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
signal.signal(signal.SIGINT, signal.default_int_handler)


def search(folder=None):
    return tk.search(
        2, 7, starts=8, hops=4, key=3, folder=folder, progress=lambda done, total: None
    )


def child():
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            search(folder)
            code = 0
        except (KeyboardInterrupt, SystemError) as error:
            code = 130 if is_ctrl_c(error) else 1
        finally:
            os._exit(code)
    return pid


search()  # loads compiled code
began = time.monotonic()
whole = search()
took = time.monotonic() - began
rng = np.random.default_rng(0)
ended = []
while len(ended) < 40:
    pid = child()
    # A little longer every time: in the end it gets through, wherever it was before.
    time.sleep(took * rng.uniform(0.02, 0.2 + 0.04 * len(ended)))
    os.kill(pid, signals[len(ended) % 3])
    ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    if ended[-1] == 0:
        break
found = search(folder)
assert found.codebook.points.tobytes() == whole.codebook.points.tobytes()
values = [[(one.index, one.what, one.value) for one in each.runs] for each in (found, whole)]
assert values[0] == values[1]
print(*ended)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_any_moment(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    codes = [int(word) for word in done.stdout.split()]
    assert len(codes) > 3
    assert set(codes) <= {-9, -15, 130, 0}
    # What those that were killed had not finished writing is gone.
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "search.json"]


def quiet(done: float, total: float) -> None:
    """No bar."""


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    first = tk.search(2, 7, starts=1, hops=0, key=3, folder=tmp_path, progress=quiet)
    before = (tmp_path / "search.json").read_bytes()
    with hostile.full_disk(len(before)), pytest.raises(OSError, match="File too large"):
        tk.search(2, 7, starts=2, hops=0, key=3, folder=tmp_path, progress=quiet)
    assert (tmp_path / "search.json").read_bytes() == before
    again = tk.search(2, 7, starts=1, hops=0, key=3, folder=tmp_path, progress=quiet)
    np.testing.assert_array_equal(again.codebook.points, first.codebook.points)


def test_one_search_at_a_time(tmp_path: Path) -> None:
    with (
        locked(tmp_path / ".lock", wait=False),
        pytest.raises(ValueError, match="folder must be one that no other search is writing to"),
    ):
        tk.search(2, 4, starts=1, hops=0, folder=tmp_path, progress=quiet)
    tk.search(2, 4, starts=1, hops=0, folder=tmp_path, progress=quiet)
    assert json.loads((tmp_path / "search.json").read_text())["K"] == 4
