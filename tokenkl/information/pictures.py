"""Curves of profiles over the SNR."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tokenkl import plotting
from tokenkl.information.profiles import Profile

#: Smallest part of the largest error probability that is shown.
SPAN = 1e-12
#: What a codebook is called beside its profile; "" where there is only one.
Labelled = tuple[str, Profile]


def profile_figure(curves: Sequence[Labelled], title: str = "") -> Figure:
    """One panel for each quantity, one curve with its 95 % band for each codebook, over dB.

    One quantity fills a column, several a page. Labels and title are plain text.
    """
    quantities = list(curves[0][1].estimates)
    columns = {1: 1, 2: 2, 4: 2}.get(len(quantities), 3)
    rows = math.ceil(len(quantities) / columns)
    width = plotting.COLUMN if columns == 1 else plotting.PAGE
    figure, axes = plotting.new_figure(rows, columns, width=width)
    panels = axes.ravel()
    for panel, quantity in zip(panels, quantities, strict=False):
        for index, (label, profile) in enumerate(curves):
            _draw_curve(panel, profile, quantity, index, label)
        unit = curves[0][1][quantity].unit
        name = plotting.AXIS_LABELS[quantity].replace("(nats)", f"({unit})")
        panel.set_ylabel(textwrap.fill(name, 24))
        panel.set_xlabel(plotting.AXIS_LABELS["snr_db"])
        if quantity == "error_probability":
            _log_axis(panel, [profile for _, profile in curves])
    for panel in panels[len(quantities) :]:
        panel.set_axis_off()
    if len(curves) > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        spare = panels[len(quantities) :]
        if spare.size and len(curves) <= 8:
            spare[0].legend(handles, labels, loc="center", fontsize=7, frameon=False)
        else:
            figure.legend(
                handles,
                labels,
                loc="outside lower center",
                ncols=min(len(curves), 2 * columns),
                fontsize=7,
                frameon=False,
            )
    if title:
        figure.suptitle(plotting.plain(title), fontsize=8)
    if len(quantities) > 1:
        plotting.label_panels(panels[: len(quantities)])
    return figure


def on_axis(profile: Profile) -> np.ndarray:
    """Indices of the levels from left to right; minus infinity dB has no place on an axis."""
    snr = profile.snr.ravel()
    order = np.argsort(snr)
    return order[snr[order] > 0]


def _draw_curve(panel: Any, profile: Profile, quantity: str, index: int, label: str) -> None:
    estimate = profile[quantity]
    order = on_axis(profile)
    x = profile.snr_db.ravel()[order]
    style = plotting.line_style(index)
    if x.size <= 25:  # few enough for every computed point to be seen
        style["marker"] = plotting.MARKERS[index % len(plotting.MARKERS)]
        style["markersize"] = 2.5
    low, high, _ = (np.ravel(one) for one in estimate.confidence_interval(0.95))
    y = np.ravel(estimate.value)[order]
    if quantity == "error_probability":
        # Far below one over the sample size the value says nothing, and a logarithm shows it large.
        y = np.where(np.ravel(estimate.interval_supported)[order], y, np.nan)
    panel.plot(x, y, label=plotting.plain(label), **style)
    if estimate.is_sampled:
        plotting.draw_interval(panel, x, low[order], high[order], **style)


def _log_axis(panel: Any, profiles: Sequence[Profile]) -> None:
    """A logarithmic axis for error probabilities that span more than two powers of ten."""
    values = np.concatenate([np.ravel(p["error_probability"].value) for p in profiles])
    positive = values[values > 0]
    if positive.size and positive.min() < 0.01 * positive.max():
        panel.set_yscale("log")
        panel.set_ylim(max(positive.min(), SPAN * positive.max()) / 1.5, positive.max() * 1.5)
