"""What to take instead of published FSQ level sets, in dB at equal token error.

At the same number of tokens (or a few more) and coordinates: balanced levels, equal spacing,
checkerboards, cuts of D_n+ and E8; in the same box, and at equal power. Grids and whole
checkerboards are exact, the tokens that are dropped of one and cuts are sampled. Tokens are
independent and equally probable.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, as_text, increasing, least, most, setting
from tokenkl._validation import reject
from tokenkl.codebooks.product import power_notation
from tokenkl.plotting import COLOURS, PAGE, label_panels, new_figure

COLUMNS = (
    "kind", "given", "constraint", "error", "snr", "choice", "levels", "spacing", "K", "gain_db",
    "standard_error", "gain_in_box_db", "gain_at_power_db", "error_there",
)  # fmt: skip
CONSTRAINTS = ("box", "power")
#: Name of a choice -> how it is drawn; cuts of lattices have one.
DRAWN = {
    "equal spacing": (COLOURS[2], ":"),
    "balanced": (COLOURS[0], "-"),
    "checkerboard": (COLOURS[1], "-"),
    "cut": (COLOURS[3], "--"),
}


def _sets(name: str, levels: Any) -> None:
    for one in levels:
        if len(one) < 2 or min(one) < 2 or np.prod(one, dtype=float) > 2**18:
            reject(name, as_text(one, ":"), "level sets of 2 coordinates or more, up to 2**18")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    levels: tuple[tuple[int, ...], ...] = setting(
        (
            (8, 6, 5), (8, 5, 5, 5), (5,) * 4, (8, 7, 6, 6), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5),
            (4,) * 6, (6,) * 6, (8, 8, 8, 5, 5, 5), (3,) * 8,
        ),
        "level sets to replace, levels with colons between them",
        _sets,
    )  # fmt: skip
    errors: tuple[float, ...] = setting(
        (0.01, 0.5), "token errors of the table", least(1e-6), most(0.7), increasing
    )
    curves: tuple[tuple[int, ...], ...] = setting(
        ((8, 5, 5, 5), (3,) * 8), "level sets drawn over the error", _sets, may_be_empty=True
    )
    curve_errors: tuple[float, ...] = setting(
        (1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.7),
        "token errors of the curves",
        least(1e-6),
        most(0.8),
        increasing,
    )
    seed: int = setting(0, "seed of what is sampled", least(0))


SMOKE = Config(levels=((4, 3),), errors=(0.1,), curves=((4, 3),), curve_errors=(0.05, 0.2), seed=1)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows `table` and `curve`, one for every choice that is found."""
    work = [("table", one, error) for one in config.levels for error in config.errors]
    work += [("curve", one, error) for one in config.curves for error in config.curve_errors]
    sizes = [float(np.prod(one)) ** 0.5 for _, one, _ in work]
    rows: list[dict[str, Any]] = []
    for place, (kind, levels, error) in enumerate(work):
        progress(sum(sizes[:place]), sum(sizes))
        for constraint in CONSTRAINTS:
            found = tk.which_grid(
                levels,
                error=error,
                constraint=constraint,  # type: ignore[arg-type]
                key=config.seed,
            )
            for one in found.choices:
                rows.append(
                    {
                        "kind": kind,
                        "given": power_notation(levels),
                        "constraint": constraint,
                        "error": error,
                        "snr": found.snr,
                        "choice": one.name,
                        "levels": power_notation(one.levels),
                        "spacing": one.spacing,
                        "K": one.K,
                        "gain_db": float(one.gain.value),
                        "standard_error": float(one.gain.standard_error),
                        "gain_in_box_db": float(one.gain_in_box.value),
                        "gain_at_power_db": float(one.gain_at_power.value),
                        "error_there": float(one.error.value),
                    }
                )
    progress(1, 1)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table, _facts(table)


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    """The gains of every family at the errors of the table: `gains[error][constraint][given]`."""
    found = table[(table.kind == "table") & (table.choice != "given")]
    gains: dict[str, Any] = {}
    for row in found.itertuples():
        place = gains.setdefault(f"{row.error:g}", {}).setdefault(row.constraint, {})
        place.setdefault(row.given, {})[row.choice] = {
            "levels": row.levels,
            "K": int(row.K),
            "gain_db": row.gain_db,
            "standard_error": row.standard_error,
            "error_there": row.error_there,
        }
    best = found.loc[found.groupby(["error", "constraint", "given"]).gain_db.idxmax()]
    return {
        "gains": gains,
        "best": {
            f"{error:g}": {
                constraint: [float(part.gain_db.min()), float(part.gain_db.max())]
                for constraint, part in rows.groupby("constraint")
            }
            for error, rows in best.groupby("error")
        },
    }


def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Gains over the token error, a row of panels for each level set; box and power."""
    curves = table[table.kind == "curve"]
    sets = list(dict.fromkeys(curves.given))
    figure, axes = new_figure(max(len(sets), 1), 2, width=PAGE, panel_height=2.4)
    titles = []
    for row, given in enumerate(sets):
        for column, constraint in enumerate(CONSTRAINTS):
            panel = axes[row, column]
            part = curves[(curves.given == given) & (curves.constraint == constraint)]
            for name, (colour, style) in DRAWN.items():
                own = part[part.choice.str.endswith(name)].sort_values("error")
                if len(own):
                    label = own.choice.iloc[-1]
                    panel.plot(own.error, own.gain_db, style, color=colour, label=label, marker=".")
                    panel.fill_between(
                        own.error,
                        own.gain_db - 2 * own.standard_error,
                        own.gain_db + 2 * own.standard_error,
                        color=colour,
                        alpha=0.2,
                        linewidth=0,
                    )
            panel.axhline(0, color="0.6", linewidth=0.8)
            panel.set(xscale="log", xlabel="token error", ylabel="gain (dB)")
            panel.legend(fontsize="x-small")
            where = "same box" if constraint == "box" else "equal power"
            titles.append(f"instead of {given}, {where}")
    label_panels(axes, tuple(titles))
    return figure


EXPERIMENT = Experiment(
    "which_grid",
    "Published FSQ level sets lose up to 2.6 dB in the same box and 3.1 dB at equal power to "
    "checkerboards of as many tokens at 1 % token error, and less than half of that at 50 %.",
    Config(),
    SMOKE,
    compute,
    plot,
    errors={"gain_db": "standard_error"},
)
