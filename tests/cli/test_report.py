"""`tokenkl report`: a page that holds together, tells the truth, and trusts no name."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import BROWSER, Reader, browse
from commands import commands
from matplotlib import image

import tokenkl as tk
from tokenkl import plotting
from tokenkl._files import file_digest
from tokenkl.bounds import brackets
from tokenkl.cli import profiles
from tokenkl.cli._options import Books, Noise, SampledSource
from tokenkl.cli.commands import app
from tokenkl.cli.report import chapters, whole
from tokenkl.information.parts import numbers_in_stages

run, succeed, fail = commands(app, quiet=False)

#: What HTML, LaTeX, mathtext and shells would all take for something else.
HOSTILE = "<img src=x onerror=alert(1)>&'\"$\\frac{~^#%_`id`.npz"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sampled codebook of a hostile name, with tokens."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    book = tk.PointCodebook(rng.standard_normal((12, 2)))
    tk.save_codebook(book, folder / "plain.npz")
    np.savez(folder / HOSTILE, book=book.points)
    np.save(folder / "ids.npy", rng.choice(12, 5000, p=np.arange(1.0, 13) / 78))
    done = succeed(
        *("report", folder / HOSTILE, "--tokens", folder / "ids.npy"),
        *("--snr-db=-10:20:10", "--steps", "3", "-o", folder / "page"),
    )
    assert "12 tokens" in done.stdout.replace("K = ", "") or "K = 12" in done.stdout
    return folder / "page"


@pytest.fixture(scope="module")
def record(hostile: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((hostile / "record.json").read_text())
    return found


@pytest.mark.slow
def test_files_and_digests(hostile: Path, record: dict[str, Any]) -> None:
    written = {str(path.relative_to(hostile)) for path in hostile.rglob("*") if path.is_file()}
    assert set(record["files"]) == written - {"record.json"}
    assert {"index.html", "table.tex", "figures/information.pdf"} < written
    for name, digest in record["files"].items():
        assert file_digest(hostile / name) == digest
    read = record["chapters"]["what-was-read"]["files"]
    assert read["codebook"]["sha256"] == file_digest(hostile.parent / HOSTILE)
    assert read["token ids"]["sha256"] == file_digest(hostile.parent / "ids.npy")


@pytest.mark.slow
def test_page_is_well_formed_and_loads_nothing(hostile: Path) -> None:
    page = (hostile / "index.html").read_text(encoding="utf-8")
    reader = Reader(page)
    assert not reader.tags & {"script", "img", "iframe", "link", "object"}
    assert len(reader.ids) == len(set(reader.ids))
    targets = [link[1:] for link in (*reader.links, *reader.loaded) if link.startswith("#")]
    assert set(targets) <= set(reader.ids)
    assert all(link.startswith("#") for link in reader.loaded)
    for link in reader.links:
        assert link.startswith("#") or (hostile / link).is_file()
    assert HOSTILE.removesuffix(".npz") in "".join(reader.shown)
    assert page.count("<svg ") == page.count('role="img"') == len(list(hostile.rglob("*.pdf")))


def test_figures_fill_a_column(hostile: Path) -> None:
    for path in (hostile / "figures").iterdir():
        width = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", path.read_bytes())
        assert width is not None
        assert float(width[1]) == 72 * plotting.COLUMN


@pytest.mark.parametrize(
    ("stages", "K", "n", "samples"),
    [(8, 1024, 128, 256), (8, 2048, 256, 192), (32, 2048, 512, 160)],  # EnCodec, Mimi, more
)
def test_large_stages_have_fewer_samples(stages: int, K: int, n: int, samples: int) -> None:
    assert chapters.profiled(stages * K * n) == samples


def test_numbers_in_stages_are_those_of_what_is_bracketed() -> None:
    rng = np.random.default_rng(0)
    large = tk.ResidualCodebook([rng.standard_normal((256, 4)) for _ in range(4)])
    assert numbers_in_stages(large) == 4 * 256 * 4
    assert numbers_in_stages(tk.Product([large, tk.FSQ((3, 3)), large])) == 2 * 4 * 256 * 4
    assert numbers_in_stages(tk.FSQ((3, 3))) == 0


@pytest.mark.slow
def test_the_commands_find_the_same(record: dict[str, Any], tmp_path: Path) -> None:
    """What is listed is what was done: every command, and the lines of Python."""
    places = {"noise-schedule": "noise-to-train-on", "steps": "sampling-steps", "info": "geometry"}
    places |= {"verify": "theorems", "compare": "comparison"}
    for line in record["commands"]:
        program, name, *words = shlex.split(line)
        assert program == "tokenkl"
        if name == "recommend-levels":
            continue
        succeed(name, *words, "--json", tmp_path / "found.json")
        found = json.loads((tmp_path / "found.json").read_text())
        chapter = record["chapters"][places.get(name, name)]
        assert {key: chapter[key] for key in found if key != "specification"} == {
            key: value for key, value in found.items() if key != "specification"
        }
    known: dict[str, Any] = {}
    exec(record["python"], known)
    ends = brackets(known["codebook"], known["snr"], ("mutual_information",))
    lower = ends["mutual_information"].lower.value / np.log(2)
    chapter = record["chapters"]["brackets"]["mutual_information"]
    assert np.array_equal(lower, chapter["lower"])
    (line,) = (one for one in record["python"].splitlines() if "snr_of_information" in one)
    half = eval(line, known)
    assert float(half) == record["chapters"]["half-of-the-information"]["snr_db"]["value"]


def test_brackets_hold_what_was_found(record: dict[str, Any]) -> None:
    found = record["chapters"]["profile"]["quantities"]["mutual_information"]
    ends = record["chapters"]["brackets"]["mutual_information"]
    assert (np.array(ends["lower"]) <= found["interval_high"]).all()
    assert (np.array(found["interval_low"]) <= ends["upper"]).all()


def test_usage_is_that_of_the_tokens(hostile: Path, record: dict[str, Any]) -> None:
    ids = np.load(hostile.parent / "ids.npy")
    shares = np.bincount(ids, minlength=12) / ids.size
    found = tk.Estimate.from_json(record["chapters"]["usage"]["entropy_bits"])
    plain = -(shares * np.log2(shares)).sum()
    assert float(found) == pytest.approx(plain, abs=12 / np.log(2) / ids.size)
    law = np.arange(1.0, 13) / 78
    low, high, _ = found.confidence_interval()
    assert low < -(law * np.log2(law)).sum() < high


def test_latex_table(hostile: Path, record: dict[str, Any]) -> None:
    text = (hostile / "table.tex").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 4
    assert all(row.count("&") == 5 for row in rows)
    value, error = map(float, rows[3].split("&")[4].split("+-"))
    found = record["chapters"]["profile"]["quantities"]["mutual_information"]
    assert value - 1.01 * error <= found["interval_low"][2]
    assert value + 1.01 * error >= found["interval_high"][2]
    assert max(len(cell.split("+-")[0].strip("0. ")) for cell in rows[3].split("&")[1:]) == 6
    for line in text.splitlines():
        if not line.startswith("%"):
            assert "frac" not in line


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles(hostile: Path, tmp_path: Path) -> None:
    label = tk.latex.escape(HOSTILE)
    (tmp_path / "a.tex").write_text(
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs, siunitx, textcomp}"
        rf"\begin{{document}}{label}\input{{{hostile / 'table.tex'}}}\end{{document}}"
    )
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_what_stops_the_work_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(case: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(chapters, "CHAPTERS", (chapters.what_was_read, stopped))
    assert run("report", "fsq:3^2", "-o", tmp_path / "new" / "page").exit_code == 130
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_within_another_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chapters run other commands, whose own end is none of the page's."""

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(profiles, "_find", stopped)
    done = run("report", "fsq:3^2", "-o", tmp_path / "page")
    assert done.exit_code == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_stops_the_writing_leaves_the_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(figure: Any, path: Path) -> None:
        raise OSError(28, "No space left on device")

    few = (chapters.what_was_read, chapters.profile)
    monkeypatch.setattr(chapters, "CHAPTERS", few)
    words = ("report", "fsq:3^2", "--snr-db=0,10", "-o", tmp_path / "page")
    succeed(*words)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(whole, "save_figure", full)
    assert "No space left" in fail(*words)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    fail(*words[:-1], tmp_path / "new" / "other")
    assert not (tmp_path / "new").exists()


def test_a_theorem_that_fails_is_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = chapters.Chapter("Theorems", ["<p>1 fail.</p>"], {"counts": {"fail": 1}})
    made = (chapters.what_was_read, lambda case: broken)
    made[1].__name__ = "theorems"
    monkeypatch.setattr(chapters, "CHAPTERS", made)
    words = ("report", "fsq:3^2", "--snr-db=0,10", "-o", tmp_path / "page")
    assert run(*words).exit_code == 1
    assert (tmp_path / "page" / "index.html").is_file()


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "CODEBOOK" in fail("report", "nothing", "-o", tmp_path / "page")
    assert "needs a list of all tokens" in fail("report", "d:4^24", "-o", tmp_path / "page")
    assert "two distinct tokens" in fail("report", "fsq:1", "-o", tmp_path / "page")
    assert "--snr must be left out" in fail("report", "fsq:3^2", "--snr=1", "--snr-db=0")
    assert "schedule" in fail("report", "fsq:3^2", "--schedule=none", "-o", tmp_path / "page")
    (tmp_path / "file").write_text("")
    assert "--output" in fail("report", "fsq:3^2", "-o", tmp_path / "file")
    assert not (tmp_path / "page").exists()


def test_a_file_that_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = tmp_path / "book.npz"
    tk.save_codebook(tk.FSQ((3, 3)), book)

    def changing(case: Any) -> chapters.Chapter:
        tk.save_codebook(tk.FSQ((3, 2)), book)
        return chapters.Chapter("Changed", [])

    monkeypatch.setattr(chapters, "CHAPTERS", (chapters.what_was_read, changing))
    sentence = fail("report", book, "--snr-db=0,10", "-o", tmp_path / "page")
    assert "left alone while it is read" in sentence


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("book.npz", "book.npz"),
        ("vq:book.npz:codes", "book.npz"),
        ("perturb:centre:vq:a:b.npz:codes:0.1", "a:b.npz"),
        ("fsq:3^8", None),
        ("vq:missing.npz", None),
    ],
)
def test_file_of(
    spec: str, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for one in ("book.npz", "a:b.npz", "3^8"):
        Path(one).touch()
    assert chapters.file_of(spec) == (None if name is None else Path(name))


@pytest.mark.slow
def test_equal_tokens_leave_a_chapter_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six of eight tokens are equal, so that nothing tells half: the other chapters are there."""
    few = (chapters.what_was_read, chapters.profile, chapters.half_of_the_information)
    monkeypatch.setattr(chapters, "CHAPTERS", few)
    np.save(tmp_path / "dead.npy", np.array([[0.0, 0]] * 6 + [[1, 1], [0, 1]]))
    succeed("report", tmp_path / "dead.npy", "--samples=300", "--snr-db=0", "-o", tmp_path / "page")
    record = json.loads((tmp_path / "page" / "record.json").read_text())
    assert "tell 0.5 of their entropy" in record["left_out"]["half_of_the_information"]
    assert "profile" in record["chapters"]


def test_brackets_are_rounded_outwards_and_drawn_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def draw(panel: Any, x: Any, low: Any, high: Any, **style: Any) -> None:
        drawn.append((x, low, high))

    monkeypatch.setattr(plotting, "draw_interval", draw)
    few = (chapters.what_was_read, chapters.brackets_from_geometry)
    monkeypatch.setattr(chapters, "CHAPTERS", few)
    succeed("report", "fsq:3^8", "--snr=10,0,2,0.3,1", "-o", tmp_path / "page")
    record = json.loads((tmp_path / "page" / "record.json").read_text())["chapters"]["brackets"]
    ((x, low, high),) = drawn
    np.testing.assert_allclose(x, 10 * np.log10([0.3, 1, 2, 10]))
    for found, end in ((low, "lower"), (high, "upper")):
        values = np.array(record["mutual_information"][end])
        assert np.array_equal(found, values[[3, 4, 2, 0]])
    page = (tmp_path / "page" / "index.html").read_text()
    rows = re.findall(r"<tr><th[^>]*>[^<]*</th>((?:<td>[^<]*</td>){6})</tr>", page)
    assert len(rows) == 5
    for at, row in enumerate(rows):
        cells = [float(cell) for cell in re.findall("<td>([^<]*)</td>", row)]
        for name, (lower, _, upper) in (
            ("accuracy", cells[:3]),
            ("mutual_information", cells[3:]),
        ):
            assert lower <= record[name]["lower"][at]
            assert upper >= record[name]["upper"][at]


@pytest.mark.parametrize("option", ["--counts", "--tokens", "--prior"])
def test_a_file_that_is_not_there_is_refused_as_elsewhere(option: str, tmp_path: Path) -> None:
    elsewhere = fail("info", "fsq:3x3", option, tmp_path / "none.npy")
    assert f"{option}: " in elsewhere
    assert fail("report", "fsq:3x3", option, tmp_path / "none.npy") == elsewhere


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--counts", "--tokens", "--prior"])
def test_a_comparison_is_of_whole_codebooks(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prior, and tokens that were left out for it, are of one codebook alone."""
    monkeypatch.setattr(chapters, "CHAPTERS", (chapters.what_was_read, chapters.comparison))
    given = {
        "--counts": np.arange(9),
        "--tokens": np.arange(1, 9),
        "--prior": np.arange(1, 10) / 45,
    }
    np.save(tmp_path / "given.npy", given[option])
    less = ["--smoothing=0", "--used-only"] * (option != "--prior")
    words = (option, tmp_path / "given.npy", *less, "-o", tmp_path / "page")
    succeed("report", "fsq:3^2", *words)
    record = json.loads((tmp_path / "page" / "record.json").read_text())
    page = (tmp_path / "page" / "index.html").read_text()
    assert record["chapters"]["comparison"]["codebooks"][0]["K"] == 9
    assert "this codebook, 9" in page
    assert f"not that of {option}." in page


@pytest.mark.slow
@pytest.mark.parametrize("parts", [False, True])
def test_priors_and_samples(parts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of Python have the prior and the samples that were asked for."""
    few = (chapters.what_was_read, chapters.profile, chapters.half_of_the_information)
    monkeypatch.setattr(chapters, "CHAPTERS", few)
    given = [[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]]
    joint = np.outer(given[0], given[1]).ravel() + np.linspace(-0.01, 0.01, 9)
    held = {f"priors.{i}": np.array(one) for i, one in enumerate(given)}
    np.savez(tmp_path / "prior.npz", **(held if parts else {"prior": joint}))
    words = ("--prior", tmp_path / "prior.npz", "--samples", "300", "--seed", "5")
    succeed("report", "fsq:3^2", *words, "--snr-db=0,10", "-o", tmp_path / "page")
    record = json.loads((tmp_path / "page" / "record.json").read_text())
    known: dict[str, Any] = {}
    exec(record["python"].replace("\ntk.snr_of", "\nhalf = tk.snr_of"), known)
    stored = record["chapters"]["half-of-the-information"]["snr_db"]
    assert stored["value"] == float(known["half"])
    assert stored["n_samples"] == (0 if parts else 300)
    assert known["codebook"].factorises is parts


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["residual", "product"])
def test_more_tokens_than_can_be_listed(kind: str, tmp_path: Path) -> None:
    """Noise and steps are there, too; products go part by part."""
    rng = np.random.default_rng(0)
    stages = rng.standard_normal((6, 22, 2)) * 0.2 ** np.arange(6)[:, None, None]
    np.savez(tmp_path / "book.npz", book=stages)
    np.save(tmp_path / "ids.npy", rng.integers(22, size=(6, 2000)))
    spec = f"{'rvq' if kind == 'residual' else 'product'}:{tmp_path / 'book.npz'}"
    words = ("--tokens", tmp_path / "ids.npy", "--samples", "100", "--snr-db=0,20")
    succeed("report", spec, *words, "-o", tmp_path / "page")
    record = json.loads((tmp_path / "page" / "record.json").read_text())
    assert set(record["left_out"]) <= {"comparison"}
    steps = record["chapters"]["sampling-steps"]
    assert len(steps["snr"]) == 9
    assert (np.diff(steps["snr"]) > 0).all()
    assert record["chapters"]["noise-to-train-on"]["information"] > 0
    assert len(record["chapters"]["usage"]["entropy_bits"]) == 6
    assert record["chapters"]["profile"]


def test_fewer_samples_where_tokens_are_many() -> None:
    def samples(K: int, asked: int | None = None) -> int | None:
        source = SampledSource(codebook=f"ball:{K}:3", samples=asked)
        return chapters.Case(source, Noise(), "linear-vp", 8).samples

    assert [samples(256), samples(1024), samples(8192)] == [None, 2**12, 2**10]
    assert samples(8192, 77) == 77


def test_fewest_samples_beyond_enumeration(tmp_path: Path) -> None:
    np.savez(tmp_path / "book.npz", book=np.random.default_rng(0).standard_normal((6, 32, 2)))
    source = SampledSource(codebook=f"rvq:{tmp_path / 'book.npz'}")
    assert chapters.Case(source, Noise(), "linear-vp", 8).samples == chapters.BEYOND


# ---- In a browser -------------------------------------------------------------------------------


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(hostile: Path, tmp_path: Path, width: int) -> None:
    backgrounds = []
    for scheme in (1, 0):
        flags = (
            *(f"--blink-settings=preferredColorScheme={scheme}", f"--window-size={width},2500"),
            f"--screenshot={tmp_path / 'shot.png'}",
        )
        said, asked = browse(hostile / "index.html", tmp_path, *flags)
        picture = image.imread(tmp_path / "shot.png")
        assert said == ""
        assert [one for one in asked if one.startswith(("http", "ws"))] == []
        assert picture.shape[1] == width
        edge = picture[:, -6:, :3]  # the margin: nothing is wider than the window
        assert np.ptp(edge, axis=(0, 1)).max() == 0
        backgrounds.append(float(edge[0, 0].mean()))
    assert backgrounds[0] > 0.9
    assert backgrounds[1] < 0.2


def test_commands_of_a_report_share_codebooks(tmp_path: Path) -> None:
    tk.save_codebook(tk.PointCodebook([[0.0, 1.0], [2.0, 3.0]]), tmp_path / "a.npz")
    source, books = SampledSource(codebook=str(tmp_path / "a.npz")), Books()
    assert source.make() is not source.make()
    told: list[str] = []
    with books.shared():
        first = source.make(told.append)
        assert source.make(told.append) is first
        assert SampledSource(codebook="fsq:3^2").make() is not first
    assert told == told[: len(told) // 2] * 2
    assert source.make() is not first
