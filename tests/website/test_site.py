"""The site: built strictly, whole on a disk, and looked at in a browser."""

import doctest
import importlib
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import BROWSER, browse, listen

import tokenkl as tk
from website.questions import GROUPS

pytest.importorskip("mkdocs", reason="the extra docs is not installed")
pytest.importorskip("mkdocstrings_handlers", reason="the extra docs is not installed")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SEEN = ("index", "theory/index", "api/information", "explorer", "findings")
VOID = {"meta", "img", "br", "hr", "link", "input", "wbr", "path", "source"}


class Page(HTMLParser):
    """Ids, links and what is loaded; and the text that is neither code nor a script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.words: list[str] = []
        self.alone: list[str] = []
        self._silent = 0
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._silent += tag in ("script", "style", "code", "pre")
        self.ids.update(given[name] for name in ("id", "name") if given.get(name))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe", "audio") and given.get("src"):
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(given["href"])
        if tag == "img" and not given.get("alt"):
            self.alone.append(given.get("src", ""))

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style", "code", "pre")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return out


@cache
def read(path: Path) -> Page:
    return Page(path)


def pages(site: Path) -> list[Path]:
    return sorted(one for one in site.rglob("*.html") if one.name != "404.html")


def test_no_formula_is_left_as_tex(site: Path) -> None:
    for path in pages(site):
        if "source" not in path.relative_to(site).parts:
            text = "".join(read(path).words)
            assert not re.search(r"\\[A-Za-z]{2,}|\$[^$\n]*[_^\\][^$\n]*\$", text), path
    assert (site / "theory" / "index.html").read_text(encoding="utf-8").count("<math") > 100


def test_every_link_leads_somewhere_on_the_disk(site: Path) -> None:
    """And nothing is loaded from elsewhere."""
    wrong = []
    for path in pages(site):
        page = read(path)
        assert not [one for one in page.loaded if re.match(r"(https?:)?//", one)], path
        for link in (*page.links, *page.loaded):
            if re.match(r"\w+:", link):
                continue
            name, _, anchor = link.partition("#")
            goal = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path
            theirs = goal.suffix == ".html" and anchor and not anchor.startswith("__")
            if not goal.is_file() or (theirs and unquote(anchor) not in read(goal).ids):
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert not wrong


def test_figures_are_shown_where_they_are_named(site: Path) -> None:
    """With a sentence for those who cannot see them, a PDF and the numbers."""
    for path in pages(site):
        assert not read(path).alone, path
    for document in sorted((ROOT / "docs").rglob("*.md")):
        named = re.findall(r"(?:^|[^|`\w] ?)`figures/(\w+)\.png`", document.read_text(), re.M)
        page = site / document.relative_to(ROOT / "docs").with_suffix(".html")
        for name in named:
            if not (ROOT / "figures" / f"{name}.png").is_file():
                continue  # tests/test_docs.py says so
            assert f"figures/{name}.png" in " ".join(read(page).loaded + read(page).links)
            assert (site / "figures" / f"{name}.png").is_file()
    shown = read(site / "findings.html")
    assert {"figures/path_kl.png", "figures/accuracy.png"} <= set(shown.loaded)
    assert {"figures/path_kl.pdf", "figures/path_kl.csv"} <= set(shown.links)


def test_every_public_name_is_described_with_its_example(site: Path) -> None:
    for group in GROUPS:
        path = site / "api" / f"{group.page}.html"
        page = read(path)
        text = re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8"))
        for name in (*group.names, *group.rooms):
            assert f"tokenkl.{name}" in page.ids, name
            said = getattr(tk, name).__doc__ or ""
            if name[0].islower() and ">>>" in said:
                example = said.split(">>> ", 1)[1].split("\n")[0]
                shown = example.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
                assert shown.replace('"', "&quot;") in text or shown in text, name


def test_names_in_pages_lead_to_the_reference(site: Path) -> None:
    assert "api/noise.html#tokenkl.information_uniform_schedule" in read(site / "faq.html").links
    guide = read(site / "guide.html").links  # in a block of code
    assert "api/codebooks.html#tokenkl.FSQ" in guide
    described = (site / "api" / "information.html").read_text(encoding="utf-8")
    assert re.search(r'<a [^>]*href="#tokenkl\.accuracy"><code>accuracy</code></a>', described)
    theory = read(site / "theory" / "learned.html").links
    assert any(one.startswith("../source/tokenkl/divergence/girsanov.py.html#L-") for one in theory)
    assert "../api/learned.html#tokenkl.learned_path_kl" in theory


def test_methods_are_named_with_their_class(site: Path) -> None:
    links = read(site / "theory" / "context.html").links
    (line,) = {one.partition("#L-")[2] for one in links if "sources/base.py.html" in one}
    text = (ROOT / "tokenkl" / "sources" / "base.py").read_text(encoding="utf-8")
    assert "def messages(" in text.splitlines()[int(line) - 1]


def test_lines_of_sources(site: Path) -> None:
    page = (site / "source" / "tokenkl" / "divergence" / "girsanov.py.html").read_text("utf-8")
    link = next(
        one for one in read(site / "theory" / "learned.html").links if "girsanov.py.html#" in one
    )
    line = next(one for one in page.splitlines() if f'id="{link.partition("#")[2]}"' in one)
    assert "def" in line
    text = (ROOT / "tokenkl" / "divergence" / "girsanov.py").read_text(encoding="utf-8")
    assert page.count('<span id="L-') == len(text.rstrip("\n").split("\n"))


def test_a_wrong_formula_fails_the_build(tmp_path: Path) -> None:
    hook = ROOT / "website" / "mathematics.py"
    (tmp_path / "mkdocs.yml").write_text(f"site_name: one page\nhooks: [{hook}]\n")
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "index.md"
    words = [sys.executable, "-m", "mkdocs", "build"]
    quiet = {**os.environ, "PYTHONPATH": str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", "")}
    for text, ends in (("$x^2$", True), (r"$\nosuchcommand$", False)):
        page.write_text(text)
        done = subprocess.run(words, cwd=tmp_path, env=quiet, capture_output=True, text=True)
        assert (done.returncode == 0) == ends, done.stderr
    assert "index.md" in done.stderr
    assert "nosuchcommand" in done.stderr


@pytest.mark.parametrize("name", ["code", "mathematics", "sources"])
def test_examples_of_hooks(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"website.{name}")).failed == 0


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("name", SEEN)
def test_in_a_browser(site: Path, tmp_path: Path, name: str) -> None:
    """Nothing on the console, nothing asked of a network, nothing wider than a phone."""
    page = site / f"{name}.html"
    said, asked = browse(page, tmp_path, "--dump-dom")
    assert said == ""
    assert [one for one in asked if one.startswith(("http", "ws"))] == []
    script = """<script>addEventListener("load", () => setTimeout(() => {
        const wide = document.documentElement.scrollWidth;
        console.log(`width: ${wide} of ${innerWidth} end`);
    }, 500))</script></body>"""
    probe = page.with_name(f"{page.stem}-probe.html")
    probe.write_text(page.read_text("utf-8").replace("</body>", script), encoding="utf-8")
    said = listen(probe, tmp_path, "width: ", "--window-size=390,800")
    probe.unlink()
    width = re.search(r"width: (\d+) of (\d+) end", said)
    assert width is not None
    assert int(width[1]) <= int(width[2]) <= 500


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_explorer_in_a_browser(site: Path, tmp_path: Path) -> None:
    """The table has the numbers, and keys and menus change them."""
    page = site / "explorer.html"
    script = """<script>addEventListener("load", () => setTimeout(() => {
        const told = () => [...document.querySelectorAll(".told tbody tr")]
            .map(row => [...row.children].map(cell => cell.textContent).join("|")).join("; ");
        const first = told();
        const menu = document.querySelector("#curves select");
        menu.value = menu.querySelectorAll("option")[5].value;
        menu.dispatchEvent(new Event("change"));
        const slider = document.querySelector("#curves input[type=range]");
        slider.value = 0;
        slider.dispatchEvent(new Event("input"));
        document.querySelector("#curves input[value=coordinate]").click();
        console.log("told: " + first + " then " + told() + " at " + location.hash + " end");
    }, 300))</script></body>"""
    probe = page.with_name("explorer-probe.html")
    probe.write_text(page.read_text("utf-8").replace("</body>", script), encoding="utf-8")
    said = listen(probe, tmp_path, "told: ")
    probe.unlink()
    found = re.search(r"told: (.*) then (.*) at (\S+) end", said)
    assert found is not None
    assert "accuracy|0.5318|" in found[1]
    assert "half-information SNR, dB|5.04|" in found[1]
    assert "path KL of 25 steps, nats|" in found[1]
    book = tk.scale_to(tk.FSQ((6,) * 6), power=6.0)
    assert f"accuracy|{float(tk.accuracy(book, 1.0)):.4f}|" in found[2]
    assert "view=coordinate" in found[3]
    assert "snr=0" in found[3]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_search_from_disk(site: Path, tmp_path: Path) -> None:
    page = site / "index.html"
    script = """<script>addEventListener("load", () => setTimeout(() => {
        const box = document.querySelector("[data-md-component=search-query]");
        box.focus();
        box.value = "certify_local";
        box.dispatchEvent(new Event("keyup"));
        box.dispatchEvent(new Event("input"));
        const wait = setInterval(() => {
            const hits = document.querySelectorAll(".md-search-result__link");
            if (hits.length) {
                clearInterval(wait);
                console.log("hits: " + [...hits].map(one => one.href).join(" ") + " end");
            }
        }, 100);
    }, 500))</script></body>"""
    probe = page.with_name("index-probe.html")
    probe.write_text(page.read_text("utf-8").replace("</body>", script), encoding="utf-8")
    said = listen(probe, tmp_path, "hits: ")
    probe.unlink()
    assert re.search(r"api/optimality\.html(\?\S*)?#tokenkl\.certify_local", said)
