"""The whole of a report: the page of its chapters, and the files beside it."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenkl as tk
from tokenkl._files import file_digest
from tokenkl._validation import printable, reject
from tokenkl.cli import tables
from tokenkl.cli._result import Result
from tokenkl.cli.report.chapters import Case, Chapter
from tokenkl.codebooks.files import load_priors
from tokenkl.latex import escape
from tokenkl.pages import code, page, pairs, text
from tokenkl.plotting import save_figure
from tokenkl.verification import FAIL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Whose versions say how numbers came about.
PACKAGES = ("tokenkl", "numpy", "scipy", "jax", "numba", "matplotlib")

BIBTEX = """\
@software{{tokenkl,
  title = {{tokenkl: what a tokenizer's geometry does to continuous diffusion}},
  author = {{{{The tokenkl developers}}}},
  version = {{{version}}},
  license = {{Apache-2.0}},
}}

@misc{{popov2026fsq,
  title = {{Optimality of {{FSQ}} Tokens for Continuous Diffusion for Categorical Data
           with Application to Text-to-Speech}},
  author = {{Popov, V. and others}},
  year = {{2026}},
  eprint = {{2606.09962}},
  archivePrefix = {{arXiv}},
}}"""


def whole_page(case: Case, chapters: Sequence[Chapter]) -> Result:
    """The result of `tokenkl report`.

    Raises:
        ValueError: a file changed while it was read.
    """
    for path, digest in case.files.values():
        if file_digest(path) != digest:
            reject(str(path), "another content than before", "left alone while it is read")
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in PACKAGES}
    latex = _latex_table(case)
    files: dict[str, Any] = {"index.html": _html(case, chapters, versions, latex)}
    files["table.tex"] = latex
    for chapter in chapters:
        for name, figure in chapter.figures.items():
            files[f"figures/{name}.pdf"] = _writer(figure)
    record = {
        "kind": "tokenkl report",
        "codebook": case.codebook.label,
        "commands": case.commands,
        "python": _python(case),
        "versions": versions,
        "left_out": case.left_out,
        "chapters": {chapter.anchor: chapter.record for chapter in chapters},
    }
    failed = any(one.record.get("counts", {}).get(FAIL) for one in chapters)
    return Result(
        record=record,
        title=tables.describe(case.codebook),
        show=lambda console: tables.print_pairs(console, _summary(chapters)),
        files=files,
        exit_code=1 if failed else 0,
    )


def _writer(figure: Figure) -> Callable[[Path], object]:
    return lambda path: save_figure(figure, path)


def _summary(chapters: Sequence[Chapter]) -> list[tuple[str, str]]:
    return [pair for chapter in chapters for pair in chapter.key]


def _latex_table(case: Case) -> str:
    about = printable(f"{tables.describe(case.codebook)}, by tokenkl {tk.__version__}")
    return (
        f"% {about}\n% Needs \\usepackage{{booktabs, siunitx}}; errors are those of 95 % intervals."
        f"\n% Caption: {escape(case.codebook.label)}, information in bits.\n"
        f"{case.profile.to_latex()}\n"
    )


def _python(case: Case) -> str:
    """What was found by no command, as lines of Python."""
    source = case.source
    prior = ""
    lines = ["import tokenkl as tk", "from tokenkl.bounds import brackets"]
    given = {"smoothing": source.smoothing, "padding": source.padding}
    given |= {"used_only": source.used_only or None}
    options = "".join(f", {name}={value}" for name, value in given.items() if value is not None)
    if source.tokens is not None:
        lines.append("from tokenkl.codebooks.files import load_token_array")
        prior = f", prior=lambda made: tk.with_token_prior(made, tokens{options})"
        lines += ["", f"tokens = load_token_array({str(source.tokens)!r})"]
    elif source.counts is not None:
        lines.append("from tokenkl.codebooks.files import load_counts")
        load = f"load_counts({str(source.counts)!r})"
        prior = f", prior=lambda made: tk.with_counts(made, {load}{options})"
    elif source.prior is not None:
        kind = "priors" if load_priors(source.prior) else "prior"
        lines.append(f"from tokenkl.codebooks.files import load_{kind}")
        prior = f", prior=lambda made: made.with_{kind}(load_{kind}({str(source.prior)!r}))"
    lines.append(f"codebook = tk.codebook({source.codebook!r}, seed={source.seed}{prior})")
    method = "" if case.method is None else f", method=tk.MonteCarlo({case.samples})"
    if source.tokens is not None and source.padding is None and case.stream.digits is None:
        lines.append(f"tk.stream_usage(tokens.ravel(), {case.whole.K})")
    return "\n".join(
        [
            *lines,
            f"tk.snr_of_information(codebook, near={case.about_half}, key={source.seed}{method})",
            f"snr = {case.profile.noise.tolist()!r}",
            'brackets(codebook, snr, ("accuracy", "mutual_information"))',
        ]
    )


def _html(case: Case, chapters: Sequence[Chapter], versions: Mapping[str, str], latex: str) -> str:
    title = f"Report on {case.codebook.label}"
    key = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
        for name, value in _summary(chapters)
    )
    ends = {"for-a-paper": "For a paper", "how-it-was-made": "How it was made"}
    links = {chapter.anchor: chapter.title for chapter in chapters} | ends
    items = "".join(f'<li><a href="#{one}">{text(name)}</a></li>' for one, name in links.items())
    body = [
        '<a class="skip" href="#content">Skip to the content</a>',
        f"<header><h1>{text(title)}</h1><p>{text(tables.describe(case.codebook))}</p></header>",
        f'<nav aria-label="Chapters"><ul>{items}</ul></nav>',
        f'<main id="content"><dl class="key">{key}</dl>',
    ]
    for chapter in chapters:
        body.append(f'<section id="{chapter.anchor}"><h2>{text(chapter.title)}</h2>')
        body += [*chapter.body, "</section>"]
    figures = "".join(
        f'<li><a href="figures/{name}.pdf">{name}.pdf</a></li>'
        for chapter in chapters
        for name in chapter.figures
    )
    missing = "".join(
        f"<li>{text(name.replace('_', ' '))}: {text(why)}</li>"
        for name, why in case.left_out.items()
    )
    body += [
        '<section id="for-a-paper"><h2>For a paper</h2>',
        f"<p>Figures at the width of a column:</p><ul>{figures}</ul>",
        '<p><a href="table.tex">table.tex</a>, for booktabs and siunitx:</p>',
        code(latex),
        "<p>BibTeX:</p>",
        code(BIBTEX.format(version=tk.__version__)),
        '</section><section id="how-it-was-made"><h2>How it was made</h2>',
        "<p>These commands find the numbers above, to the last digit:</p>",
        code("\n".join(case.commands), wrap=True),
        "<p>And these lines of Python those that no command has:</p>",
        code(_python(case), wrap=True),
        pairs([*versions.items(), ("made", f"{datetime.date.today():%Y-%m-%d}")]),
        '<p><a href="record.json">record.json</a> has all numbers, and the digests of the other '
        "files.</p>",
        f"<p>Left out:</p><ul>{missing}</ul>" if missing else "",
        "</section></main>",
    ]
    return page(title, body)
