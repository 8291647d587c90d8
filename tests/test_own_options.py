"""When `pytest` takes all cores by itself: tests/conftest.py."""

from types import SimpleNamespace
from typing import Any

import pytest

SOURCE = pytest.Config.ArgsSource


@pytest.mark.parametrize(
    ("source", "asked", "worker", "taken"),
    [
        (SOURCE.TESTPATHS, None, False, ("auto", "worksteal")),
        (SOURCE.TESTPATHS, 0, False, (0, "no")),
        (SOURCE.TESTPATHS, 3, False, (3, "no")),
        (SOURCE.ARGS, None, False, (None, "no")),
        (SOURCE.TESTPATHS, None, True, (None, "no")),  # else workers had workers without end
    ],
)
def test_cores(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    source: Any,
    asked: int | None,
    worker: bool,
    taken: tuple[Any, str],
) -> None:
    hook = request.config.pluginmanager.get_plugin(str(request.path.parent / "conftest.py"))
    assert hook is not None
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    if worker:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    option = SimpleNamespace(numprocesses=asked, dist="no")
    config = SimpleNamespace(option=option, args_source=source, ArgsSource=SOURCE)
    assert hook.pytest_cmdline_main(config) is None  # whoever is next looks at the options
    assert (option.numprocesses, option.dist) == taken


def test_without_workers_none_are_asked_for(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = request.config.pluginmanager.get_plugin(str(request.path.parent / "conftest.py"))
    assert hook is not None
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    option = SimpleNamespace()
    hook.pytest_cmdline_main(
        SimpleNamespace(option=option, args_source=SOURCE.TESTPATHS, ArgsSource=SOURCE)
    )
    assert not vars(option)
