"""What a corpus says of a codebook, in one figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tokenkl import plotting
from tokenkl.corpus.study import TokensInContext
from tokenkl.estimate import Estimate


def corpus_figure(found: TokensInContext, title: str = "") -> Figure:
    """Accuracy with and without context; where information comes from; labels."""
    figure, axes = plotting.new_figure(1, 3, width=plotting.PAGE)
    left, middle, right = axes[0]
    x = found.context.profile.snr_db
    profiles = {"alone": found.alone, "in context": found.context.profile}
    for index, (name, one) in enumerate(profiles.items()):
        _draw(left, x, one["accuracy"], index, name)
    left.set(xlabel=plotting.AXIS_LABELS["snr_db"], ylabel="accuracy of a token")
    left.legend(fontsize=7, frameon=False)
    own = found.alone["mutual_information"]
    told = {"its own observation": own, "the rest": found.context.values}
    for index, (name, estimate) in enumerate(told.items()):
        _draw(middle, x, estimate, index, name)
    middle.set(xlabel=plotting.AXIS_LABELS["snr_db"], ylabel=f"information ({own.unit})")
    middle.legend(fontsize=7, frameon=False)
    _draw_labels(right, found)
    plotting.label_panels(axes, ("noisy tokens", "where it comes from", "labels"))
    if title:
        figure.suptitle(plotting.plain(title), fontsize=8)
    return figure


def _draw(panel: Any, x: np.ndarray, estimate: Estimate, index: int, label: str) -> None:
    style = plotting.line_style(index)
    low, high, _ = estimate.confidence_interval()
    panel.plot(x, estimate.value, label=label, **style)
    plotting.draw_interval(panel, x, low, high, **style)


def _draw_labels(panel: Any, found: TokensInContext) -> None:
    """The share of each that is read, the largest at the top."""
    every = list(found.labels.every.items())
    places = np.arange(len(every))[::-1]
    for place, (_, labels) in zip(places, every, strict=True):
        low, high, _ = labels.share.confidence_interval()
        panel.plot([low, high], [place, place], color=plotting.COLOURS[0], linewidth=1.2)
        panel.plot(labels.share.value, place, "o", color=plotting.COLOURS[0], markersize=4)
    panel.set_yticks(places, [plotting.plain(name) for name, _ in every], fontsize=7)
    panel.set_ylim(-0.5, len(every) - 0.5)
    panel.set_xlim(left=0)
    panel.set_xlabel("share of what neighbours tell\nthat affine functions read")
