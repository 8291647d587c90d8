"""Files that belong together appear together, whatever stops their writer; locks end with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tokenkl import _files
from tokenkl._files import atomic_files, file_digest, locked

NAMES = ("a.csv", "b.png", "c.json")

#: Stops a process before its nth step in the file system, for n = 0, 1, ... until it gets through.
#: The file is run by itself: a process with JAX must not fork.
KILLED = """
import importlib.util, itertools, json, os, pathlib, sys

spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
names, root = json.loads(sys.argv[2]), pathlib.Path(sys.argv[3])

def steps_until(last):
    left = itertools.count()
    def counted(step):
        def counting(*args, **options):
            if next(left) == last:
                os._exit(9)
            return step(*args, **options)
        return counting
    for owner, name in ((os, "replace"), (os, "fsync"), (os, "unlink"), (pathlib.Path, "unlink")):
        setattr(owner, name, counted(getattr(owner, name)))

found = []
for last in range(100):
    folder = root / str(last)
    folder.mkdir()
    for name in names[:2]:
        (folder / name).write_text("old")
    child = os.fork()
    if child == 0:
        steps_until(last)
        with files.atomic_files() as new:
            for name in names:
                new(folder / name).write_text("new")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found.append({name: (folder / name).read_text() for name in names if (folder / name).exists()})
    if code == 0:
        break
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_no_kill_leaves_a_mixture(tmp_path: Path) -> None:
    words = [KILLED, _files.__file__, json.dumps(NAMES), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", *words], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert len(found) > 10
    assert all(len(set(state.values())) <= 1 for state in found)
    assert found[0] == dict.fromkeys(NAMES[:2], "old")
    assert found[-1] == dict.fromkeys(NAMES, "new")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("at", range(6))
def test_what_fails_changes_nothing(
    at: int,
    stop: type[BaseException] | BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two old files step aside and three new ones are renamed: any of the five can fail."""
    for name in NAMES[:2]:
        (tmp_path / name).write_text("old")
    count = 0
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count == at + 1:
            raise stop
        replace(source, target)

    def write() -> None:
        with atomic_files() as new:
            for name in NAMES:
                new(tmp_path / name).write_text("new")

    monkeypatch.setattr(os, "replace", failing)
    if at < 5:
        with pytest.raises((KeyboardInterrupt, OSError)):
            write()
    else:
        write()
    state = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert state == (dict.fromkeys(NAMES, "new") if at == 5 else dict.fromkeys(NAMES[:2], "old"))


def test_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    fsync, replace = os.fsync, os.replace

    def synchronised(descriptor: int) -> None:
        where = os.readlink(f"/proc/self/fd/{descriptor}") if os.path.exists("/proc/self") else ""
        steps.append("folder" if os.path.isdir(where) else "file")
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synchronised)
    monkeypatch.setattr(os, "replace", renamed)
    with atomic_files() as new:
        for name in NAMES[:2]:
            new(tmp_path / name).write_text("new")
    kinds = ["file", "file", "rename", "rename", "folder"]
    assert steps == (
        kinds if sys.platform == "linux" else [k.replace("folder", "file") for k in kinds]
    )


def test_digest(tmp_path: Path) -> None:
    """The example of FIPS 180-2, appendix B.1."""
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_lock_is_held_by_one_and_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys; from tokenkl._files import locked\n"
        f"with locked({str(path)!r}, wait=False) as held: print(held, flush=True); input()"
    )
    with locked(path, wait=False) as held:
        assert held
        with locked(path, wait=False) as again:
            assert not again
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with locked(path, wait=False) as held:
            assert not held
        other.kill()
    with locked(path, wait=True) as held:
        assert held
