"""Options that several commands share, each declared once, and bundles of those that go together.

A command takes a bundle as one argument; `_result.command` makes options of its fields.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np

    from tokenkl.codebooks import Codebook
    from tokenkl.codebooks.grammar import Weighed
    from tokenkl.information.methods import Method

#: What can be written where a codebook is asked for, and what it stands for.
CODEBOOKS = (
    ("fsq:3^8", "FSQ, 3 levels in each of 8 coordinates"),
    ("fsq:8x5x5x5", "FSQ, levels by coordinate; also fsq:8,5,5,5"),
    ("fsq:8,5,5,5:rounding", "the grid of the FSQ paper (even counts differ), and its ids"),
    ("fsq:3x3:F", "ids that count with the first coordinate fastest; C: the last"),
    ("fsq:8,5,5,5:midpoint", "the middles of 8, 5, 5 and 5 equal parts (FSP)"),
    ("bsq:18", "+-1/sqrt(18) in each of 18 coordinates; LFQ is fsq:2^18"),
    ("onehot:6561", "one-hot tokens"),
    ("e8", "6561 points of the E8 lattice in the cube"),
    ("d:4^24", "half of fsq:4^24: points of the lattice D24"),
    ("d+:3^8", "... and those between them; E8 in eight dimensions"),
    ("checker:7x7x7x6", "every second token of fsq:7x7x7x6; checker:7,7,7,6:equal"),
    ("e6, e6:100", "729 points of the E6 lattice, or another number"),
    ("ball:1024:8", "1024 points of E8 in a ball; of D_N or D_N+ for other N"),
    ("FILE, FILE:NAME", "a file or model folder (and what is called NAME in it)"),
    ("vq:FILE", "... that holds a table of points"),
    ("rvq:FILE", "... that holds stages whose vectors add up"),
    ("product:FILE", "... that holds parts side by side: PQ, groups, heads"),
    ("latent:FILE", "... before its projections"),
    ("decoded:FILE", "... behind its projections"),
    ("unit:FILE", "... its vectors divided by their lengths"),
    ("stored:FILE", "... its vectors as they are"),
    ("perturb:SPEC:SD", "N(0, SD^2) noise on every coordinate (--seed)"),
    ("permute:SPEC", "the points in a random order (--seed)"),
    ("centre:SPEC", "moved so that the mean is 0"),
)

#: Noise levels where none are asked for.
DEFAULT_DB = "-20:40:5"

EPILOG = "Ways to write a codebook:\n\n\b\n" + "\n".join(
    f"{spec:<24} {meaning}" for spec, meaning in CODEBOOKS
)

CodebookArgument = Annotated[
    str, typer.Argument(metavar="CODEBOOK", help="Such as fsq:3^8; see the list below.")
]
SnrDb = Annotated[
    str | None,
    typer.Option(
        metavar="GRID",
        help="SNR in dB: --snr-db=-20:40:1 (both ends included) or --snr-db=-10,0,10. "
        f"Without --snr and --snr-db: {DEFAULT_DB}.",
        show_default=False,
    ),
]
Snr = Annotated[
    str | None,
    typer.Option(metavar="GRID", help="SNR as a ratio: --snr 0.1,1,10 or --snr 0:1:0.1."),
]
Quantities = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Comma list of accuracy, error_probability, conditional_entropy, "
        "mutual_information, mmse, sampling_error; all but the last without it.",
        show_default=False,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0, max=2**32 - 1, metavar="N", help="Of everything random; same seed, same bits."
    ),
]
How = Annotated[
    str,
    typer.Option(
        "--method", metavar="NAME", help="auto (exact where possible), exact, monte-carlo or rare."
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        min=2, metavar="N", help="Samples; without it 16384, 1024 for a large RVQ, 2000 for rare."
    ),
]
Rtol = Annotated[
    float,
    typer.Option(
        metavar="X", help="Sample until the standard error is at most atol + rtol |value|."
    ),
]
Atol = Annotated[float, typer.Option(metavar="X", help="See --rtol; in the unit of the quantity.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Of a Dask scheduler, as tcp://10.0.0.1:8786, whose workers do the work; same bits.",
    ),
]
Bits = Annotated[bool, typer.Option("--bits", help="Information in bits rather than nats.")]
ScheduleName = Annotated[
    str,
    typer.Option(
        "--schedule",
        metavar="NAME",
        help="linear-vp, cosine-vp, beta-vp, sub-vp, ve, edm, flow-matching, sqrt-vp or "
        "log-linear; parameters after a colon, as in beta-vp:0.05,20 (also cosine-vp:s, "
        "flow-matching:shift,sigma_min,sway). Or a FILE: a table of t and snr, or of alpha-bar.",
    ),
]
Csv = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the numbers; - for standard output.")
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the numbers; - for standard output."),
]
Report = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Write a report in Markdown; - for standard output."),
]
Plot = Annotated[
    str | None, typer.Option(metavar="FILE", help="Draw a figure, as .pdf, .png or .svg.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that the files go to.")
]
PriorFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Prior: .npz, .npy, .json, .csv or .txt, K numbers; or a .npz with arrays priors.0, "
        "priors.1, ..., one for each coordinate of a grid or stage of a residual codebook.",
    ),
]
CountsFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Prior from K counts, or cluster sizes; files as --prior."),
]
TokensFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Prior from token ids, or from the digits of a grid or a residual codebook (an axis "
        "of that length): .npz, .npy, .json, .csv or .txt.",
    ),
]
Smoothing = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Added to every count of --tokens or --counts, 0.5 without it; with 0 tokens that "
        "never occur are left out.",
    ),
]
Padding = Annotated[
    int | None,
    typer.Option(metavar="ID", help="What stands for no token in --tokens, as --padding=-1."),
]
UsedOnly = Annotated[
    bool, typer.Option("--used-only", help="Leave out the tokens that never occur.")
]


# ---- Bundles -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Noise:
    """Noise levels, in dB or as ratios."""

    snr_db: SnrDb = None
    snr: Snr = None

    @property
    def is_linear(self) -> bool:
        return self.snr is not None

    def levels(self, default_db: str) -> np.ndarray:
        from tokenkl.cli.typed import parse_snr

        return parse_snr(self.snr_db, self.snr, default_db)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """How often the tokens of a codebook occur."""

    prior: PriorFile = None
    counts: CountsFile = None
    tokens: TokensFile = None
    smoothing: Smoothing = None
    padding: Padding = None
    used_only: UsedOnly = False

    def parse(self, tell: Callable[[str], None] | None = None) -> Weighed | None:
        """What gives a codebook this prior; None for its own. Files are read now."""
        from tokenkl.cli.typed import parse_prior

        return parse_prior(**{f.name: getattr(self, f.name) for f in WEIGHTS}, tell=tell)


WEIGHTS = dataclasses.fields(Weights)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(Weights):
    """A codebook, its prior and its randomness."""

    codebook: CodebookArgument
    seed: Seed = 0

    def make(self, tell: Callable[[str], None] | None = None) -> Codebook:
        """The codebook; `tell` is called with a sentence on how each file was read."""
        from tokenkl.codebooks import grammar

        kept, words = _BOOKS.get(), tuple(getattr(self, f.name) for f in dataclasses.fields(Source))
        if kept is None or words not in kept:
            told: list[str] = []
            prior = self.parse(told.append)
            made = grammar.codebook(self.codebook, seed=self.seed, prior=prior, tell=told.append)
            kept = {} if kept is None else kept
            kept[words] = made, told
        made, told = kept[words]
        if tell is not None:
            for sentence in told:
                tell(sentence)
        return made


class Books:
    """Codebooks that several commands have in common, with what is known of them already."""

    def __init__(self) -> None:
        self._made: dict[Any, tuple[Codebook, list[str]]] = {}

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Commands that run meanwhile read and prepare every codebook once."""
        token = _BOOKS.set(self._made)
        try:
            yield
        finally:
            _BOOKS.reset(token)


_BOOKS: contextvars.ContextVar[dict[Any, tuple[Codebook, list[str]]] | None] = (
    contextvars.ContextVar("codebooks of several commands", default=None)
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledSource(Source):
    """... and how often it is sampled where something has to be."""

    samples: Samples = None


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How numbers without a formula are found."""

    method: How = "auto"
    samples: Samples = None
    rtol: Rtol = 0.0
    atol: Atol = 0.0
    scheduler: Scheduler = None

    def settings(self) -> Method | None:
        """Settings for what is sampled; None for the library's own choice."""
        from tokenkl import Auto, MonteCarlo, RareEvents
        from tokenkl._validation import check_choice, reject

        check_choice(self.method, ("auto", "exact", "monte-carlo", "rare"), "--method")
        for option, value in (("--rtol", self.rtol), ("--atol", self.atol)):
            if not 0 <= value < math.inf:
                reject(option, value, "a finite number, at least 0")
        if self.samples is not None and (self.rtol > 0 or self.atol > 0):
            expected = "left out where --rtol or --atol sets the number of samples"
            reject("--samples", self.samples, expected)
        if self.method == "rare":
            if self.samples is None:
                return RareEvents(rtol=self.rtol, atol=self.atol)
            if self.samples < 64:
                reject("--samples", self.samples, "at least 64 for --method rare")
            return RareEvents(n_samples=self.samples)
        if self.method == "auto" and self.samples is None and self.rtol == self.atol == 0:
            return None
        if self.method == "auto" and (self.samples is None or self.samples >= 64):
            return Auto(n_samples=self.samples, rtol=self.rtol, atol=self.atol)
        return MonteCarlo(n_samples=self.samples, rtol=self.rtol, atol=self.atol)
