"""`tokenkl steps`, `sampler-kl`, `noise-schedule` and `recommend-levels`: designs for samplers."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tokenkl.cli._app import progress_bar
from tokenkl.cli._options import Bits, SampledSource, ScheduleName
from tokenkl.cli._result import FigureFiles, Result, command
from tokenkl.cli.which_grid import instead

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tokenkl._progress import Report
    from tokenkl.codebooks import Codebook
    from tokenkl.estimate import Estimate
    from tokenkl.optimality.design import NoiseSchedule
    from tokenkl.schedule import Schedule

#: Decibels of one unit of log(snr).
DECIBELS = 10 / math.log(10)


@dataclasses.dataclass(frozen=True)
class _Range:
    """Where sampling starts and stops."""

    start_db: Annotated[
        float, typer.Option("--start-db", metavar="DB", help="SNR where sampling starts, in dB.")
    ] = -30.0
    stop_db: Annotated[
        float, typer.Option("--stop-db", metavar="DB", help="SNR where sampling stops, in dB.")
    ] = 18.0

    def ends(self) -> tuple[float, float]:
        from tokenkl._validation import reject

        for option, value in (("--start-db", self.start_db), ("--stop-db", self.stop_db)):
            if not -300 <= value <= 300:
                reject(option, value, "between -300 and 300 dB")
        if self.stop_db <= self.start_db:
            reject("--stop-db", self.stop_db, f"above --start-db = {self.start_db:g}")
        return 10 ** (self.start_db / 10), 10 ** (self.stop_db / 10)


@dataclasses.dataclass(frozen=True)
class Steps:
    """The best grid, and its rivals by name; `snr` has the SNRs of all of them."""

    frame: dict[str, Any]
    kl: Estimate
    others: dict[str, Estimate]
    snr: dict[str, Any]


# ---- The best grid of steps ---------------------------------------------------------------------


@command(files=FigureFiles, short_help="The best grid of sampling steps.")
def steps(
    *,
    count: Annotated[int, typer.Option("--steps", min=1, metavar="N", help="Number of steps.")] = 8,
    span: _Range,
    schedule: ScheduleName = "linear-vp",
    source: SampledSource,
    bits: Bits = False,
) -> Result:
    """The grid of N sampling steps with the smallest path KL, beside the usual grids.

    The KL is that of the ancestral sampler with the exact denoiser, frozen on every step, against
    the true reverse process; --schedule turns the SNRs into times.

    \b
    Example: tokenkl steps fsq:3^8 --steps 8
    """
    import numpy as np

    import tokenkl as tk
    from tokenkl.cli.tables import describe
    from tokenkl.samplers.grids import STEP_GRIDS
    from tokenkl.schedule import parse_schedule

    chosen = parse_schedule(schedule)
    low, high = span.ends()
    made = source.make()
    how = {"method": _sampling(made, source.samples), "key": source.seed}
    with progress_bar(made.label) as progress:
        named = {name: make(count, low, high) for name, make in STEP_GRIDS.items()}
        how["beside"] = list(named.values())
        best = tk.optimal_steps(made, count, low, high, progress=progress, **how)
    assert best.beside is not None
    costs = best.beside
    kl, asymptotic = best.kl, np.array([best.asymptotic_kl, best.asymptotic_error])
    if bits:
        kl, costs, asymptotic = kl.bits, costs.bits, asymptotic / math.log(2)
    others = {name: costs[index] for index, name in enumerate(named)}
    times = _times(chosen, best.snr)
    record = {
        "specification": source.codebook,
        "codebook": made.label,
        "steps": count,
        "schedule": chosen.name,
        "snr": best.snr.tolist(),
        "t": times.tolist(),
        "unit": kl.unit,
        "path_kl": _plain(kl),
        "asymptotic_path_kl": float(asymptotic[0]),
        "asymptotic_path_kl_error": float(asymptotic[1]),
        "others": {name: _plain(other) for name, other in others.items()},
    }
    frame = {"step": np.arange(count + 1), "snr": best.snr, "snr_db": 10 * np.log10(best.snr)}
    frame["t"] = times
    rows = {"optimal": best.snr, **named}
    return Result(
        record,
        title=describe(made),
        show=lambda console: _print_steps(console, frame, kl, others, chosen),
        found=Steps(frame, kl, others, rows),
        table=lambda: frame,
        figure=lambda: figure_of_grids(rows, f"{describe(made)}: {count} steps"),
    )


def _print_steps(
    console: Console,
    frame: dict[str, Any],
    best: Estimate,
    others: dict[str, Estimate],
    schedule: Schedule,
) -> None:
    from tokenkl.cli.tables import print_pairs

    _print(console, frame, {"step": "step", "snr_db": "SNR\n(dB)", "snr": "SNR", "t": "t"})
    console.print()
    costs = [("optimal", shown(best))]
    for name, other in others.items():
        ratio = float(other.value) / float(best.value)
        costs.append((name, f"{shown(other)}, {ratio:.3g} times the optimum"))
    console.print(f"Path KL in {best.unit}")
    print_pairs(console, costs)
    console.print(f"t is that of {schedule.name}; uniform is uniform in t of LinearVP.")
    _print_method(console, best)


def figure_of_grids(rows: dict[str, Any], title: str) -> Figure:
    """Every grid of steps as a row of dots over the SNR."""
    import numpy as np

    from tokenkl import plotting

    figure, axes = plotting.new_figure(panel_height=1.6)
    panel = axes[0, 0]
    for index, snr in enumerate(rows.values()):
        style = plotting.line_style(index)
        panel.plot(10 * np.log10(snr), np.full(len(snr), -index), marker="o", markersize=3, **style)
    panel.set_yticks([-index for index in range(len(rows))], list(rows))
    panel.set_xlabel(plotting.AXIS_LABELS["snr_db"])
    panel.set_title(plotting.plain(title), loc="left", fontsize=8)
    return figure


# ---- What steps cost ----------------------------------------------------------------------------


@command("sampler-kl", files=FigureFiles, short_help="What N sampling steps cost.")
def sampler_kl(
    *,
    steps: Annotated[
        str, typer.Option("--steps", metavar="GRID", help="Numbers of steps: 1:16:1 or 4,8,16.")
    ] = "1,2,4,8,16,32,64",
    grid: Annotated[
        str, typer.Option(metavar="NAME", help="uniform, cosine, log-snr, edm or optimal.")
    ] = "cosine",
    span: _Range,
    start_scale: Annotated[
        float,
        typer.Option(metavar="X", help="Standard deviation of the start; the noise there is 1."),
    ] = 1.0,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="Posteriors are raised to 1/T in --token samplers.")
    ] = 1.0,
    token: Annotated[
        bool,
        typer.Option(
            "--token", help="Also KL and total variation of the produced token (DDIM and DDPM)."
        ),
    ] = False,
    source: SampledSource,
    bits: Bits = False,
) -> Result:
    """What N sampling steps cost: path KL, and with --token the law of the produced token.

    \b
    Example: tokenkl sampler-kl fsq:3^8 --steps 4,8,16 --grid log-snr
    """
    import tokenkl as tk
    from tokenkl._validation import check_choice
    from tokenkl.cli.tables import describe
    from tokenkl.samplers.grids import STEP_GRIDS

    Ns = counts_of(steps)
    check_choice(grid, (*STEP_GRIDS, "optimal"), "--grid")
    low, high = span.ends()
    made = source.make()
    how = {"method": _sampling(made, source.samples), "key": source.seed}
    with progress_bar(made.label) as progress:
        grids = _grids(made, grid, Ns, low, high, how)
        costs = {"path_kl": tk.ancestral_kl_curve(made, grids, progress=progress, **how)}
        start = tk.prior_mismatch(made, low, start=start_scale, **how)
        if token:
            how["method"] = _sampling(made, source.samples, law=True)
            options = {"temperature": temperature, "start": start_scale, **how}
            costs |= _laws(made, grids, options, progress)
    if bits:
        start = start.bits
        costs = {name: one.bits if one.unit == "nats" else one for name, one in costs.items()}
    record = {
        "specification": source.codebook,
        "codebook": made.label,
        "grid": grid,
        "unit": start.unit,
        "prior_mismatch": _plain(start),
        "N": Ns,
        "snr_grids": [one.tolist() for one in grids],
        **{name: _plain(one) for name, one in costs.items()},
    }
    return Result(
        record,
        title=describe(made),
        show=lambda console: _print_costs(console, Ns, costs, start),
        table=lambda: {"N": Ns} | with_intervals(costs),
        figure=lambda: _figure_of_costs(Ns, costs, describe(made)),
    )


def counts_of(text: str) -> list[int]:
    """Numbers of sampling steps, as they are typed."""
    from tokenkl._validation import reject
    from tokenkl.cli.typed import parse_grid

    numbers = parse_grid(text, "--steps", example="--steps 4,8,16")
    if (numbers % 1 != 0).any() or (numbers < 1).any() or (numbers > 10**4).any():
        reject("--steps", repr(text), "whole numbers from 1 to 10000")
    return [int(N) for N in numbers]


def _grids(
    codebook: Codebook, grid: str, Ns: list[int], low: float, high: float, how: dict[str, Any]
) -> list[Any]:
    import tokenkl as tk

    if grid == "optimal":
        return [one.snr for one in tk.optimal_step_grids(codebook, Ns, low, high, **how)]
    return [tk.step_grid(grid, N, low, high) for N in Ns]


def _laws(
    codebook: Codebook, grids: list[Any], options: dict[str, Any], progress: Report
) -> dict[str, Estimate]:
    """How far from the prior the produced tokens are, for every grid and both samplers."""
    import tokenkl as tk

    found = {}
    for sampler in ("ddim", "ddpm"):
        laws = []
        for number, one in enumerate(grids):
            laws.append(tk.produced_law(codebook, one, sampler=sampler, **options))
            progress(number + 1, len(grids))
        found[f"{sampler}_token_kl"] = tk.Estimate.stack([law.kl for law in laws])
        found[f"{sampler}_tv"] = tk.Estimate.stack([law.total_variation for law in laws])
    return found


def with_intervals(costs: dict[str, Estimate]) -> dict[str, Any]:
    """Columns of values with their 95 % intervals; what is in bits says so."""
    columns: dict[str, Any] = {}
    for name, one in costs.items():
        interval = one.confidence_interval(0.95)
        label = f"{name}_bits" if one.unit == "bits" else name
        columns |= {label: one.value, f"{label}_low": interval.low, f"{label}_high": interval.high}
    return columns


def _print_costs(
    console: Console, Ns: list[int], costs: dict[str, Estimate], start: Estimate
) -> None:
    heads = {
        "path_kl": f"path KL\n({start.unit})",
        "ddim_token_kl": f"token KL\nDDIM ({start.unit})",
        "ddim_tv": "total var.\nDDIM",
        "ddpm_token_kl": f"token KL\nDDPM ({start.unit})",
        "ddpm_tv": "total var.\nDDPM",
    }
    texts = {name: [shown(one[i]) for i in range(len(Ns))] for name, one in costs.items()}
    _print(console, {"N": Ns, **texts}, {"N": "steps", **{name: heads[name] for name in costs}})
    console.print()
    console.print(f"Prior mismatch at the start: {shown(start)} {start.unit}.")
    for name, one in costs.items():
        if name.endswith("_kl"):
            _print_method(console, one)


def _figure_of_costs(Ns: list[int], costs: dict[str, Estimate], title: str) -> Figure:
    from tokenkl import plotting

    figure, axes = plotting.new_figure()
    panel = axes[0, 0]
    labels = {"path_kl": "path", "ddim_token_kl": "token, DDIM", "ddpm_token_kl": "token, DDPM"}
    for (name, label), colour in zip(labels.items(), plotting.COLOURS, strict=False):
        if name in costs:
            panel.plot(Ns, costs[name].value, "o-", label=label, markersize=3, color=colour)
    panel.set(xscale="log", yscale="log", xlabel="sampling steps N")
    panel.set_ylabel(f"KL ({costs['path_kl'].unit})")
    panel.set_xticks(Ns, [str(N) for N in Ns])
    panel.minorticks_off()
    panel.legend(fontsize=7, frameon=False)
    panel.set_title(plotting.plain(title), loc="left", fontsize=8)
    return figure


# ---- Noise for training -------------------------------------------------------------------------


@command("noise-schedule", files=FigureFiles, short_help="Which noise levels to train on.")
def noise_schedule(
    *,
    points: Annotated[
        int, typer.Option(min=2, metavar="M", help="Number of equal parts of the information.")
    ] = 10,
    schedule: ScheduleName = "linear-vp",
    source: SampledSource,
    bits: Bits = False,
) -> Result:
    """Noise levels that split the information about a token into equal parts.

    Training noise drawn uniformly in u and read off this table (SNR or time t of a schedule) spends
    equal effort on equal information. The weight is the density of t under this law; with t uniform
    in [0, 1] it is 1.

    \b
    Example: tokenkl noise-schedule fsq:3^8 --schedule cosine-vp
    """
    import tokenkl as tk
    from tokenkl.cli.tables import describe
    from tokenkl.schedule import parse_schedule

    chosen = parse_schedule(schedule)
    made = source.make()
    with progress_bar(made.label) as progress:
        law = tk.information_uniform_schedule(
            made, method=_sampling(made, source.samples), key=source.seed, progress=progress
        )
    columns = _parts(law, points, chosen)
    unit, size = ("bits", math.log(2)) if bits else ("nats", 1.0)
    information = law.information / size
    amount = f"{information:.6g} {unit}"
    record = {
        "specification": source.codebook,
        "codebook": made.label,
        "schedule": chosen.name,
        "unit": unit,
        "information": information,
        "numerical_error": law.numerical_error,
        "standard_error": law.standard_error,
        **{name: column.tolist() for name, column in columns.items()},
    }
    return Result(
        record,
        title=describe(made),
        show=lambda console: _print_parts(console, columns, law, chosen, amount),
        found=(law, columns),
        table=lambda: columns,
        figure=lambda: figure_of_density(law, describe(made)),
    )


def _parts(law: NoiseSchedule, count: int, schedule: Schedule) -> dict[str, Any]:
    """The ends of equal parts of the information, and the density and weight of noise there."""
    import numpy as np

    u = np.arange(count + 1) / count
    x = law.quantile(u)
    t = _times(schedule, np.exp(x))
    inside = np.isfinite(t)
    weight = np.where(inside, law.weight(schedule, np.where(inside, t, 0.5)), np.nan)
    return {
        "information_share": u,
        "snr_db": DECIBELS * x,
        "snr": np.exp(x),
        "density_per_db": law.density(x) / DECIBELS,
        "t": t,
        "weight": weight,
    }


def _print_parts(
    console: Console,
    columns: dict[str, Any],
    law: NoiseSchedule,
    schedule: Schedule,
    amount: str,
) -> None:
    import numpy as np

    heads = {
        "information_share": "share of\ninformation",
        "snr_db": "SNR\n(dB)",
        "density_per_db": "density\n(per dB)",
        "t": "t",
        "weight": "weight\nof t",
    }
    _print(console, columns, heads)
    console.print()
    reached = np.isfinite(columns["t"]).all()
    missing = "" if reached else "; a dash where it does not reach that SNR"
    console.print(f"Information in all: {amount}; t is that of {schedule.name}{missing}.")
    if law.standard_error:
        console.print(f"Sampled: shares have a standard error of {law.standard_error:.2g}.")


def figure_of_density(law: NoiseSchedule, title: str) -> Figure:
    import numpy as np

    from tokenkl import plotting

    figure, axes = plotting.new_figure()
    panel = axes[0, 0]
    x = np.linspace(law.log_snr[0], law.log_snr[-1], 400)
    panel.plot(DECIBELS * x, law.density(x) / DECIBELS)
    panel.set(xlabel=plotting.AXIS_LABELS["snr_db"], ylabel="share of the information per dB")
    panel.set_title(plotting.plain(title), loc="left", fontsize=8)
    return figure


# ---- Levels for a budget ------------------------------------------------------------------------


@command("recommend-levels", files=FigureFiles, epilog=None, short_help="FSQ levels for a budget.")
def recommend_levels(
    *,
    budget_tokens: Annotated[
        int | None, typer.Option(metavar="K", help="Most tokens; or --budget-bits.")
    ] = None,
    budget_bits: Annotated[float | None, typer.Option(metavar="B", help="Most bits.")] = None,
    instead_of: Annotated[
        str | None,
        typer.Option(metavar="LEVELS", help="A level set to replace, such as 8,5,5,5; no budget."),
    ] = None,
    coordinates: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="With --budget-tokens: what to take for both."),
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(metavar="P", help="Token error at which these are compared; or --snr-db."),
    ] = None,
    constraint: Annotated[
        str, typer.Option(metavar="NAME", help="For these: in the same box, or at equal power.")
    ] = "box",
    snr_db: Annotated[
        float | None,
        typer.Option(metavar="DB", help="SNR at which grids are compared, in dB; 10 for a budget."),
    ] = None,
    n_min: Annotated[int, typer.Option(min=1, metavar="N", help="Fewest coordinates.")] = 1,
    n_max: Annotated[int, typer.Option(min=1, metavar="N", help="Most coordinates.")] = 12,
    power: Annotated[
        float | None,
        typer.Option(metavar="X", help="Average power of every grid; without, in a box."),
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="NAME", help="information, accuracy or information_per_bit.")
    ] = "information",
    top: Annotated[int, typer.Option(min=1, metavar="M", help="How many to show.")] = 10,
    seed: Annotated[
        int, typer.Option(min=0, metavar="SEED", help="Of what is sampled with --instead-of.")
    ] = 0,
) -> Result:
    """The FSQ grids within a budget that tell most about the token at one noise level.

    With --instead-of, or --coordinates and --budget-tokens: what else to take for the same
    tokens and coordinates (balanced levels, equal spacing, checkerboards, cuts of lattices), with
    the SNR that each saves at equal token error.

    \b
    Example: tokenkl recommend-levels --budget-tokens 6561 --n-max 8 --snr-db 10
    Example: tokenkl recommend-levels --instead-of 8,5,5,5 --error 0.01 --constraint power
    """
    import tokenkl as tk
    from tokenkl._validation import reject
    from tokenkl.codebooks.product import power_notation

    if instead_of is not None or coordinates is not None:
        if budget_bits is not None or power is not None:
            reject("--budget-bits and --power", "given", "left out with --instead-of")
        return instead(
            levels=instead_of,
            n=coordinates,
            K=budget_tokens,
            error=error,
            snr_db=snr_db,
            constraint=constraint,
            seed=seed,
            top=top,
        )
    if error is not None:
        reject("--error", error, "given with --instead-of or --coordinates")
    snr_db = 10.0 if snr_db is None else snr_db
    found = tk.recommend_levels(
        budget_tokens=budget_tokens,
        budget_bits=budget_bits,
        n_range=(n_min, n_max),
        snr=10 ** (snr_db / 10),
        power=power,
        by=by,
        top=top,
    )
    grids = [
        {
            "levels": power_notation(one.levels),
            "n": one.n,
            "K": one.K,
            "bits": one.bits,
            "information_bits": one.information / math.log(2),
            "entropy_left_bits": one.conditional_entropy / math.log(2),
            "accuracy": one.accuracy,
        }
        for one in found
    ]
    where = "in the box [-1, 1]^n" if power is None else f"at average power {power:g}"
    return Result(
        record={"snr_db": snr_db, "power": power, "by": by, "grids": grids},
        title=f"FSQ grids at {snr_db:g} dB, {where}",
        show=lambda console: _print_levels(console, grids),
        found=grids,
        table=lambda: grids,
        figure=lambda: _figure_of_levels(grids, snr_db),
    )


def _print_levels(console: Console, grids: list[dict[str, Any]]) -> None:
    from tokenkl.readable import format_exact

    heads = {name: name for name in grids[0]}
    heads |= {
        "information_bits": "information\n(bits)",
        "entropy_left_bits": "entropy left\n(bits)",
    }
    columns = {name: [one[name] for one in grids] for name in heads}
    exact = list(heads)[3:]
    columns |= {name: [format_exact(value, 0.0) for value in columns[name]] for name in exact}
    _print(console, columns, heads)


def _figure_of_levels(grids: list[dict[str, Any]], snr_db: float) -> Figure:
    from tokenkl import plotting

    figure, axes = plotting.new_figure(panel_height=0.8 + 0.2 * len(grids))
    panel = axes[0, 0]
    rows = range(len(grids))
    panel.barh(rows, [one["bits"] for one in grids], color="#DDDDDD", label="token")
    values = [one["information_bits"] for one in grids]
    panel.barh(rows, values, color=plotting.COLOURS[0], label="information left")
    panel.set_yticks(list(rows), [one["levels"] for one in grids])
    panel.invert_yaxis()
    panel.set(xlabel=f"bits at {snr_db:g} dB")
    figure.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return figure


# ---- Pieces -----------------------------------------------------------------------------------


def _sampling(codebook: Codebook, samples: int | None, *, law: bool = False) -> Any:
    """Settings where something has to be sampled: the MMSE, or paths for the `law` of tokens."""
    from tokenkl import MonteCarlo
    from tokenkl._validation import reject
    from tokenkl.cli.tables import findable
    from tokenkl.information import exact_quantities

    if "mmse" not in findable(codebook):
        expected = "one whose MMSE is found, which for a lattice needs a list of all tokens"
        reject("CODEBOOK", codebook.label, expected)
    exact = codebook.factors is not None if law else "mmse" in exact_quantities(codebook)
    return None if samples is None or exact else MonteCarlo(n_samples=samples)


def _times(schedule: Schedule, snr: Any) -> Any:
    """Times of a schedule; NaN where it does not reach an SNR."""
    import numpy as np

    low, high = schedule.snr_range
    inside = (snr >= low) & (snr <= high)
    middle = float(schedule.snr(0.5))
    return np.where(inside, schedule.t_from_snr(np.where(inside, snr, middle)), np.nan)


def _plain(estimate: Estimate) -> dict[str, Any]:
    import numpy as np

    from tokenkl.cli.tables import plain

    how = {
        "n_samples": np.asarray(estimate.n_samples).tolist(),
        "method": estimate.method.to_json(),
    }
    return plain(estimate) | how | {"note": estimate.note}


def shown(estimate: Estimate) -> str:
    from tokenkl.readable import UNSUPPORTED, format_exact, format_sampled, reach

    value = float(estimate.value)
    if not estimate.n_samples:
        return format_exact(value, float(estimate.numerical_error))
    if not estimate.interval_supported:
        return f"{value:.3g}{UNSUPPORTED}"
    return format_sampled(value, float(reach(estimate)))


def _print_method(console: Console, estimate: Estimate) -> None:
    import numpy as np

    from tokenkl.readable import UNSUPPORTED

    how = f", {estimate.n_samples:,} samples, seed {estimate.seed}" if estimate.n_samples else ""
    reach = "; ± reaches to the farther end of a 95 % interval" if how else ""
    console.print(f"{estimate.quantity}: {estimate.method}{how}{reach}.")
    if not np.all(estimate.interval_supported):
        console.print(f"{UNSUPPORTED} no interval: {estimate.note}.")


def _print(console: Console, columns: Any, heads: dict[str, str]) -> None:
    """The columns named in `heads`, as a table."""
    from tokenkl.cli.tables import print_table

    def text(value: Any) -> str:
        if isinstance(value, float):
            return "-" if math.isnan(value) else f"{value:.5g}"
        return str(value)

    names = list(heads)
    table = [(heads[name], [text(value) for value in columns[name]]) for name in names]
    print_table(console, table[:1], table[1:])
