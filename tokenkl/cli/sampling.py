"""`tokenkl steps`, `sampler-kl`, `noise-schedule` and `recommend-levels`: designs for samplers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenkl.cli._app import (
    EPILOG,
    Bits,
    CodebookArgument,
    Csv,
    Json,
    Plot,
    PriorFile,
    Samples,
    Seed,
    Smoothing,
    TokensFile,
    app,
    check_outputs,
    progress_bar,
    say_written,
    stdout,
    write_outputs,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from tokenkl.codebooks import Codebook
    from tokenkl.estimate import Estimate

StartDb = Annotated[
    float, typer.Option("--start-db", metavar="DB", help="SNR where sampling starts, in dB.")
]
StopDb = Annotated[
    float, typer.Option("--stop-db", metavar="DB", help="SNR where sampling stops, in dB.")
]
ScheduleName = Annotated[
    str,
    typer.Option(
        "--schedule",
        metavar="NAME",
        help="linear-vp, cosine-vp, beta-vp, sub-vp, ve, edm or flow-matching; parameters after a "
        "colon, as in beta-vp:0.05,20.",
    ),
]


@app.command(short_help="The best grid of sampling steps.", epilog=EPILOG)
def steps(
    codebook: CodebookArgument,
    count: Annotated[int, typer.Option("--steps", min=1, metavar="N", help="Number of steps.")] = 8,
    start_db: StartDb = -30.0,
    stop_db: StopDb = 18.0,
    schedule: ScheduleName = "linear-vp",
    prior: PriorFile = None,
    tokens: TokensFile = None,
    smoothing: Smoothing = None,
    seed: Seed = 0,
    samples: Samples = None,
    csv: Csv = None,
    json_file: Json = None,
    plot: Plot = None,
) -> None:
    """The grid of N sampling steps with the smallest path KL, beside the usual grids.

    The KL is that of the ancestral sampler with the exact denoiser, frozen on every step, against
    the true reverse process; --schedule turns the SNRs into times.

    \b
    Example: tokenkl steps fsq:3^8 --steps 8
    """
    import numpy as np

    import tokenkl as tk
    from tokenkl.cli.tables import describe, print_pairs
    from tokenkl.samplers.grids import STEP_GRIDS
    from tokenkl.schedule import parse_schedule

    chosen = parse_schedule(schedule)
    low, high = _range(start_db, stop_db)
    check_outputs(csv, json_file, plot)
    made = _codebook(codebook, seed, prior, tokens, smoothing)
    with progress_bar(made.label) as progress:
        best = tk.optimal_steps(
            made, count, low, high, method=_sampling(made, samples), key=seed, progress=progress
        )
        named = {name: make(count, low, high) for name, make in STEP_GRIDS.items()}
        others = tk.ancestral_kl_curve(
            made, list(named.values()), method=_sampling(made, samples), key=seed, progress=progress
        )
    frame = _frame(
        step=np.arange(count + 1),
        snr=best.snr,
        snr_db=10 * np.log10(best.snr),
        t=_times(chosen, best.snr),
    )
    record = {
        "specification": codebook,
        "codebook": made.label,
        "steps": count,
        "schedule": chosen.name,
        "snr": best.snr.tolist(),
        "t": frame["t"].tolist(),
        "path_kl": _plain(best.kl),
        "asymptotic_path_kl": float(best.asymptotic_kl),
        "asymptotic_path_kl_error": float(best.asymptotic_error),
        "others": {name: _plain(others[i]) for i, name in enumerate(named)},
    }
    rows = [("optimal", best.snr), *named.items()]
    title = f"{describe(made)}: {count} steps"
    write_outputs(
        (csv, lambda file: frame.to_csv(file, index=False)),
        (plot, lambda path: _plot_lines(path, rows, title)),
        (json_file, record),
    )
    if "-" not in (csv, json_file):
        console = stdout()
        console.print(describe(made), style="bold")
        console.print()
        _print(frame, {"step": "step", "snr_db": "SNR\n(dB)", "snr": "SNR", "t": "t"})
        console.print()
        costs = [("optimal", _shown(best.kl))]
        for index, name in enumerate(named):
            ratio = float(others.value[index]) / float(best.kl.value)
            costs.append((name, f"{_shown(others[index])}, {ratio:.3g} times the optimum"))
        console.print("Path KL in nats")
        print_pairs(console, costs)
        console.print(f"t is that of {chosen.name}; uniform is uniform in t of LinearVP.")
        _print_method(best.kl)
    say_written(csv, json_file, plot)


@app.command("sampler-kl", short_help="What N sampling steps cost.", epilog=EPILOG)
def sampler_kl(
    codebook: CodebookArgument,
    counts: Annotated[
        str, typer.Option("--steps", metavar="GRID", help="Numbers of steps: 1:16:1 or 4,8,16.")
    ] = "1,2,4,8,16,32,64",
    grid: Annotated[
        str,
        typer.Option(metavar="NAME", help="uniform, cosine, log-snr, edm or optimal."),
    ] = "cosine",
    start_db: StartDb = -30.0,
    stop_db: StopDb = 18.0,
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
    prior: PriorFile = None,
    tokens: TokensFile = None,
    smoothing: Smoothing = None,
    seed: Seed = 0,
    samples: Samples = None,
    bits: Bits = False,
    csv: Csv = None,
    json_file: Json = None,
    plot: Plot = None,
) -> None:
    """What N sampling steps cost: path KL, and with --token the law of the produced token.

    \b
    Example: tokenkl sampler-kl fsq:3^8 --steps 4,8,16 --grid log-snr
    """
    import numpy as np

    import tokenkl as tk
    from tokenkl._validation import check_choice, reject
    from tokenkl.cli.tables import describe
    from tokenkl.cli.typed import parse_grid
    from tokenkl.samplers.grids import STEP_GRIDS

    numbers = parse_grid(counts, "--steps", example="--steps 4,8,16")
    if (numbers != np.round(numbers)).any() or (numbers < 1).any() or (numbers > 10**4).any():
        reject("--steps", repr(counts), "whole numbers from 1 to 10000")
    check_choice(grid, (*STEP_GRIDS, "optimal"), "--grid")
    low, high = _range(start_db, stop_db)
    check_outputs(csv, json_file, plot)
    made = _codebook(codebook, seed, prior, tokens, smoothing)
    method = _sampling(made, samples)
    Ns = [int(N) for N in numbers]
    columns: dict[str, Estimate] = {}
    with progress_bar(made.label) as progress:
        if grid == "optimal":
            best = tk.optimal_step_grids(made, Ns, low, high, method=method, key=seed)
            grids = [one.snr for one in best]
        else:
            grids = [tk.step_grid(grid, N, low, high) for N in Ns]
        columns["path_kl"] = tk.ancestral_kl_curve(
            made, grids, method=method, key=seed, progress=progress
        )
        start = tk.prior_mismatch(made, low, start=start_scale, method=method, key=seed)
        laws: dict[str, list[Any]] = {"ddim": [], "ddpm": []}
        options: dict[str, Any] = {"temperature": temperature, "start": start_scale}
        options |= {"method": _sampling(made, samples, law=True), "key": seed}
        if token:
            for name, found in laws.items():
                for number, one in enumerate(grids):
                    law = tk.produced_law(made, one, sampler=name, **options)
                    found.append(law)
                    progress(number + 1, len(grids))
    texts: dict[str, Any] = {"N": Ns}
    frame: dict[str, Any] = {"N": Ns}
    unit = "bits" if bits else "nats"
    for name, found in laws.items():
        if found:
            columns[f"{name}_token_kl"] = tk.Estimate.stack([law.kl for law in found])
            columns[f"{name}_tv"] = tk.Estimate.stack([law.total_variation for law in found])
    for name, estimate in columns.items():
        shown = estimate.bits if bits and estimate.unit == "nats" else estimate
        interval = shown.confidence_interval(0.95)
        label = f"{name}_bits" if shown.unit == "bits" else name
        frame |= {
            label: shown.value,
            f"{label}_low": interval.low,
            f"{label}_high": interval.high,
        }
        texts[name] = [_shown(shown[i]) for i in range(len(Ns))]
    table = _frame(**frame)
    start = start.bits if bits else start
    record = {
        "specification": codebook,
        "codebook": made.label,
        "grid": grid,
        "unit": unit,
        "prior_mismatch": _plain(start),
        "N": Ns,
        "snr_grids": [one.tolist() for one in grids],
        **{name: _plain(estimate) for name, estimate in columns.items()},
    }
    write_outputs(
        (csv, lambda file: table.to_csv(file, index=False)),
        (plot, lambda path: _plot_costs(path, Ns, columns, describe(made), bits)),
        (json_file, record),
    )
    if "-" not in (csv, json_file):
        console = stdout()
        console.print(describe(made), style="bold")
        console.print()
        heads = {
            "N": "steps",
            "path_kl": f"path KL\n({unit})",
            "ddim_token_kl": f"token KL\nDDIM ({unit})",
            "ddim_tv": "total var.\nDDIM",
            "ddpm_token_kl": f"token KL\nDDPM ({unit})",
            "ddpm_tv": "total var.\nDDPM",
        }
        _print(texts, {name: heads[name] for name in texts})
        console.print()
        console.print(f"Prior mismatch at the start: {_shown(start)} {unit}.")
        for name in ("path_kl", *(f"{name}_token_kl" for name, found in laws.items() if found)):
            _print_method(columns[name])
    say_written(csv, json_file, plot)


@app.command("noise-schedule", short_help="Which noise levels to train on.", epilog=EPILOG)
def noise_schedule(
    codebook: CodebookArgument,
    points: Annotated[
        int, typer.Option(min=2, metavar="M", help="Number of equal parts of the information.")
    ] = 10,
    schedule: ScheduleName = "linear-vp",
    prior: PriorFile = None,
    tokens: TokensFile = None,
    smoothing: Smoothing = None,
    seed: Seed = 0,
    samples: Samples = None,
    csv: Csv = None,
    json_file: Json = None,
    plot: Plot = None,
) -> None:
    """Noise levels that split the information about a token into equal parts.

    Training noise drawn uniformly in u and read off this table (SNR or time t of a schedule) spends
    equal effort on equal information. The weight is the density of t under this law; with t uniform
    in [0, 1] it is 1.

    \b
    Example: tokenkl noise-schedule fsq:3^8 --schedule cosine-vp
    """
    import numpy as np

    import tokenkl as tk
    from tokenkl.cli.tables import describe
    from tokenkl.schedule import parse_schedule

    chosen = parse_schedule(schedule)
    check_outputs(csv, json_file, plot)
    made = _codebook(codebook, seed, prior, tokens, smoothing)
    with progress_bar(made.label) as progress:
        law = tk.information_uniform_schedule(
            made, method=_sampling(made, samples), key=seed, progress=progress
        )
    u = np.arange(points + 1) / points
    x = law.quantile(u)
    t = _times(chosen, np.exp(x))
    inside = np.isfinite(t)
    weight = np.where(inside, law.weight(chosen, np.where(inside, t, 0.5)), np.nan)
    decibels = 10 / math.log(10)
    frame = _frame(
        information_share=u,
        snr_db=decibels * x,
        snr=np.exp(x),
        density_per_db=law.density(x) / decibels,
        t=t,
        weight=weight,
    )
    record = {
        "specification": codebook,
        "codebook": made.label,
        "schedule": chosen.name,
        "information_nats": law.information,
        "numerical_error": law.numerical_error,
        "standard_error": law.standard_error,
        **{name: frame[name].tolist() for name in frame},
    }
    write_outputs(
        (csv, lambda file: frame.to_csv(file, index=False)),
        (plot, lambda path: _plot_density(path, law, describe(made))),
        (json_file, record),
    )
    if "-" not in (csv, json_file):
        console = stdout()
        console.print(describe(made), style="bold")
        console.print()
        _print(
            frame,
            {
                "information_share": "share of\ninformation",
                "snr_db": "SNR\n(dB)",
                "density_per_db": "density\n(per dB)",
                "t": "t",
                "weight": "weight\nof t",
            },
        )
        console.print()
        missing = "; a dash where it does not reach that SNR" if not inside.all() else ""
        console.print(f"t is that of {chosen.name}{missing}.")
        if law.standard_error:
            console.print(f"Sampled: shares have a standard error of {law.standard_error:.2g}.")
    say_written(csv, json_file, plot)


@app.command("recommend-levels", short_help="FSQ levels for a budget.")
def recommend_levels(
    budget_tokens: Annotated[
        int | None, typer.Option(metavar="K", help="Most tokens; or --budget-bits.")
    ] = None,
    budget_bits: Annotated[float | None, typer.Option(metavar="B", help="Most bits.")] = None,
    snr_db: Annotated[
        float, typer.Option(metavar="DB", help="SNR at which grids are compared, in dB.")
    ] = 10.0,
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
    csv: Csv = None,
    json_file: Json = None,
    plot: Plot = None,
) -> None:
    """The FSQ grids within a budget that tell most about the token at one noise level.

    \b
    Example: tokenkl recommend-levels --budget-tokens 6561 --n-max 8 --snr-db 10
    """
    import tokenkl as tk
    from tokenkl.cli.tables import format_exact
    from tokenkl.codebooks.product import power_notation

    check_outputs(csv, json_file, plot)
    found = tk.recommend_levels(
        budget_tokens=budget_tokens,
        budget_bits=budget_bits,
        n_range=(n_min, n_max),
        snr=10 ** (snr_db / 10),
        power=power,
        by=by,
        top=top,
    )
    frame = _frame(
        levels=[power_notation(one.levels) for one in found],
        n=[one.n for one in found],
        K=[one.K for one in found],
        bits=[one.bits for one in found],
        information_bits=[one.information / math.log(2) for one in found],
        entropy_left_bits=[one.conditional_entropy / math.log(2) for one in found],
        accuracy=[one.accuracy for one in found],
    )
    record = {
        "snr_db": snr_db,
        "power": power,
        "by": by,
        "grids": frame.to_dict(orient="records"),
    }
    write_outputs(
        (csv, lambda file: frame.to_csv(file, index=False)),
        (plot, lambda path: _plot_choices(path, found, snr_db)),
        (json_file, record),
    )
    if "-" not in (csv, json_file):
        console = stdout()
        where = "in the box [-1, 1]^n" if power is None else f"at average power {power:g}"
        console.print(f"FSQ grids at {snr_db:g} dB, {where}", style="bold")
        console.print()
        shown = frame.copy()
        for name in ("bits", "information_bits", "entropy_left_bits", "accuracy"):
            shown[name] = [format_exact(value, 0.0) for value in frame[name]]
        _print(
            shown,
            {
                "levels": "levels",
                "n": "n",
                "K": "K",
                "bits": "bits",
                "information_bits": "information\n(bits)",
                "entropy_left_bits": "entropy left\n(bits)",
                "accuracy": "accuracy",
            },
        )
    say_written(csv, json_file, plot)


# ---- Pieces -----------------------------------------------------------------------------------


def _codebook(spec: str, seed: int, prior: Any, tokens: Any, smoothing: Any) -> Codebook:
    from tokenkl.cli.typed import parse_prior
    from tokenkl.codebooks.grammar import parse_codebook

    return parse_codebook(spec, seed=seed, prior=parse_prior(prior, tokens, smoothing))


def _sampling(codebook: Codebook, samples: int | None, *, law: bool = False) -> Any:
    """Settings where something has to be sampled: the MMSE, or paths for the `law` of tokens."""
    from tokenkl import MonteCarlo
    from tokenkl.information import exact_quantities

    exact = codebook.factors is not None if law else "mmse" in exact_quantities(codebook)
    return None if samples is None or exact else MonteCarlo(n_samples=samples)


def _range(start_db: float, stop_db: float) -> tuple[float, float]:
    from tokenkl._validation import reject

    for option, value in (("--start-db", start_db), ("--stop-db", stop_db)):
        if not -300 <= value <= 300:
            reject(option, value, "between -300 and 300 dB")
    if stop_db <= start_db:
        reject("--stop-db", stop_db, f"above --start-db = {start_db:g}")
    return 10 ** (start_db / 10), 10 ** (stop_db / 10)


def _times(schedule: Any, snr: Any) -> Any:
    """Times of a schedule; NaN where it does not reach an SNR."""
    import numpy as np

    low, high = schedule.snr_range
    inside = (snr >= low) & (snr <= high)
    middle = float(schedule.snr(0.5))
    return np.where(inside, schedule.t_from_snr(np.where(inside, snr, middle)), np.nan)


def _frame(**columns: Any) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns)


def _plain(estimate: Estimate) -> dict[str, Any]:
    import numpy as np

    interval = estimate.confidence_interval(0.95)
    numbers = {
        "value": estimate.value,
        "standard_error": estimate.standard_error,
        "numerical_error": estimate.numerical_error,
        "interval_low": interval.low,
        "interval_high": interval.high,
        "n_samples": estimate.n_samples,
    }
    words = {"method": estimate.method, "note": estimate.note}
    return {name: np.asarray(value).tolist() for name, value in numbers.items()} | words


def _shown(estimate: Estimate) -> str:
    from tokenkl.cli.tables import UNSUPPORTED, format_exact, format_sampled, reach

    value = float(estimate.value)
    if not estimate.n_samples:
        return format_exact(value, float(estimate.numerical_error))
    if not estimate.interval_supported:
        return f"{value:.3g}{UNSUPPORTED}"
    return format_sampled(value, float(reach(estimate)))


def _print_method(estimate: Estimate) -> None:
    import numpy as np

    from tokenkl.cli.tables import UNSUPPORTED

    console = stdout()
    how = f", {estimate.n_samples:,} samples, seed {estimate.seed}" if estimate.n_samples else ""
    reach = "; ± reaches to the farther end of a 95 % interval" if how else ""
    console.print(f"{estimate.quantity}: {estimate.method}{how}{reach}.")
    if not np.all(estimate.interval_supported):
        console.print(f"{UNSUPPORTED} no interval: {estimate.note}.")


def _print(columns: Any, heads: dict[str, str]) -> None:
    """The columns named in `heads`, as a table."""
    from tokenkl.cli.tables import print_table

    def text(value: Any) -> str:
        if isinstance(value, float):
            return "-" if math.isnan(value) else f"{value:.5g}"
        return str(value)

    console = stdout()
    names = list(heads)
    table = [(heads[name], [text(value) for value in columns[name]]) for name in names]
    print_table(console, table[:1], table[1:])


def _plot_lines(target: Any, rows: Sequence[tuple[str, Any]], title: str) -> None:
    """Every grid of steps as a row of dots over the SNR."""
    import numpy as np

    from tokenkl import plotting

    figure, axes = plotting.new_figure(width=plotting.PAGE, panel_height=1.8)
    panel = axes[0, 0]
    for index, (_, snr) in enumerate(rows):
        style = plotting.line_style(index)
        panel.plot(10 * np.log10(snr), np.full(len(snr), -index), marker="o", markersize=3, **style)
    panel.set_yticks([-index for index in range(len(rows))], [name for name, _ in rows])
    panel.set_xlabel(plotting.AXIS_LABELS["snr_db"])
    panel.set_title(title, loc="left", fontsize=8)
    plotting.save_figure(figure, target)


def _plot_costs(
    target: Any, Ns: list[int], columns: dict[str, Estimate], title: str, bits: bool
) -> None:
    from tokenkl import plotting

    figure, axes = plotting.new_figure()
    panel = axes[0, 0]
    labels = {"path_kl": "path", "ddim_token_kl": "token, DDIM", "ddpm_token_kl": "token, DDPM"}
    for index, (name, label) in enumerate(labels.items()):
        if name in columns:
            shown = columns[name].bits if bits else columns[name]
            panel.plot(Ns, shown.value, "o-", label=label, markersize=3, **_colour(index))
    panel.set(xscale="log", yscale="log", xlabel="sampling steps N")
    panel.set_ylabel(f"KL ({'bits' if bits else 'nats'})")
    panel.set_xticks(Ns, [str(N) for N in Ns])
    panel.minorticks_off()
    panel.legend(fontsize=7, frameon=False)
    panel.set_title(title, loc="left", fontsize=8)
    plotting.save_figure(figure, target)


def _colour(index: int) -> dict[str, Any]:
    from tokenkl import plotting

    return {"color": plotting.COLOURS[index]}


def _plot_density(target: Any, law: Any, title: str) -> None:
    import numpy as np

    from tokenkl import plotting

    figure, axes = plotting.new_figure()
    panel = axes[0, 0]
    x = np.linspace(law.log_snr[0], law.log_snr[-1], 400)
    decibels = 10 / math.log(10)
    panel.plot(decibels * x, law.density(x) / decibels)
    panel.set(xlabel=plotting.AXIS_LABELS["snr_db"], ylabel="share of the information per dB")
    panel.set_title(title, loc="left", fontsize=8)
    plotting.save_figure(figure, target)


def _plot_choices(target: Any, found: Sequence[Any], snr_db: float) -> None:
    from tokenkl import plotting
    from tokenkl.codebooks.product import power_notation

    figure, axes = plotting.new_figure(panel_height=0.8 + 0.2 * len(found))
    panel = axes[0, 0]
    names = [power_notation(one.levels) for one in found]
    rows = range(len(found))
    panel.barh(rows, [one.bits for one in found], color="#DDDDDD", label="token")
    values = [one.information / math.log(2) for one in found]
    panel.barh(rows, values, color=plotting.COLOURS[0], label="information left")
    panel.set_yticks(list(rows), names)
    panel.invert_yaxis()
    panel.set(xlabel=f"bits at {snr_db:g} dB")
    figure.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    plotting.save_figure(figure, target)
