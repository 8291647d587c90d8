"""The chapters of a report: what each finds, and how it is shown."""

from __future__ import annotations

import dataclasses
import functools
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import tokenkl as tk
from tokenkl import plotting, readable
from tokenkl._files import file_digest
from tokenkl.bounds import brackets, outward
from tokenkl.cli import tables
from tokenkl.cli._options import Books, Noise, SampledSource, Sampling
from tokenkl.cli._result import Result, result_of
from tokenkl.cli.sampling import DECIBELS, figure_of_density, figure_of_grids
from tokenkl.codebooks.digits import ByDigits
from tokenkl.codebooks.files import load_token_array
from tokenkl.codebooks.grammar import SUFFIXES
from tokenkl.codebooks.streams import Stream, read_stream
from tokenkl.information import exact_quantities
from tokenkl.information.parts import is_bracketed, numbers_in_stages
from tokenkl.information.pictures import on_axis, profile_figure
from tokenkl.information.sampling.montecarlo import DEFAULT_SAMPLES
from tokenkl.pages import pairs, picture, table, text
from tokenkl.verification import FAIL, worst

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tokenkl.information import Profile

#: Decibels between noise levels: the first with which there are few enough of them.
STEPS_DB = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
#: Most levels of the profile, of the comparison and of the theorems.
MOST_LEVELS, MOST_COMPARED, MOST_CHECKED = 25, 10, 6
#: Most tokens times samples, so that a page takes a minute or two, and the fewest samples.
MOST_WORK, FEWEST = 2**22, 2**10
#: Samples of tokens beyond enumeration; most of them for their profile, which are enough to tell
#: their errors at nearly all levels, and most times the numbers in the stages; most levels of it.
BEYOND, PROFILED_BEYOND, MOST_NUMBERS, MOST_LEVELS_BEYOND = 160, 256, 3 * 2**28, 13
#: Most digits of a value on the page.
DIGITS = 5
#: Coordinates up to which every half-width is listed.
MOST_LISTED = 16


class LeftOut(Exception):
    """Why there is no such chapter for this codebook."""


@dataclasses.dataclass
class Chapter:
    """A part of the page: HTML, figures by name, the record's numbers, lines of the summary."""

    title: str
    body: list[str]
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    figures: dict[str, Figure] = dataclasses.field(default_factory=dict)
    key: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    @property
    def anchor(self) -> str:
        """A word for links to it."""
        return self.title.lower().replace(" ", "-")

    def draw(self, name: str, figure: Figure, caption: str) -> None:
        """Add a figure, which is also written by itself."""
        self.figures[name] = figure
        self.body.append(picture(figure, f"figure-{name}", caption))


@dataclasses.dataclass
class Case:
    """What is reported on; what several chapters need is found once."""

    source: SampledSource
    noise: Noise
    schedule: str
    steps: int
    commands: list[str] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    read: list[str] = dataclasses.field(default_factory=list)
    books: Books = dataclasses.field(default_factory=Books)

    @functools.cached_property
    def codebook(self) -> tk.Codebook:
        """As typed, with the prior that was asked for."""
        _ = self.files  # their digests come first, so that a change after them is seen
        with self.books.shared():
            return self.source.make(self.read.append)

    @functools.cached_property
    def words(self) -> list[str]:
        """The codebook and its prior, as every command takes them."""
        given = {
            "--prior": self.source.prior,
            "--counts": self.source.counts,
            "--tokens": self.source.tokens,
            "--smoothing": self.source.smoothing,
            "--padding": self.source.padding,
            "--seed": self.source.seed or None,
        }
        options = [f"{name}={value}" for name, value in given.items() if value is not None]
        return [self.source.codebook, *options, *["--used-only"] * self.source.used_only]

    @functools.cached_property
    def whole(self) -> tk.Codebook:
        """With the tokens that may have been left out, and without the prior."""
        return tk.codebook(self.source.codebook, seed=self.source.seed)

    @functools.cached_property
    def stream(self) -> Stream:
        """The tokens that give the prior."""
        if self.source.tokens is None:
            raise LeftOut("usage needs --tokens.")
        return read_stream(self.whole, load_token_array(self.source.tokens), self.source.padding)

    @property
    def sampled(self) -> list[str]:
        """The same for commands that sample."""
        given = [] if self.samples is None else ["--samples", str(self.samples)]
        return [*self.words, *given]

    @functools.cached_property
    def samples(self) -> int | None:
        """As asked for; without that fewer than elsewhere where tokens are many."""
        if self.source.samples is None and self.codebook.fits:
            few = max(MOST_WORK // self.codebook.K, FEWEST)
            return few if few < DEFAULT_SAMPLES else None
        bracketed = self.source.samples is None and is_bracketed(self.codebook)
        return BEYOND if bracketed else self.source.samples

    def run(self, *words: str) -> Result:
        """What a command finds; it is listed among those that made the page."""
        with self.books.shared():
            found = result_of(words)
        self.commands.append(shlex.join(["tokenkl", *words]))
        return found

    @functools.cached_property
    def law(self) -> Result:
        """Of `tokenkl noise-schedule`."""
        return self.run("noise-schedule", *self.sampled, "--schedule", self.schedule)

    @functools.cached_property
    def range_db(self) -> tuple[float, float]:
        """Where the information is lost, all but 0.1 % of the entropy at each end."""
        x = self.law.found[0].log_snr
        return round(DECIBELS * float(x[0]), 9), round(DECIBELS * float(x[-1]), 9)

    def grid(self, most: int, shift: float = 0.0, *, outside: bool = False) -> str:
        """At most so many whole decibels within that range, or as few more as hold all of it."""
        low, high = (end + shift for end in self.range_db)
        for step in STEPS_DB:
            down, up = (math.floor, math.ceil) if outside else (math.ceil, math.floor)
            first, last = step * down(low / step), step * up(high / step)
            if last - first < most * step:
                break
        return f"{first}:{max(first, last)}:{step}"

    @functools.cached_property
    def profile(self) -> Profile:
        """In bits, of `tokenkl profile`."""
        most, how = MOST_LEVELS, self.sampled
        if is_bracketed(self.codebook):
            most = MOST_LEVELS_BEYOND
            samples = self.source.samples or profiled(numbers_in_stages(self.codebook))
            how = [*self.words, "--samples", str(samples)]
        if self.noise.snr is not None:
            levels = ["--snr", self.noise.snr]
        else:
            levels = [f"--snr-db={self.noise.snr_db or self.grid(most, outside=True)}"]
        found: Profile = self.run("profile", *how, *levels, "--bits").found
        return found

    @functools.cached_property
    def half(self) -> tk.Estimate:
        """The SNR of half the information, in dB."""
        how: dict[str, Any] = {"method": self.method, "key": self.source.seed}
        return tk.snr_of_information(self.codebook, near=self.about_half, **how)

    @functools.cached_property
    def about_half(self) -> float:
        """Where that is by the law of noise levels, which is there already."""
        return round(DECIBELS * float(self.law.found[0].quantile(0.5)), 2)

    @functools.cached_property
    def method(self) -> Any:
        """Settings for what is sampled without a command."""
        exact = "mutual_information" in exact_quantities(self.codebook)
        if exact or self.samples is None:
            return None
        return Sampling("monte-carlo", self.samples).settings()

    @functools.cached_property
    def files(self) -> dict[str, tuple[Path, str]]:
        """What was read: files by what they hold, with their digests."""
        named = {
            "codebook": file_of(self.source.codebook),
            "prior": self.source.prior,
            "counts": self.source.counts,
            "token ids": self.source.tokens,
        }
        # What is no file is refused in better words where it is read.
        paths = {what: Path(f) for what, f in named.items() if f is not None}
        return {what: (f, file_digest(f)) for what, f in paths.items() if f.is_file()}


def profiled(numbers: int) -> int:
    """Samples of a profile beyond enumeration, by how many numbers the stages hold."""
    return max(BEYOND, min(PROFILED_BEYOND, MOST_NUMBERS // numbers))


def file_of(spec: str) -> Path | None:
    """The file that a specification such as "perturb:vq:FILE:NAME:0.1" names, if any."""
    words = spec.split(":")
    for first in range(len(words)):
        for last in range(len(words), first, -1):
            path = Path(":".join(words[first:last]))
            if path.suffix.lower() in SUFFIXES and path.is_file():
                return path
    return None


def how_it_was_read(case: Case) -> list[tuple[str, str]]:
    """What the words of the command line were taken for."""
    taken = repr(case.codebook)  # which says how it was read
    return [
        ("specification", case.source.codebook),
        *(("read from", how) for how in case.read),
        ("taken for", taken),
        ("seed", str(case.source.seed)),
    ]


#: Under what is said of usage.
OF_USAGE = (
    "The bias of the entropy is corrected (Grassberger 2003). The interval comes from a "
    "jackknife over blocks of neighbouring tokens and holds what may be left of the bias."
)


# ---- The chapters, in the order of the page -----------------------------------------------------


def what_was_read(case: Case) -> Chapter:
    """Files, digests, and what was made of them."""
    shown = how_it_was_read(case)
    for what, (path, digest) in case.files.items():
        shown += [(what, str(path)), ("SHA-256", digest)]
    record = {
        "specification": case.source.codebook,
        "seed": case.source.seed,
        "files": {what: {"name": p.name, "sha256": d} for what, (p, d) in case.files.items()},
    }
    return Chapter("What was read", [pairs(shown)], record)


def geometry(case: Case) -> Chapter:
    """Size, power, distances and half-widths."""
    found = case.run("info", *case.words)
    half = case.codebook.half_widths()
    widths = (
        ", ".join(f"{one:.4g}" for one in half)
        if half.size <= MOST_LISTED
        else f"{half.min():.4g} to {half.max():.4g}"
    )
    facts = [row for row in found.found if row[0] != "read from"]  # the chapter before says it
    shown = [*facts, ("half-widths", f"{widths} (half the range of every coordinate)")]
    key = [("tokens", dict(shown)["tokens K"]), ("dimension", str(case.codebook.n))]
    return Chapter(
        "Geometry", [pairs(shown)], {**found.record, "half_widths": half.tolist()}, key=key
    )


def usage(case: Case) -> Chapter:
    """How much of the codebook the tokens use."""
    ids = case.stream.one_by_one(case.whole)
    if ids is None:
        return _usage_of_digits(case)
    found = tk.stream_usage(ids, case.whole.K)
    entropy, perplexity = found.entropy.bits, found.perplexity_interval()
    low, high, _ = entropy.confidence_interval()
    shown = [
        ("tokens counted", f"{found.tokens:,}"),
        ("used", f"{found.used:,} of {found.K:,} ({found.used / found.K:.1%})"),
        ("entropy", f"{float(entropy):.4f} bits (95 %: {low:.4f} to {high:.4f})"),
        (
            "perplexity",
            f"{found.perplexity:.1f} (95 %: {perplexity.low:.1f} to {perplexity.high:.1f})",
        ),
        ("bits unused", f"{math.log2(found.K) - float(entropy):.4f} of {math.log2(found.K):.4f}"),
    ]
    record = {
        "tokens": found.tokens,
        "used": found.used,
        "K": found.K,
        "entropy_bits": entropy.to_json(),
        "perplexity": [found.perplexity, perplexity.low, perplexity.high],
    }
    key = [("tokens used", f"{found.used / found.K:.1%}")]
    return Chapter("Usage", [pairs(shown), _note(OF_USAGE)], record, key=key)


def _usage_of_digits(case: Case) -> Chapter:
    """Digit by digit, where there are more tokens than were counted."""
    digits_ = case.stream.digits
    assert digits_ is not None
    assert isinstance(case.whole, ByDigits)
    shape = case.whole.shape
    each = [tk.stream_usage(*pair) for pair in zip(digits_.T, shape, strict=True)]
    intervals = [one.entropy.bits.confidence_interval() for one in each]
    columns = {
        "digit": [str(place) for place in range(len(each))],
        "used": [f"{one.used:,} of {one.K:,}" for one in each],
        "entropy (bits)": [f"{float(one.entropy.bits):.4f}" for one in each],
        "95 % interval": [f"{low:.4f} to {high:.4f}" for low, high, _ in intervals],
        "perplexity": [f"{one.perplexity:.1f}" for one in each],
    }
    bits = sum(float(one.entropy.bits) for one in each)
    nominal = sum(math.log2(size) for size in shape)
    shown = [
        ("tokens counted", f"{len(digits_):,}"),
        ("bits a token", f"{bits:.3f} of {nominal:.3f}, if the digits were independent"),
    ]
    entropies = [one.entropy.bits.to_json() for one in each]
    record = {"tokens": len(digits_), "used": [one.used for one in each], "shape": list(shape)}
    key = [("bits a token", f"{bits:.2f} of {nominal:.2f}")]
    body = [pairs(shown), table(columns, "Usage of every digit."), _note(OF_USAGE)]
    return Chapter("Usage", body, record | {"entropy_bits": entropies}, key=key)


def profile(case: Case) -> Chapter:
    """Information, errors and MMSE over the noise."""
    found = case.profile
    columns = dict(tables.snr_columns(found.snr, case.noise.is_linear))
    for estimate in found.estimates.values():
        columns[tables.quantity_title(estimate)] = readable.cells(estimate, digits=DIGITS)
    entropy = float(case.codebook.prior_entropy()) / math.log(2)
    chapter = Chapter(
        "Profile",
        [
            "<p>What an observation Y = √snr e + ε of a token says about it. The information goes "
            f"up to the entropy of the prior, {entropy:.4f} bits.</p>"
        ],
        found.to_json(),
    )
    chapter.draw(
        "information",
        found.only("mutual_information").plot(),
        "Information about the token over the signal-to-noise ratio; the band is a 95 % interval.",
    )
    chapter.draw(
        "errors",
        found.only("error_probability").plot(),
        "Error probability of the best guess of the token.",
    )
    chapter.body.append(table(columns, "Profile, with 95 % intervals"))
    for line in tables.footnotes([("", found)], 0, 0):
        chapter.body.append(_note(line.replace("--csv and --json give", "record.json gives")))
    chapter.body.append(_note("Rounded, the errors too; record.json has all digits."))
    return chapter


def half_of_the_information(case: Case) -> Chapter:
    """Where an observation tells half of the token."""
    half = case.half
    (shown,) = readable.cells(half)
    low, high, _ = half.confidence_interval()
    power = DECIBELS * math.log(case.codebook.average_power())
    facts = [
        ("half of the entropy is told at", f"{shown} dB"),
        ("95 % interval", f"{low:.6g} to {high:.6g} dB"),
        ("the same at average power 1", f"{float(half) + power:.4f} dB"),
        ("found by", str(half.method)),
    ]
    body = [
        "<p>The noise level at which half of the token's entropy is known: what matters most when "
        "two codebooks are trained with one noise schedule.</p>",
        pairs(facts),
    ]
    key = [("half of the information", f"{float(half):.2f} dB")]
    return Chapter("Half of the information", body, {"snr_db": half.to_json()}, key=key)


def noise_to_train_on(case: Case) -> Chapter:
    """Noise levels that split the information into equal parts."""
    law, columns = case.law.found
    heads = {
        "share of\ninformation": [f"{one:.2g}" for one in columns["information_share"]],
        "SNR\n(dB)": [f"{one:.2f}" for one in columns["snr_db"]],
        "density\n(per dB)": [f"{one:.4f}" for one in columns["density_per_db"]],
        "t": [_or_dash(one) for one in columns["t"]],
        "weight\nof t": [_or_dash(one) for one in columns["weight"]],
    }
    chapter = Chapter(
        "Noise to train on",
        [
            "<p>Noise drawn with this density spends equal effort on equal information. The weight "
            f"is that of a loss with t uniform in [0, 1], for the schedule {text(case.schedule)}."
            "</p>"
        ],
        case.law.record,
    )
    caption = "Density of the noise levels under which every level brings the same information."
    chapter.draw("noise", figure_of_density(law, ""), caption)
    chapter.body.append(table(heads, "Ends of ten equal parts of the information"))
    if law.standard_error:
        chapter.body.append(_note(f"Shares have a standard error of {law.standard_error:.2g}."))
    return chapter


def sampling_steps(case: Case) -> Chapter:
    """The best grid of steps, beside the usual ones."""
    low, high = (f"{round(end)}" for end in case.range_db)
    found = case.run(
        *("steps", *case.sampled, "--steps", str(case.steps), "--schedule", case.schedule),
        *(f"--start-db={low}", f"--stop-db={high}", "--bits"),
    )
    best, frame = found.found, found.found.frame
    grid = {
        "step": [str(one) for one in frame["step"]],
        "SNR\n(dB)": [f"{one:.3f}" for one in frame["snr_db"]],
        "t": [_or_dash(one) for one in frame["t"]],
    }
    costs = {"optimal": best.kl, **best.others}
    beside = {
        "grid": list(costs),
        f"path KL\n({best.kl.unit})": readable.cells(tk.Estimate.stack(list(costs.values()))),
        "times the\noptimum": [f"{float(one) / float(best.kl):.3g}" for one in costs.values()],
    }
    chapter = Chapter(
        "Sampling steps",
        [
            f"<p>The {case.steps} steps of the ancestral sampler with the smallest KL on path "
            f"space, with the exact denoiser, from {low} to {high} dB.</p>"
        ],
        found.record,
    )
    chapter.draw("steps", figure_of_grids(best.snr, ""), "The best grid of steps and usual ones.")
    chapter.body += [
        table(grid, "The best grid"),
        table(beside, f"What {case.steps} steps cost"),
    ]
    key = [(f"path KL of {case.steps} steps", f"{float(best.kl):.3g} {best.kl.unit}")]
    return dataclasses.replace(chapter, key=key)


def brackets_from_geometry(case: Case) -> Chapter:
    """Proved bounds on both sides, from distances alone."""
    found = case.profile
    asked = ("accuracy", "mutual_information")
    both = brackets(case.codebook, found.noise, asked)
    columns: dict[str, list[str]] = dict(tables.snr_columns(found.snr, False))
    record: dict[str, Any] = {"snr": found.noise.tolist()}
    for name, bracket in both.items():
        one = bracket.bits if bracket.lower.unit == "nats" else bracket
        ends = [np.asarray(end.value) for end in (one.lower, one.upper)]
        title = tables.quantity_title(found[name])
        columns |= {
            f"{title}\nat least": [outward(float(end), "lower") for end in ends[0]],
            f"{title}\nfound": readable.cells(found[name], digits=DIGITS),
            f"{title}\nat most": [outward(float(end), "upper") for end in ends[1]],
        }
        record[name] = {
            "lower": ends[0].tolist(),
            "upper": ends[1].tolist(),
            "lower_by": one.lower_names.tolist(),
            "upper_by": one.upper_names.tolist(),
        }
    ways = both["mutual_information"]
    names = sorted({*map(str, ways.lower_names), *map(str, ways.upper_names)})
    chapter = Chapter(
        "Brackets",
        [
            "<p>What follows from the geometry alone, by proved inequalities; nothing is sampled "
            "for the two ends.</p>"
        ],
        record,
    )
    figure = found.only("mutual_information").plot()
    order = on_axis(found)
    proved = (np.array(record["mutual_information"][end])[order] for end in ("lower", "upper"))
    plotting.draw_interval(figure.axes[0], found.snr_db[order], *proved, color=plotting.COLOURS[4])
    chapter.draw("brackets", figure, "The information, inside its proved bounds.")
    chapter.body += [
        table(columns, "Brackets, and what was found"),
        _note(f"Behind the brackets of the information: {'; '.join(names)}."),
    ]
    return chapter


def theorems(case: Case) -> Chapter:
    """Every theorem, checked on this codebook."""
    levels = f"--snr-db={case.grid(MOST_CHECKED)}"
    found = case.run("verify", *case.sampled, levels, "--bits")
    shown, counts = worst(found.found), found.record["counts"]
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    columns = {
        "theorem": [one.theorem for one in shown],
        "verdict": [one.verdict for one in shown],
        "statement": [one.statement for one in shown],
        "SNR\n(dB)": [f"{DECIBELS * math.log(one.snr):.4g}" for one in shown],
        "margin": [f"{one.margin:.3g}" for one in shown],
        "unit": [tables.UNITS.get(one.unit, "") for one in shown],
    }
    verdict = "fail" if counts[FAIL] else "pass"
    body = [
        f'<p class="{verdict}">{text(said)}.</p>',
        "<p>Each line is the SNR at which the theorem is closest to failing; the margin is the "
        "right minus the left side. Every quantity was sampled a second time by other means.</p>",
        f"<details><summary>{len(shown)} theorems</summary>"
        + table(columns, "Theorems, inequalities and identities", numbers=False)
        + "</details>",
    ]
    key = [("theorems", f"{len(shown)} checked, {counts[FAIL]} fail")]
    return Chapter("Theorems", body, found.record, key=key)


def comparison(case: Case) -> Chapter:
    """FSQ and a lattice, with as many tokens in as many dimensions."""
    book, spec = case.whole, case.source.codebook  # a prior is of one codebook alone
    rivals = _rivals(case)
    shift = DECIBELS * math.log(book.average_power())
    options = case.sampled[len(case.words) :]
    if case.source.seed:
        options += ["--seed", str(case.source.seed)]
    found = case.run(
        *("compare", spec, *rivals, "--scale-to", "power", "--bits", *options),
        *("--quantities", "mutual_information,accuracy"),
        f"--snr-db={case.grid(MOST_COMPARED, shift)}",
    )
    names = [f"this codebook, {book.K:,}", *(f"{name}, {K:,}" for name, K in rivals.values())]
    curves = [(name, one) for name, (_, one) in zip(names, found.found, strict=True)]
    chapter = Chapter(
        "Comparison",
        [
            "<p>The FSQ grid with at most as many tokens that tells most at the noise level of "
            "half the information, and as many points of a dense lattice inside a ball: all at "
            "average power 1.</p>"
        ],
        found.record,
    )
    caption = "Information about the token at average power 1; numbers of tokens in the legend."
    figure = profile_figure([(name, one.only("mutual_information")) for name, one in curves])
    chapter.draw("comparison", figure, caption)
    for name in ("mutual_information", "accuracy"):
        columns = dict(tables.snr_columns(curves[0][1].snr, False))
        columns |= {label: readable.cells(one[name], digits=DIGITS) for label, one in curves}
        title = tables.quantity_title(curves[0][1][name]).replace("\n", " ")
        chapter.body.append(table(columns, f"Comparison: {title}"))
    given = [option for option in ("prior", "counts", "tokens") if getattr(case.source, option)]
    for option in given:
        note = "Here every codebook has all its tokens, and the prior that its file states, or "
        chapter.body.append(_note(f"{note}equal ones; not that of --{option}."))
    return chapter


def _rivals(case: Case) -> dict[str, tuple[str, int]]:
    """Specifications of rivals -> what they are called, and how many tokens they have."""
    book = case.whole
    rivals: dict[str, tuple[str, int]] = {}
    n = min(book.n, int(math.log2(book.K)))
    words = [f"--budget-tokens={book.K}", f"--n-min={n}", f"--n-max={n}", "--top=1"]
    words += [f"--snr-db={float(case.half):.4f}", f"--power={book.average_power():.6g}"]
    reasons = []
    try:
        (grid,) = case.run("recommend-levels", *words).found
        rivals[f"fsq:{grid['levels']}"] = f"FSQ {grid['levels']}", grid["K"]
    except ValueError as error:
        reasons.append(str(error))
    try:
        ball = tk.ball_codebook(book.K, book.n)
        rivals[f"ball:{book.K}:{book.n}"] = ball.label, ball.K
    except ValueError as error:
        reasons.append(str(error))
    rivals.pop(case.source.codebook, None)
    if not rivals:
        raise LeftOut(" ".join(reasons) or "there is no rival but the codebook itself.")
    return rivals


CHAPTERS: tuple[Callable[[Case], Chapter], ...] = (
    what_was_read,
    geometry,
    usage,
    profile,
    half_of_the_information,
    noise_to_train_on,
    sampling_steps,
    brackets_from_geometry,
    theorems,
    comparison,
)
#: What not every codebook has: a mistake in what was typed has been refused before.
OPTIONAL = (
    half_of_the_information,
    noise_to_train_on,
    sampling_steps,
    brackets_from_geometry,
    theorems,
    comparison,
)


# ---- Pieces -------------------------------------------------------------------------------------


def _note(line: str) -> str:
    return f'<p class="note">{text(line)}</p>'


def _or_dash(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.5g}"
