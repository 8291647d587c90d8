"""One hypothesis profile, the search path of the tests, what is compiled once, `slow`, cores."""

import argparse
import gc
import os
import sys
import zlib
from collections.abc import Generator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "tests"):  # `experiments` and the shared `problems` module
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

# What is of no use without PyTorch, as with other Pythons in `make versions`: these, whose own
# conftest needs it, and every other file that cannot be imported without it.
TORCH = find_spec("torch") is not None
collect_ignore = [] if TORCH else ["tts"]

# What importing and collecting make, a million objects, stays: looking through them again and again
# for what could go is a third of the time until the first test.
gc.disable()

# What JAX compiles serves every worker, every command that a test starts, and the next run: half of
# the time of the tests of gradients, for instance. Set before JAX is imported.
for name, value in {
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}.items():
    os.environ.setdefault(name, value)

# Most programs run for less time than it takes to make good code of them, so XLA makes it quickly:
# a training step compiles in a fifth of the time. `tests/information/test_optimised_code.py` holds
# this code against what users get. An unknown flag ends the process, hence the versions.
QUICK = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK)

hypothesis.settings.register_profile(
    "tokenkl",
    deadline=None,  # the first example of every shape compiles
    derandomize=True,
    max_examples=60,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tokenkl")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share", type=_share, default="0/1", metavar="I/N", help="every N-th test, from the I-th"
    )


@pytest.hookimpl(tryfirst=True)  # before xdist looks at what is asked for
def pytest_cmdline_main(config: pytest.Config) -> None:
    """A `pytest` that names no files takes all cores; `-n 0` and whoever wants a debugger, one.

    With files named, the workers would take longer to begin than most of them to end.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:  # workers come here too, and would have workers again
        return
    option, everything = config.option, config.args_source is config.ArgsSource.TESTPATHS
    if everything and getattr(option, "numprocesses", 0) is None:
        option.numprocesses = "auto"
        option.dist = "worksteal"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip what cannot be imported because PyTorch is missing, and only that."""
    report = yield
    if report.failed and not TORCH and "No module named 'torch'" in str(report.longrepr):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 1, "Skipped: could not import 'torch'")
    return report


def pytest_collection_finish() -> None:
    # With Python's thresholds all objects are looked through twenty times, a twentieth of the time.
    # Not `gc.freeze()` in its place: with the oldest hypothesis property tests then fail.
    gc.set_threshold(10_000, 20, 100)
    gc.enable()


def _share(text: str) -> tuple[int, int]:
    part, _, of = text.partition("/")
    if not (part.isdecimal() and of.isdecimal() and int(part) < int(of)):
        raise argparse.ArgumentTypeError(f"--share is I/N with 0 <= I < N, like 0/12; got {text}.")
    return int(part), int(of)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A plain `pytest` leaves out what is marked slow; `-m "slow or not slow"` runs all.

    What is slow begins first, so that no worker is left alone with it at the end. `--share 0/12`
    are a twelfth of the tests, out of all files, the same ones wherever their names are the same.
    """
    share, shares = config.option.share
    items[:] = [one for one in items if zlib.crc32(one.nodeid.encode()) % shares == share]
    if config.option.markexpr:
        items.sort(key=lambda item: "slow" not in item.keywords)
        return
    skip = pytest.mark.skip(reason="slow; run with -m 'slow or not slow'")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
