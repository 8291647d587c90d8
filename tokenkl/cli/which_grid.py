"""The other answer of `tokenkl recommend-levels`: what to take instead of a level set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from tokenkl.cli._app import progress_bar
from tokenkl.cli._result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tokenkl.estimate import Estimate
    from tokenkl.optimality.which_grid import WhichGrid

COLUMNS = {
    "gain_in_box": "dB saved\nin the box",
    "gain_at_power": "at equal\npower",
    "at_half_in_box": "at 50 %,\nin the box",
    "at_half_at_power": "at 50 %,\nat power",
}
#: Half-widths of intervals that two digits after the point do not show.
UNSEEN = 0.005


def instead(
    *,
    levels: str | None,
    n: int | None,
    K: int | None,
    error: float | None,
    snr_db: float | None,
    constraint: str,
    seed: int,
    top: int,
) -> Result:
    """Choices in the place of a level set, or of a number of tokens and coordinates."""
    import tokenkl as tk
    from tokenkl._validation import check_choice
    from tokenkl.codebooks.product import levels_from_spec, power_notation

    check_choice(constraint, ("box", "power"), "--constraint")
    counts = None
    if levels is not None:
        counts = levels_from_spec(levels, levels, "a level set such as 8,5,5,5", "--instead-of")
    how: dict[str, Any] = {"error": error, "constraint": constraint, "key": seed}
    how["snr"] = None if snr_db is None else 10 ** (snr_db / 10)
    with progress_bar("grids") as progress:
        found = tk.which_grid(counts, n=n, K=K, progress=progress, **how)
    rows = found.to_frame().head(top).to_dict("records")
    given = found.given
    where = "in the same box" if constraint == "box" else "at equal power"
    record = {
        "given": list(given.levels),
        "constraint": constraint,
        "error": found.error,
        "snr": found.snr,
        "seed": seed,
        "choices": rows,
        "limits": list(found.limits),
    }
    title = f"Instead of FSQ {power_notation(given.levels)}, {where}, error {found.error:.3g}"
    return Result(
        record,
        title=title,
        show=lambda console: _print(console, found, top),
        found=found,
        table=lambda: rows,
        figure=lambda: _figure(found, title),
    )


def _print(console: Console, found: WhichGrid, top: int) -> None:
    from tokenkl.cli.tables import print_table
    from tokenkl.codebooks.product import power_notation
    from tokenkl.readable import reach

    def text(gain: Estimate) -> str:
        half = float(reach(gain)) if gain.n_samples else 0.0
        return f"{float(gain.value):.2f}" + (f" ± {half:.2f}" if half > UNSEEN else "")

    shown = found.choices[:top]
    names: list[tuple[str, list[str]]] = [("choice", [one.name for one in shown])]
    names.append(("levels", [power_notation(one.levels) for one in shown]))
    columns: list[tuple[str, list[str]]] = [
        ("spacing", [str(one.spacing) for one in shown]),
        ("K", [f"{one.K:,}" for one in shown]),
    ]
    for name, head in COLUMNS.items():
        columns.append((head, [text(getattr(one, name)) for one in shown]))
    columns.append(("error\nthere", [f"{float(one.error.value):.2g}" for one in shown]))
    print_table(console, names, columns)
    console.print()
    for sentence in found.limits:
        console.print(sentence)


def _figure(found: WhichGrid, title: str) -> Figure:
    """Gains of every choice, at the error asked for and at one half."""
    from tokenkl import plotting
    from tokenkl.codebooks.product import power_notation

    figure, axes = plotting.new_figure(panel_height=0.8 + 0.3 * len(found.choices))
    panel = axes[0, 0]
    rows = range(len(found.choices))
    for shift, name, label in (
        (-0.2, "gain", f"error {found.error:.3g}"),
        (0.2, "gain_at_half", "error 0.5"),
    ):
        values = [float(getattr(one, name).value) for one in found.choices]
        colour = plotting.COLOURS[0 if name == "gain" else 1]
        panel.barh([row + shift for row in rows], values, height=0.38, color=colour, label=label)
    labels = [f"{one.name} {power_notation(one.levels)}" for one in found.choices]
    panel.set_yticks(list(rows), labels)
    panel.invert_yaxis()
    panel.set(xlabel="gain (dB)")
    panel.set_title(plotting.plain(title), loc="left", fontsize=8)
    figure.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return figure
