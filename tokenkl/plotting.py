"""One style for every picture: sizes in inches, colours that colour-blind readers can tell apart.

`new_figure` makes axes of a stated size, `save_figure` writes them; nothing else here draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenkl._files import atomic_path
from tokenkl._validation import printable, reject
from tokenkl.quantities import QUANTITIES

#: Okabe and Ito's eight colours (2008), the order in which they are used.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A7C00")
#: Dashes that go with the colours, so that a grey print can be read too.
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

#: Width in inches of a picture that fills one column, and of one that fills the page.
COLUMN, PAGE = 3.5, 7.0

STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "figure.dpi": 100,
    "savefig.dpi": 220,
    "pdf.fonttype": 42,
}

#: What every quantity is called on an axis, with its unit.
AXIS_LABELS = {
    "snr_db": "signal-to-noise ratio (dB)",
    **{name: one.axis_label for name, one in QUANTITIES.items()},
}


def new_figure(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = COLUMN,
    panel_height: float = 2.3,
    **subplot_options: Any,
) -> tuple[Figure, np.ndarray]:
    """A figure `width` inches wide and a (rows, columns) array of axes, in the house style.

    Works without pyplot, so that no window and no global state is involved.
    """
    with mpl.rc_context(cast(Any, STYLE)):
        figure = Figure(figsize=(width, rows * panel_height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **subplot_options)
    return figure, axes


def line_style(index: int) -> dict[str, Any]:
    """Colour, dashes and marker of the curve with this number."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
    }


def plain(text: str) -> str:
    """The text as it is: nothing in it is a formula, hidden, or a line of its own.

    Labels may come from names of files. A legend leaves out those that begin with an underscore.
    """
    shown = printable(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def label_panels(axes: np.ndarray, titles: Sequence[str] = ()) -> None:
    """Bold letters (a), (b), ... at the upper left of every panel, each with its title if given."""
    panels = list(axes.ravel())
    for index, panel in enumerate(panels):
        letter = f"$\\bf{{({chr(97 + index)})}}$ " if len(panels) > 1 else ""
        title = titles[index] if titles else ""
        if letter or title:
            panel.set_title(letter + title, loc="left", fontsize=STYLE["axes.titlesize"])


def draw_interval(axes: Axes, x: Any, low: Any, high: Any, **style: Any) -> None:
    """A light band between two curves, in the colour of its curve."""
    axes.fill_between(x, low, high, color=style.get("color"), alpha=0.2, linewidth=0)


#: File suffixes that `save_figure` can write.
FORMATS = (".pdf", ".png", ".svg")


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as .pdf, .png or .svg, completely or not at all; the same input, same bytes.

    Raises:
        ValueError: another suffix, or a folder that does not exist.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        reject("path", str(path), "a file name that ends in " + ", ".join(FORMATS))
    metadata: dict[str, Any] = {
        ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
        ".png": {"Software": None},
        ".svg": {"Date": None},
    }[path.suffix]
    style = cast(Any, STYLE | {"svg.hashsalt": "tokenkl"})
    with mpl.rc_context(style), atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)
    return path
