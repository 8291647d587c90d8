"""Tables in a terminal, and what commands say of codebooks and methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from tokenkl.estimate import Estimate, count_of
from tokenkl.information import Profile
from tokenkl.information.profiles import in_db
from tokenkl.quantities import QUANTITIES
from tokenkl.readable import MISSED, UNSUPPORTED, aligned

if TYPE_CHECKING:
    from tokenkl.codebooks import Codebook
    from tokenkl.information.pictures import Labelled

#: Unit -> how a head shows it; squared distance is the MMSE's only unit and goes to the caption.
UNITS = {"nats": "nats", "bits": "bits", "squared distance": "dist²"}

#: Tokens up to which nearest neighbours are looked for where no closed form gives them.
MAX_SEARCH = 2**16

#: Python writes no integer of more than 4300 decimal digits.
MAX_BITS = 10**4


def plain(estimate: Estimate) -> dict[str, Any]:
    """Values, errors and 95 % intervals, for JSON."""
    interval = estimate.confidence_interval(0.95)
    numbers = {
        "value": estimate.value,
        "standard_error": estimate.standard_error,
        "numerical_error": estimate.numerical_error,
        "interval_low": interval.low,
        "interval_high": interval.high,
    }
    return {name: np.asarray(number).tolist() for name, number in numbers.items()}


def missed_target(estimate: Estimate, rtol: float, atol: float) -> Any:
    """Where sampling stopped before the standard error that was asked for."""
    if not estimate.is_sampled or (rtol == 0 and atol == 0):
        return False
    # The factor leaves the rounding of a unit change out of the comparison.
    return estimate.standard_error > (atol + rtol * np.abs(estimate.value)) * (1 + 1e-9)


#: Head and one text for each row.
Column = tuple[str, list[str]]


def snr_columns(snr: np.ndarray, linear: bool) -> list[Column]:
    """The first column or two of a table: SNR in dB, and the ratio where that was typed."""
    columns = [("SNR\n(dB)", aligned([f"{value:.6g}" for value in in_db(snr)]))]
    if linear:
        columns.insert(0, ("SNR", aligned([f"{value:.6g}" for value in snr])))
    return columns


def axis_title(quantity: str, unit: str) -> str:
    """A quantity in one line, with its unit."""
    title = QUANTITIES[quantity].axis
    return f"{title} ({unit})" if unit else title


def quantity_title(estimate: Estimate, unit: bool = True) -> str:
    """Name of a quantity with its unit below."""
    title = QUANTITIES[estimate.quantity].title
    shown = UNITS.get(estimate.unit, "") if unit else ""
    return f"{title}\n({shown})" if shown else title


def print_table(console: Console, keys: Sequence[Column], columns: Sequence[Column]) -> None:
    """A table, or several below each other where the terminal is too narrow for one."""
    rest = list(columns)
    first = True
    while rest or first:
        count = len(rest)
        while count > 1 and _width(console, _table([*keys, *rest[:count]])) > console.width:
            count -= 1
        if not first:
            console.print()
        console.print(_table([*keys, *rest[:count]]))
        rest, first = rest[count:], False


def _table(columns: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title, _ in columns:
        table.add_column(title, no_wrap=True, vertical="bottom")
    for row in zip(*(texts for _, texts in columns), strict=True):
        table.add_row(*row)
    return table


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(width=10_000)).maximum


def print_pairs(console: Console, pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns without lines."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, value)
    console.print(table)


def method_lines(profiles: Sequence[Labelled]) -> list[str]:
    """How the numbers were found, one line for each way, and what the ± means."""
    ways: dict[str, list[tuple[str, str]]] = {}
    sampled = False
    for label, profile in profiles:
        for name, estimate in profile.estimates.items():
            way = str(estimate.method)
            if estimate.is_sampled:
                sampled = True
                way += f", {count_of(estimate, ',')} samples, seed {estimate.seed}"
            ways.setdefault(way, []).append((label, name))
    lines = []
    for way, found in ways.items():
        which = "" if len(ways) == 1 else f" on {_who(profiles, found)}"
        lines.append(f"Method{which}: {way}.")
    if sampled:
        lines.append("± reaches to the farther end of a 95 % interval; --csv and --json give both.")
    if any("mmse" in profile.estimates for _, profile in profiles):
        lines.append("MMSE in squared units of the coordinates (dist²).")
    return lines


def note_lines(profiles: Sequence[Labelled], rtol: float, atol: float) -> list[str]:
    """What the estimates say about themselves, and what the marks in the table stand for."""
    notes: dict[str, list[tuple[str, str]]] = {}
    unsupported = missed = False
    for label, profile in profiles:
        for name, estimate in profile.estimates.items():
            unsupported |= not np.all(estimate.interval_supported)
            missed |= bool(np.any(missed_target(estimate, rtol, atol)))
            if estimate.note:
                notes.setdefault(estimate.note, []).append((label, name))
    lines = []
    if unsupported:
        lines.append(f"{UNSUPPORTED} not a central-limit interval: see the note.")
    if missed:
        lines.append(f"{MISSED} the standard error that was asked for was not reached.")
    return lines + [f"Note on {_who(profiles, found)}: {note}." for note, found in notes.items()]


def footnotes(profiles: Sequence[Labelled], rtol: float, atol: float) -> list[str]:
    """How the numbers were found, and what is to be known about them."""
    return method_lines(profiles) + note_lines(profiles, rtol, atol)


def _who(profiles: Sequence[Labelled], found: Sequence[tuple[str, str]]) -> str:
    """Which quantities of which codebooks, as briefly as that can be said."""
    parts = []
    for label, profile in profiles:
        names = [name for owner, name in found if owner == label]
        if len(names) == len(profile.estimates):
            parts.append(label or "all quantities")
        elif names:
            parts.append(f"{label} ({_listed(names)})" if label else _listed(names))
    return ", ".join(parts)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ").replace("mmse", "MMSE") for name in names)


def describe(codebook: Codebook) -> str:
    """One line on a codebook: its label, size and prior."""
    size = f"{codebook.K:,}" if codebook.K < 10**15 else f"2^{math.log2(codebook.K):.1f}"
    prior = "equal priors" if codebook.has_equal_priors else "unequal priors"
    return f"{codebook.label}: K = {size} tokens in R^{codebook.n}, {prior}"


def findable(codebook: Codebook) -> tuple[str, ...]:
    """The quantities that something finds: of a lattice with too many tokens to list not all."""
    import tokenkl as tk

    def is_found(name: str) -> bool:
        try:
            tk.plan(codebook, 1.0, [name])
        except ValueError:
            return False
        return True

    return tuple(name for name in tk.QUANTITIES if codebook.fits or is_found(name))


def facts_on(codebook: Codebook) -> dict[str, Any]:
    """Everything that `info` shows, as plain numbers; None where it is not computed."""
    from tokenkl.information import exact_quantities
    from tokenkl.optimality import mean_nn_distance, min_distance

    equal = codebook.has_equal_priors
    # A K beyond float64 is fine for math.log, and equal priors need no sum over tokens.
    entropy = math.log(codebook.K) if equal else float(codebook.prior_entropy())
    perplexity = None if entropy > 709 else float(codebook.K) if equal else math.exp(entropy)
    distances: tuple[float | None, float | None] = None, None
    if codebook.K >= 2 and codebook.knows_distances:
        distances = min_distance(codebook), mean_nn_distance(codebook)
    elif 2 <= codebook.K <= MAX_SEARCH:
        found = codebook.nn_distances()  # once, since it may take a minute
        distances = float(found.min()), math.fsum(found) / found.size
    return {
        "codebook": codebook.label,
        "K": codebook.K if codebook.K.bit_length() <= MAX_BITS else None,
        "n": codebook.n,
        "bits": math.log2(codebook.K),
        "equal_priors": equal,
        "prior_entropy": entropy,
        "perplexity": perplexity,
        "average_power": codebook.average_power(),
        "box": codebook.largest_coordinate(),
        "min_distance": distances[0],
        "mean_nn_distance": distances[1],
        "exact_quantities": list(exact_quantities(codebook)),
    }


def shown_facts(facts: dict[str, Any], found: Sequence[str]) -> list[tuple[str, str]]:
    """The same for people, and how those quantities are found that can be."""
    K, exact = facts["K"], facts["exact_quantities"]
    power, digits = divmod(facts["bits"] * math.log10(2), 1)
    size = f"{10**digits:.3g}e+{power:.0f}" if K is None or K >= 10**30 else f"{K:,}"
    missing = "none, for a single token" if K == 1 else f"not computed above {MAX_SEARCH:,} tokens"
    rows = [
        ("codebook", facts["codebook"]),
        ("tokens K", f"{size} ({facts['bits']:.6g} bits)"),
        ("dimension n", f"{facts['n']:,}"),
        (
            "prior",
            ("equal" if facts["equal_priors"] else "unequal")
            + f", entropy {facts['prior_entropy']:.6g} nats"
            f" = {facts['prior_entropy'] / math.log(2):.6g} bits",
        ),
        (
            "perplexity",
            size if facts["equal_priors"] else _number(facts["perplexity"], "beyond float64"),
        ),
        ("average power", _number(facts["average_power"]) + " (trace of the covariance)"),
        ("box", _number(facts["box"]) + " (largest |coordinate|)"),
        ("min distance", _number(facts["min_distance"], missing)),
        (
            "mean distance D",
            _number(facts["mean_nn_distance"], missing)
            + (" (to the nearest neighbour)" if facts["mean_nn_distance"] is not None else ""),
        ),
    ]
    if len(exact) > 2:
        way = "exact, no sampling: all quantities"
    elif exact:
        way = f"exact: {', '.join(exact).replace('_', ' ')}; the others are sampled"
    elif "mmse" in found:
        way = "sampled (Monte-Carlo): all quantities"
    else:
        way = f"sampled: {_listed(found)}; the others need a list of all tokens"
    return [*rows, ("information", way)]


def _number(value: float | None, otherwise: str = "") -> str:
    return otherwise if value is None else f"{value:.6g}"


def frame_of(found: Profile) -> Any:
    """`Profile.to_frame` with the unit in the names of the columns that are in bits."""
    frame = found.to_frame()
    renamed = {}
    for name, estimate in found.estimates.items():
        if estimate.unit == "bits":
            for column in frame.columns:
                if column == name or column.startswith(f"{name}_"):
                    renamed[column] = f"{name}_bits{column[len(name) :]}"
    return frame.rename(columns=renamed)
