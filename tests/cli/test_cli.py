"""The command line, end to end: tables, files, figures, and every way to get it wrong."""

import csv
import hashlib
import io
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import commands
from matplotlib import image

import tokenkl as tk
from tokenkl.cli import profiles
from tokenkl.cli._options import CODEBOOKS
from tokenkl.cli.commands import app
from tokenkl.codebooks.registry import SPECS

COMMAND = [sys.executable, "-m", "tokenkl.cli"]


run, succeed, fail = commands(app)


def numbers(output: str) -> list[list[str]]:
    """The rows of the printed tables that start with a number."""
    rows = [line.split() for line in output.splitlines()]
    return [row for row in rows if row and row[0].lstrip("-").replace(".", "").isdigit()]


# ---- End to end, in a process of its own --------------------------------------------------------


def test_the_version_is_known_without_jax() -> None:
    code = "import sys, tokenkl.cli, tokenkl; print(*{'jax', 'scipy', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_version_and_help_in_a_process() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"tokenkl {tk.__version__}\n"
    assert done.stderr == ""


@pytest.mark.slow
def test_a_profile_goes_through_a_pipe() -> None:
    done = subprocess.run(
        [*COMMAND, "profile", "fsq:3^8", "--snr-db=-10:10:10", "--csv", "-"],
        capture_output=True,
        text=True,
        check=True,
    )
    frame = pd.read_csv(io.StringIO(done.stdout))
    expected = tk.profile(tk.FSQ((3,) * 8), [0.1, 1.0, 10.0])
    assert np.allclose(frame["mmse"], expected["mmse"].value, rtol=1e-14)
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes and signals")
def test_a_reader_that_goes_away_is_no_error() -> None:
    started = []
    for words in (["profile", "fsq:2", "--csv", "-"], ["verify", "fsq:2", "--snr", "1"]):
        process = subprocess.Popen(
            [*COMMAND, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.close()
        started.append(process)
    for process in started:
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait(30) == 141  # 1 is a theorem that failed


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes and signals")
def test_ctrl_c_ends_without_a_traceback() -> None:
    # The work says when it has begun.
    code = (
        # A job in the background of a script begins with the signal ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys, time; from tokenkl import cli; import tokenkl.cli.profiles\n"
        "cli.profiles._find = lambda *_: ("
        "print('begun', file=sys.stderr, flush=True), time.sleep(60))\n"
        "sys.argv = ['tokenkl', 'profile', 'e8']; cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert error == ""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes and signals")
def test_ctrl_c_while_modules_are_imported() -> None:
    """Compiled modules crash or print where their import is left, and swallow what is raised."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from tokenkl import cli; sys.argv = ['tokenkl', 'verify', 'fsq:3x3']\n"
        "print('begun', file=sys.stderr, flush=True); cli.main()"
    )
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    for delay in (0.2, 0.5, 0.9):
        process = subprocess.Popen([sys.executable, "-c", code], **pipes)
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        assert (process.returncode, out, error) == (130, "", "")


@pytest.mark.slow
def test_ctrl_c_where_nothing_can_be_raised() -> None:
    """An exception in a callback of the collector is dropped; the interrupt comes again.

    At once, and not when the work is done that the main thread waits for.
    """
    code = (
        "import gc, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import tokenkl.cli.profiles as profiles; from tokenkl import cli\n"
        "def work(*_):\n"
        "    gc.callbacks.append(lambda *_: (gc.callbacks.clear(), signal.raise_signal(2)))\n"
        "    gc.collect(); time.sleep(30)\n"
        "profiles._find = work; sys.argv = ['tokenkl', 'profile', 'e8']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=25)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_commands_as_an_object() -> None:
    """For tools that document or run them; nothing else is there by chance."""
    from tokenkl import cli
    from tokenkl.cli.commands import app

    assert cli.app is app
    with pytest.raises(AttributeError, match="has no attribute 'apps'"):
        _ = cli.apps


@pytest.mark.slow
def test_completion() -> None:
    """Commands, options and files by the shell's own means."""
    script = str(Path(sysconfig.get_path("scripts"), "tokenkl"))  # the path need not lead there
    for typed, expected in (
        ("tokenkl pro", ["profile"]),
        ("tokenkl profile --qu", ["--quantities"]),
        ("tokenkl profile ", []),  # a file, which the shell adds
        ("tokenkl tts sa", ["say"]),
    ):
        words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        done = subprocess.run(
            [script],
            env={**os.environ, **words, "_TOKENKL_COMPLETE": "complete_bash"},
            capture_output=True,
            text=True,
        )
        assert done.stdout.split() == expected
    shell = {**os.environ, "_TOKENKL_COMPLETE": "source_bash"}
    shown = subprocess.run([script], env=shell, capture_output=True, text=True)
    assert "complete -o default -F" in shown.stdout


# ---- profile ------------------------------------------------------------------------------------


def test_profile_table() -> None:
    done = succeed("profile", "fsq:3^8", "--snr-db=-10:10:10")
    rows = numbers(done.stdout)
    expected = tk.profile(tk.FSQ((3,) * 8), [0.1, 1.0, 10.0])
    assert [row[0] for row in rows] == ["-10", "0", "10"]
    for index, row in enumerate(rows):
        shown = [float(word) for word in row[1:]]
        found = [expected[name].value[index] for name in tk.QUANTITIES]
        assert np.allclose(shown, found, rtol=6e-6)
    assert "FSQ 3^8: K = 6,561 tokens in R^8, equal priors" in done.stdout
    assert "Method: exact, by coordinate." in done.stdout
    assert "±" not in done.stdout


def test_profile_of_the_sampling_error(tmp_path: Path) -> None:
    """Only where it is named; in the table, the files and the figure as the others."""
    names, files = "sampling_error,accuracy", (tmp_path / "out.json", tmp_path / "out.png")
    words = ("profile", "fsq:3^2", "--snr", "0.5,4", "--quantities", names)
    done = succeed(*words, "--json", files[0], "--plot", files[1])
    expected = tk.sampling_error(tk.FSQ((3, 3)), [0.5, 4.0]).value
    shown = [float(row[2]) for row in numbers(done.stdout)]  # after snr and dB
    np.testing.assert_allclose(shown, expected, rtol=6e-6)
    stored = json.loads(files[0].read_text())["quantities"]
    assert list(stored) == ["sampling_error", "accuracy"]
    np.testing.assert_allclose(stored["sampling_error"]["value"], expected, rtol=1e-14)
    assert files[1].stat().st_size > 0


def test_profile_of_what_is_sampled() -> None:
    words = "profile", "e8", "--snr-db=0:30:30", "--quantities", "accuracy,mmse"
    done = succeed(*words, "--samples", "2000", "--method", "monte-carlo")
    expected = tk.profile(
        tk.e8_codebook(),
        [1.0, 1000.0],
        ["accuracy", "mmse"],
        method=tk.MonteCarlo(2000),
        key=0,
    )
    first, second = numbers(done.stdout)
    assert float(first[1]) == pytest.approx(expected["accuracy"].value[0], abs=1e-4)
    interval = expected["accuracy"][0].confidence_interval()
    value = expected["accuracy"].value[0]
    half = max(interval.high - value, value - interval.low)
    assert float(first[3]) == pytest.approx(half, rel=0.05)
    assert "2,000 samples, seed 0" in done.stdout
    assert "95 % interval" in done.stdout
    assert second[3].endswith("*")
    assert "* not a central-limit interval" in done.stdout
    assert expected["accuracy"].note in " ".join(done.stdout.split())


def test_profile_of_what_is_partly_exact() -> None:
    done = succeed("profile", "perturb:fsq:3^2:0.1", "--snr-db", "0", "--samples", "200")
    assert "Method on accuracy, error probability: exact" in done.stdout
    assert "200 samples" in done.stdout


def test_what_needs_all_of_too_many_tokens_is_left_out() -> None:
    words = ("--snr-db", "20", "--samples", "200")
    sentence = "Left out: conditional_entropy, mutual_information, mmse, which need a list of all"
    done = succeed("profile", "d:4^24", *words)
    assert len(numbers(done.stdout)[0]) == 7  # dB, and two of a value, "±" and a reach
    assert sentence in done.stderr
    assert sentence in succeed("compare", "d:4^24", "fsq:4^24", *words).stderr
    assert (
        done.stdout
        == succeed("profile", "d:4^24", *words, "--quantities", "accuracy,error_probability").stdout
    )
    assert "needs all tokens" in fail("profile", "d:4^24", *words, "--quantities", "mmse")
    assert "whose MMSE is found" in fail("steps", "d:4^24")
    shown = " ".join(succeed("info", "d:4^24").stdout.split())
    assert "sampled: accuracy, error probability; the others need a list of all tokens" in shown


def test_seed_changes_the_samples_and_the_perturbation() -> None:
    words = ("profile", "perturb:fsq:2^3:0.3", "--snr-db", "0", "--samples", "50", "--csv", "-")
    first, again = succeed(*words).stdout, succeed(*words, "--seed", "0").stdout
    assert first == again
    assert succeed(*words, "--seed", "1").stdout != first


def test_linear_snr() -> None:
    rows = numbers(succeed("profile", "fsq:2", "--snr", "0:2:1", "--quantities", "mmse").stdout)
    assert rows[0] == ["0", "-inf", "1.00000"]
    assert [row[0] for row in rows] == ["0", "1", "2"]


@pytest.mark.parametrize("bits", [False, True])
def test_files_hold_the_library_s_numbers(tmp_path: Path, bits: bool) -> None:
    table, record = tmp_path / "p.csv", tmp_path / "p.json"
    words = ["profile", "onehot:9", "--snr-db=-5:15:5", "--csv", str(table), "--json", str(record)]
    done = succeed(*words, *["--bits"] * bits)
    assert f"Wrote {table}" in done.stderr
    expected = tk.profile(tk.OneHot(9), 10 ** (np.arange(-5.0, 16, 5) / 10))
    factor = 1 / math.log(2) if bits else 1.0
    frame = pd.read_csv(table)
    column = "mutual_information_bits" if bits else "mutual_information"
    assert np.allclose(frame["snr_db"], np.arange(-5, 16, 5), rtol=1e-12)
    assert np.allclose(
        frame[column], expected["mutual_information"].value * factor, rtol=1e-13, atol=0
    )
    assert (frame[f"{column}_low"] <= frame[column]).all()
    assert np.allclose(frame["accuracy"], expected["accuracy"].value, rtol=1e-14)
    stored = json.loads(record.read_text())
    assert stored["specification"] == "onehot:9"
    information = stored["quantities"]["mutual_information"]
    assert information["unit"] == ("bits" if bits else "nats")
    assert np.allclose(information["value"], frame[column], rtol=1e-14)
    assert list(tmp_path.iterdir()) in ([table, record], [record, table])


#: Every command that writes several files: as it is called first, and then.
SEVERAL = (
    (("profile", "fsq:3", "--snr-db=0"), ("profile", "fsq:2", "--snr-db=0")),
    (("compare", "fsq:3", "fsq:4", "--snr-db=0"), ("compare", "fsq:3", "fsq:2", "--snr-db=0")),
    (("steps", "fsq:3", "--steps", "3"), ("steps", "fsq:3", "--steps", "2")),
    (("sampler-kl", "fsq:3", "--steps", "2,4"), ("sampler-kl", "fsq:3", "--steps", "2")),
    (("noise-schedule", "fsq:3"), ("noise-schedule", "fsq:2")),
    (("recommend-levels", "--budget-bits", "3"), ("recommend-levels", "--budget-bits", "2")),
    (("verify", "fsq:3", "--snr-db=0"), ("verify", "fsq:2", "--snr-db=0")),
)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), SEVERAL, ids=[words[0][0] for words in SEVERAL])
def test_files_of_two_runs_do_not_mix(
    first: tuple[str, ...], then: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"--json": "c.json", "--csv": "a.csv", "--plot": "b.png"}
    if first[0] == "verify":
        files = {"--json": "c.json", "--csv": "a.csv", "--report": "b.md"}
    outputs = [word for option, name in files.items() for word in (option, name)]
    succeed(*first, *outputs)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    record = json.loads(old["c.json"])
    assert record["files"] == {
        name: hashlib.sha256(old[name]).hexdigest() for name in files.values() if name != "c.json"
    }
    # The disk is full when the last file is about to be written, and when it gets its name.
    renamed: list[Path] = []

    def full(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(self))

    def rename(source: Any, target: Any) -> None:
        renamed.append(Path(target))
        if len([path for path in renamed if path.name in old]) == 3:
            raise OSError(28, "No space left on device", str(target))
        os_replace(source, target)

    os_replace = os.replace
    for owner, name, failing in ((Path, "write_text", full), (os, "replace", rename)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing)
            assert "No space left on device" in run(*then, *outputs).stderr
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
    succeed(*then, *outputs)
    new = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert all(new[name] != old[name] for name in files.values())


def test_a_record_on_standard_output_has_digests_too(tmp_path: Path) -> None:
    done = succeed("profile", "fsq:3", "--snr-db=0", "--csv", "a.csv", "--json", "-")
    digest = hashlib.sha256((tmp_path / "a.csv").read_bytes()).hexdigest()
    assert json.loads(done.stdout)["files"] == {"a.csv": digest}
    assert "files" not in json.loads(succeed("profile", "fsq:3", "--json", "-").stdout)


def test_json_on_standard_output_is_alone_there() -> None:
    done = succeed("profile", "fsq:2", "--snr", "0,1", "--json", "-")
    assert json.loads(done.stdout)["snr"] == [0, 1]
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pdf", ".png", ".svg"])
def test_plots(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"p{suffix}"
    succeed("profile", "fsq:3^2", "--snr-db=-10:20:10", "--plot", str(target))
    head = target.read_bytes()[:200]
    assert {".pdf": b"%PDF", ".png": b"PNG", ".svg": b"<?xml"}[suffix] in head
    if suffix == ".png":
        picture = image.imread(target)
        assert picture.std() > 0.05  # something is drawn


def test_priors(tmp_path: Path) -> None:
    ids = np.array([0, 0, 0, 1, 2, 3])
    np.save(tmp_path / "ids.npy", ids)
    (tmp_path / "prior.csv").write_text("0.5\n0.25\n0.125\n0.125\n")
    words = ("profile", "onehot:4", "--snr", "1", "--quantities", "accuracy", "--csv", "-")
    for options, prior in (
        (("--prior", f"{tmp_path}/prior.csv"), [0.5, 0.25, 0.125, 0.125]),
        (("--tokens", f"{tmp_path}/ids.npy"), tk.prior_from_tokens(ids, 4)),
        (
            ("--tokens", f"{tmp_path}/ids.npy", "--smoothing", "2"),
            tk.prior_from_tokens(ids, 4, 2.0),
        ),
    ):
        frame = pd.read_csv(io.StringIO(succeed(*words, *options).stdout))
        expected = float(tk.accuracy(tk.OneHot(4, prior), 1.0))
        assert frame["accuracy"][0] == pytest.approx(expected, rel=1e-14)


def test_methods() -> None:
    forced = succeed(
        "profile", "fsq:2", "--snr", "1", "--method", "monte-carlo", "--samples", "100"
    )
    assert "Monte-Carlo, 100 samples" in forced.stdout
    assert "--samples had no effect" in succeed("profile", "fsq:2", "--samples", "100").stderr
    assert "--method must be auto or monte-carlo" in fail("profile", "e8", "--method", "exact")
    assert "--method must be one of" in fail("profile", "e8", "--method", "guess")


def test_rare_events() -> None:
    words = ("profile", "fsq:3^2", "--snr", "100", "--method", "rare")
    assert "rare-event sampling, 2,000 samples" in succeed(*words).stdout
    assert "rare-event sampling, 500 samples" in succeed(*words, "--samples", "500").stdout
    assert "rare-event sampling" in succeed(*words, "--rtol", "1e-4").stdout
    assert "--samples must be at least 64" in fail(*words, "--samples", "5")
    assert "rare-event sampling" in succeed(*words, "--atol", "0.1").stdout


@pytest.mark.slow
def test_the_documented_number_of_samples_changes_no_estimator() -> None:
    words = ("profile", "e8", "--snr", "60", "--quantities", "error_probability", "--json", "-")
    alone, asked = (
        json.loads(succeed(*words, *more).stdout) for more in ([], ["--samples", "16384"])
    )
    found = [one["quantities"]["error_probability"] for one in (alone, asked)]
    assert found[0]["method"] == found[1]["method"]
    assert found[1]["n_samples"] == 16384 // 8
    assert found[1]["value"][0] == pytest.approx(found[0]["value"][0], rel=0.01)


def test_targets() -> None:
    words = ("profile", "perturb:fsq:2^3:0.1", "--snr", "1", "--quantities", "mmse")
    done = succeed(*words, "--atol", "0.01", "--json", "-")
    assert 0 < json.loads(done.stdout)["quantities"]["mmse"]["standard_error"][0] <= 0.01


def test_the_quantities_in_the_help_are_those_of_the_library() -> None:
    text = " ".join(succeed("profile", "--help").stdout.split())
    assert f"Comma list of {', '.join(tk.QUANTITIES)}, sampling_error; all but the last" in text
    assert "--snr-db=-20:40:1" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["foo"], "CODEBOOK must be one of fsq:LEVELS"),
        (["nowhere.npz"], "CODEBOOK: nowhere.npz must be"),
        (["fsq:2", "--snr-db", "x"], "--snr-db must be start:stop:step"),
        (["fsq:2", "--snr=-1"], "--snr must be at least 0"),
        (["fsq:2", "--quantities", "mse"], "--quantities must be a comma list of accuracy"),
        (["fsq:2", "--plot", "p.jpg"], "--plot must be a file name that ends in .pdf, .png, .svg"),
        (["fsq:2", "--plot", "-"], "--plot must be a file name that ends in .pdf, .png, .svg"),
        (["fsq:2", "--csv", "-", "--json", "-"], "--csv, --json and --plot must be different"),
        (["fsq:2", "--samples", "5", "--rtol", "0.1"], "--samples must be left out where"),
        (["fsq:2", "--rtol=-1"], "--rtol must be a finite number"),
        (["fsq:2", "--atol", "nan"], "--atol must be a finite number"),
        (["fsq:2", "--prior", "nowhere.json"], "--prior: nowhere.json must be"),
        (["fsq:2", "--smoothing", "1"], "--smoothing must be given together with --counts"),
        (["fsq:3^20", "--tokens", "nowhere.npy"], "--tokens: nowhere.npy must be"),
        (["perturb:fsq:17^7:0.1"], "must be at most"),
    ],
)
def test_mistakes(words: list[str], sentence: str) -> None:
    assert sentence in fail("profile", *words)


@pytest.mark.parametrize("words", [["--nosuch"], [], ["fsq:2", "--seed", "-1"], ["a", "b"]])
def test_usage_errors(words: list[str]) -> None:
    done = run("profile", *words)
    assert done.exit_code == 2
    assert "Usage: " in done.stderr


def test_names_in_files_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07\x1b[31mred\u202e"
    shown = r"\x1b]0;owned\x07\x1b[31mred\u202e"
    path = tmp_path / "a.npz"
    tk.save_codebook(tk.PointCodebook(np.eye(2), name=name), path)
    for words in (["info"], ["profile", "--snr", "1", "--samples", "50"], ["compare", "fsq:2"]):
        done = succeed(words[0], str(path), *words[1:])
        assert shown in done.stdout.replace("\n", "")
        assert (done.stdout + done.stderr).replace("\n", "").isprintable()
    held: dict[str, Any] = {name: np.eye(2), "b": np.eye(2)}
    np.savez(path, **held)
    assert shown in fail("info", str(path))
    assert shown in fail("info", f"vq:{path}:{name}x")


def test_memory_that_runs_out_is_called_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy says how much it wanted, Python says nothing."""
    for error, sentence in (
        (MemoryError(), "Error: there is not enough memory."),
        (MemoryError("Unable to allocate 3 PiB"), "not enough memory (Unable to allocate 3 PiB)."),
    ):
        with monkeypatch.context() as patch:
            patch.setattr("tokenkl.codebooks.grammar.codebook", _raiser(error))
            assert sentence in fail("info", "fsq:2")


def _raiser(error: BaseException) -> Callable[..., Any]:
    def work(*_: Any, **__: Any) -> Any:
        raise error

    return work


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    (tmp_path / "bomb.npy").write_bytes(pickle.dumps(Bomb()))
    assert "a pickle is never opened, nor a PyTorch file by" in fail("info", f"{tmp_path}/bomb.npy")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("option", ["--csv", "--json", "--plot"])
def test_outputs_are_checked_before_the_work(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "_find", lambda *_: pytest.fail("the work began"))
    assert f"{option} must be in a folder that exists" in fail(
        "profile", "fsq:2", option, str(tmp_path / "no" / "x.pdf")
    )
    (tmp_path / "folder.pdf").mkdir()
    assert f"{option} must be a file to write to, not a folder" in fail(
        "profile", "fsq:2", option, str(tmp_path / "folder.pdf")
    )
    if Path("/proc/self").exists():  # where not even root can create a file
        assert f"{option} must be a file that can be written" in fail(
            "profile", "fsq:2", option, "/proc/self/x.pdf"
        )


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        succeed("profile", "fsq:2", "--snr", "1", "--csv", str(pipe))
        assert os.read(reader, 1000).startswith(b"snr_db,snr,accuracy")
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_a_full_disk_is_one_sentence() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    assert "No space left" in fail("info", "fsq:2", "--json", "/dev/full")


# ---- compare ------------------------------------------------------------------------------------


def test_compare() -> None:
    done = succeed("compare", "fsq:3^2", "onehot:9", "--snr-db=0:10:10", "--quantities", "mmse")
    assert "codebooks as they are" in done.stdout
    for row, snr in zip(numbers(done.stdout), (1.0, 10.0), strict=True):
        expected = [float(tk.mmse(one, snr)) for one in (tk.FSQ((3, 3)), tk.OneHot(9))]
        assert np.allclose([float(word) for word in row[1:]], expected, rtol=6e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("scaling", "name"), [("box", "box"), ("power", "average_power")])
def test_compare_scaled(tmp_path: Path, scaling: str, name: str) -> None:
    table, record, plot = (tmp_path / f"c{suffix}" for suffix in (".csv", ".json", ".png"))
    options = ("--csv", str(table), "--json", str(record), "--plot", str(plot))
    specs = ("fsq:3^3", "onehot:27")
    done = succeed("compare", *specs, "--scale-to", scaling, "--snr-db=0,10", *options)
    assert {"box": "box [-1, 1]^n", "power": "average power 1"}[scaling] in done.stdout
    assert all(heading in done.stdout for heading in ("Accuracy", "MMSE", "Mutual information"))
    frame = pd.read_csv(table)
    stored = json.loads(record.read_text())
    assert stored["scale_to"] == scaling
    for spec, codebook, entry in zip(
        specs, (tk.FSQ((3,) * 3), tk.OneHot(27)), stored["codebooks"], strict=True
    ):
        scaled = tk.scale_to(codebook, **{scaling: 1.0})
        expected = tk.accuracy(scaled, [1.0, 10.0]).value
        rows = frame[frame["codebook"] == spec]
        assert np.allclose(rows["accuracy"], expected, rtol=1e-14)
        assert entry["specification"] == spec
        assert np.allclose(entry["quantities"]["accuracy"]["value"], expected, rtol=1e-14)
    assert plot.stat().st_size > 1000


def test_compare_mistakes() -> None:
    assert "CODEBOOK... must be two or more" in fail("compare", "fsq:2")
    assert "CODEBOOK... must be two or more" in fail("compare", "fsq:2", "fsq:2")
    assert "--scale-to must be one of" in fail("compare", "fsq:2", "e8", "--scale-to", "size")


def test_files_with_one_name_are_told_apart(tmp_path: Path) -> None:
    specs = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "t.npy", np.eye(2) if folder == "a" else 2 * np.eye(2))
        specs.append(str(tmp_path / folder / "t.npy"))
    done = succeed("compare", *specs, "--snr", "1", "--quantities", "accuracy", "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["codebook"] for row in rows] == specs
    assert profiles._short_names([*specs, "x/other.npy"]) == [*specs, "other.npy"]


# ---- path-kl ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--a1=-1,-1", "--a2=1,1"], ["--codebook", "fsq:2^2", "--ids", "0,3"]]
)
@pytest.mark.parametrize("name", ["linear-vp", "sub-vp", "edm", "flow-matching"])
def test_path_kl(words: list[str], name: str) -> None:
    from tokenkl.schedule import parse_schedule

    done = succeed("path-kl", *words, "--schedule", name, "--t-min", "0.1", "--json", "-")
    expected = tk.path_kl([-1.0, -1], [1.0, 1], parse_schedule(name), 0.1, 1.0)
    assert json.loads(done.stdout)["path_kl"] == pytest.approx(float(expected), rel=1e-14)


def test_simulated_path_kl() -> None:
    words = ("path-kl", "--a1=0", "--a2=1", "--simulate", "--paths", "500", "--steps", "64")
    stored = json.loads(succeed(*words, "--json", "-", "--bits").stdout)
    expected = tk.simulate_path_kl(
        [0.0], [1.0], tk.LinearVP(), 0.01, 0.999, key=0, n_paths=500, n_steps=64
    )
    assert stored["t_max"] == 0.999
    assert stored["unit"] == "bits"
    assert stored["simulated"]["value"] == pytest.approx(float(expected.bits), rel=1e-12)
    assert stored["simulated"]["interval_low"] <= stored["path_kl"]
    assert stored["path_kl"] <= stored["simulated"]["interval_high"]
    text = succeed(*words).stdout
    assert "(closed form)" in text
    assert "±" in text
    assert "500 paths of 64 steps, seed 0" in text
    assert "too few paths" in succeed(*words[:4], "--paths", "20").stdout


def test_an_infinite_path_kl_is_null_in_json() -> None:
    words = ("path-kl", "--a1=0", "--a2=1", "--t-min", "0")
    assert json.loads(succeed(*words, "--json", "-").stdout)["path_kl"] is None
    assert "inf nats" in succeed(*words).stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--a1=0"], "the two points must be given by --a1 and --a2"),
        (["--a1=0", "--a2=1", "--ids", "0,1"], "the two points must be given by"),
        (["--codebook", "fsq:2"], "--codebook must be given with --ids"),
        (["--codebook", "fsq:2", "--ids", "0,2"], "--ids must be two token ids from 0 to 1"),
        (["--a1=0", "--a2=1,1"], "--a2 must be of length 1, like --a1"),
        (["--a1=x", "--a2=1"], "--a1 must be coordinates separated by commas"),
        (["--a1=0", "--a2=1", "--schedule", "x"], "--schedule must be one of linear-vp"),
        (["--a1=0", "--a2=1", "--t-min", "2"], "--t-min must be a time from 0 to 1"),
        (["--a1=0", "--a2=1", "--t-min", "0.5", "--t-max", "0.2"], "--t-min must be at most"),
        (["--a1=0", "--a2=1", "--simulate", "--t-max", "1"], "--t-max must be below 1 with"),
        (["--a1=0", "--a2=1", "--simulate", "--t-min", "0"], "--t-min must be above 0 with"),
    ],
)
def test_path_kl_mistakes(words: list[str], sentence: str) -> None:
    assert sentence in fail("path-kl", *words)


# ---- info ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["fsq:17^6", "onehot:1000000", "fsq:17^6000"])
def test_info_is_immediate_for_huge_codebooks(spec: str) -> None:
    began = time.process_time()
    done = succeed("info", spec)
    assert time.process_time() - began < 5
    assert "exact, no sampling: all quantities" in done.stdout


def test_info() -> None:
    stored = json.loads(succeed("info", "e8", "--json", "-").stdout)
    cb = tk.e8_codebook()
    assert stored["K"] == 6561
    assert stored["n"] == 8
    assert stored["bits"] == pytest.approx(math.log2(6561))
    assert stored["prior_entropy"] == pytest.approx(math.log(6561))
    assert stored["perplexity"] == 6561
    assert stored["average_power"] == pytest.approx(tk.average_power(cb))
    assert stored["box"] == pytest.approx(np.abs(cb.points).max())
    assert stored["min_distance"] == pytest.approx(tk.min_distance(cb))
    assert stored["mean_nn_distance"] == pytest.approx(tk.mean_nn_distance(cb))
    assert stored["exact_quantities"] == []
    text = succeed("info", "e8").stdout
    assert "6,561 (12.6797 bits)" in text
    assert "sampled (Monte-Carlo)" in text


# ---- reproduce ----------------------------------------------------------------------------------


def test_reproduce_needs_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tk, "__file__", str(tmp_path / "site-packages" / "tokenkl" / "__init__.py"))
    assert "installed from a source checkout" in fail("reproduce")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_kind_of_codebook_is_in_the_help() -> None:
    written = {word.split(":")[0] for spec, _ in CODEBOOKS for word in spec.split(", ")}
    # Other tests register kinds of their own.
    ours = {
        head for head, spec in SPECS.items() if str(spec.parse.__module__).startswith("tokenkl")
    }
    assert ours <= written
    shown = " ".join(succeed("profile", "--help").output.split())
    for spec, meaning in CODEBOOKS:
        assert f"{spec} {meaning}" in shown


def test_a_comparison_says_what_the_estimates_say_about_themselves() -> None:
    words = ("perturb:fsq:3^2:0.1", "fsq:3^2", "--snr", "1000", "--samples", "50")
    done = succeed("compare", *words)
    assert "Note on" in done.stdout
    assert "too few informative samples" in " ".join(done.stdout.split())
