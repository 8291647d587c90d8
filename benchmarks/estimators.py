"""Every estimator beside what a competent user would write.

One process, one core, one thread; the two sides take turns, and seconds are of the processor.
Samplers are compared at equal achieved standard error on accuracy and entropy, over 32 levels from
error about 1 to about 1e-3. A rival's time is that of a slice of samples, times the number of
samples that its variance asks for; ours is run to the target, or, where that takes long, to a
larger standard error and then scaled up by the square (which counts the fixed costs many times
over).
"""

from __future__ import annotations

import functools
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import tokenkl as tk
from benchmarks import floors, rivals
from benchmarks.cases import QUANTITIES, Sizes, gaussian, levels, perturbed
from benchmarks.machine import every_core
from benchmarks.rows import Row, row
from benchmarks.timing import Report, in_turns, least_seconds, part_of, processor_seconds

Job = Callable[[Sizes, floors.Rates, Report], list[Row]]


def timer(sizes: Sizes) -> Callable[[Callable[[], Any]], float]:
    """Processor seconds of a call, short ones repeated as these sizes say."""
    return functools.partial(processor_seconds, least=sizes.least)


# ---- Samplers ------------------------------------------------------------------------------------


def sampled(
    name: str,
    codebook: tk.PointCodebook,
    targets: dict[str, float],
    sizes: Sizes,
    rates: floors.Rates,
    report: Report,
) -> list[Row]:
    """Profiles of accuracy and entropy at equal standard error, beside each rival."""
    points, snr = np.asarray(codebook.points), levels(codebook, sizes.levels)
    h, target = np.sqrt(snr), sizes.target
    plain = tk.MonteCarlo(n_samples=4096, variance_reduction=False)
    measured = tk.profile(codebook, snr, QUANTITIES, method=plain, key=1)
    deviation = np.max([measured[q].standard_error for q in QUANTITIES], axis=0) * np.sqrt(4096)
    by_level = (deviation / target) ** 2
    needed = float(by_level.max())
    found: dict[int, tk.Profile] = {}

    def ours(wanted: float, key: int) -> None:
        method = tk.MonteCarlo(atol=wanted)
        found[key] = tk.profile(codebook, snr, QUANTITIES, method=method, key=key)

    # Fixed costs aside, half the standard error takes four times as long.
    wanted = 32 * target
    last = processor_seconds(functools.partial(ours, wanted, 1), 0)
    ahead = 0.0
    while wanted > target and ahead < sizes.longest:
        wanted /= 2
        report(0, 1)
        seconds = processor_seconds(functools.partial(ours, wanted, 1), 0)
        ahead, last = seconds + 4 * max(seconds - last, 0.0), seconds
    # Slices of equal time, so that the two sides see the same machine.
    slices = {}
    for label in targets:
        size = 32
        once = least_seconds(functools.partial(rivals.SAMPLERS[label], points, h, size), 1)
        slices[label] = max(size, int(sizes.slice_seconds / once * size))
    # The same samples at every turn: how many it takes differs from key to key.
    runs: dict[str, Callable[[], Any]] = {"ours": lambda: ours(wanted, 0)}
    for label, size in slices.items():
        runs[label] = functools.partial(rivals.SAMPLERS[label], points, h, size)
    times = in_turns(runs, sizes.turns, report, clock=timer(sizes), warm=True)
    apart, reported = 0.0, 0.0
    for q in QUANTITIES:
        errors = np.array([np.asarray(found[key][q].standard_error) for key in (0, 1)])
        values = np.array([np.asarray(found[key][q].value) for key in (0, 1)])
        reported = max(reported, float(errors.max()))
        difference = np.abs(values[0] - values[1]) / np.sqrt(errors[0] ** 2 + errors[1] ** 2)
        apart = max(apart, float(difference.max()))
    scale = (wanted / target) ** 2
    mine = [scale * took for took in times["ours"]]
    drawn = scale * np.broadcast_to(np.asarray(found[0]["accuracy"].n_samples, float), snr.shape)
    kernel_ns = floors.kernel_rate(codebook, h, wanted, sizes.work)
    floor = floors.of_samples(rates, drawn, codebook.K, codebook.n, kernel_ns)
    rows = []
    for label, aim in targets.items():
        a_sample = [took / slices[label] for took in times[label]]
        rows.append(
            row(
                name,
                label,
                mine,
                [took * needed for took in a_sample],
                floor,
                target_ratio=aim,
                per_level_stopping_ratio=min(a_sample) * by_level.sum() / snr.size / min(mine),
                run_to_standard_error=wanted,
                largest_reported_standard_error=reported,
                largest_difference_of_two_runs_in_standard_errors=apart,
                samples_times_levels=float(drawn.sum()),
                rival_samples=needed,
                rival_slice=slices[label],
                rival_ns_per_token_and_level=min(a_sample) / (codebook.K * snr.size) * 1e9,
            )
        )
    return rows


def perturbed_job(sizes: Sizes, rates: floors.Rates, report: Report) -> list[Row]:
    targets = {"tuned NumPy": 30.0, "jitted JAX": 20.0, "torch cdist": 100.0}
    codebook = perturbed(sizes.grid)
    name = f"perturbed FSQ {codebook.K} x {codebook.n}"
    return sampled(name, codebook, targets, sizes, rates, report)


def high_job(sizes: Sizes, rates: floors.Rates, report: Report) -> list[Row]:
    return sampled(
        "VQ {} x {}".format(*sizes.high),
        gaussian(*sizes.high),
        {"tuned NumPy": 12.0},
        sizes,
        rates,
        report,
    )


#: Sampled in a process of its own, for its memory.
ALONE = """
import resource, numpy as np, tokenkl as tk
from benchmarks.cases import QUANTITIES, gaussian
codebook, snr = gaussian({}, {}), 10 ** np.linspace(-1, 1.6, 32)
tk.profile(codebook, snr, QUANTITIES, method=tk.MonteCarlo(n_samples={}), key=0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def large_job(sizes: Sizes, rates: floors.Rates, report: Report) -> list[Row]:
    rows = sampled(
        "VQ {} x {}".format(*sizes.large),
        gaussian(*sizes.large),
        {"tuned NumPy": 15.0},
        sizes,
        rates,
        report,
    )
    code = ALONE.format(*sizes.large, max(64, min(4096, sizes.work // 1024)))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    rows[0]["peak_memory_mib"] = int(done.stdout.split()[-1]) / 1024
    return rows


def kernel_job(sizes: Sizes, rates: floors.Rates, report: Report) -> list[Row]:
    """The inner loop alone: with an exponential for every token and level, as NumPy has it.

    And what samples at nodes, from which as many levels are read off, save.
    """
    from tokenkl.information.sampling import kernel
    from tokenkl.information.sampling.nodes import Nodes

    rows = []
    codebooks = perturbed(sizes.grid), gaussian(*sizes.high), gaussian(*sizes.large)
    for place, codebook in enumerate(codebooks):
        points, h = np.asarray(codebook.points), np.sqrt(levels(codebook, sizes.levels))
        table = kernel.lay_out(points - points.mean(axis=0), codebook.log_prior)
        rng = np.random.default_rng(0)
        size = max(16, sizes.work // codebook.K)
        ids, noise = rng.integers(codebook.K, size=size), rng.standard_normal((size, codebook.n))

        def alone(at: np.ndarray, table: Any = table, ids: Any = ids, noise: Any = noise) -> Any:
            return kernel.block_statistics(table, ids, noise, at, False)

        def read_off(nodes: Nodes, alone: Any = alone) -> None:
            _, reading = nodes.of(np.arange(nodes.levels.size))
            found = alone(nodes.h)
            if reading is not None:
                reading.read(found)

        few = Nodes(h, sizes.target)
        many = Nodes(np.geomspace(h[0], h[-1], sizes.many), sizes.target)
        runs: dict[str, Callable[[], Any]] = {
            "alone": functools.partial(alone, h),
            "nodes": functools.partial(read_off, few),
            "many": functools.partial(read_off, many),
            "NumPy": functools.partial(rivals.numpy_shared_noise, points, h, size),
        }
        of_one = part_of(report, place, len(codebooks))
        took = in_turns(runs, sizes.turns + 2, of_one, clock=timer(sizes))
        pairs = size * codebook.K * 1e-9
        of_nodes, of_many = (
            {"multiplications": pairs * floors.by_multiplications(rates, at.h, codebook.n)}
            for at in (few, many)
        )
        name = f"kernel, {codebook.label}"
        rows += [
            row(
                name,
                "tuned NumPy, as many samples",
                took["alone"],
                took["NumPy"],
                {"exponentials": pairs * floors.by_exponentials(rates, h, codebook.n)},
                ns_per_token_and_level=min(took["alone"]) / (pairs * h.size),
            ),
            row(
                f"{name}, {h.size} levels read off",
                "an exponential each",
                took["nodes"],
                took["alone"],
                of_nodes,
                target_ratio=2.0,
                nodes=few.h.size,
            ),
            row(
                f"{name}, {many.levels.size} levels read off",
                "an exponential each, scaled up",
                took["many"],
                [seconds * many.levels.size / h.size for seconds in took["alone"]],
                of_many,
                target_ratio=10.0,
                nodes=many.h.size,
            ),
        ]
    return rows


# ---- Closed forms and quadrature -----------------------------------------------------------------


def grid_job(sizes: Sizes, rates: floors.Rates, report: Report) -> list[Row]:
    """Exact profiles of grids; tuned NumPy to the target standard error beside the first."""
    fsq, large = tk.FSQ(sizes.grid), tk.FSQ(sizes.large_grid)
    snr = 10.0 ** np.linspace(-2, 4, 2 * sizes.levels)
    points = np.asarray(fsq.points)
    plain = tk.MonteCarlo(n_samples=4096, variance_reduction=False)
    measured = tk.profile(tk.PointCodebook(points), snr, QUANTITIES, method=plain, key=0)
    largest = max(float((measured[q].standard_error ** 2).max()) for q in QUANTITIES)
    needed = 4096 * largest / sizes.target**2
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: tk.profile(fsq, snr),
        "NumPy": lambda: rivals.numpy_shared_noise(points, np.sqrt(snr), 128),
        "large": lambda: tk.profile(large, snr),
    }
    took = in_turns(runs, sizes.turns + 2, report, clock=timer(sizes))
    return [
        row(
            f"{fsq.label} exact, {snr.size} levels",
            "tuned NumPy",
            took["ours"],
            [seconds * needed / 128 for seconds in took["NumPy"]],
            floors.of_functions(rates, runs["ours"]),
            target_ratio=5000.0,
            limit_seconds=0.020,
            rival_samples=needed,
        ),
        row(
            f"{large.label} exact, {snr.size} levels",
            "",
            took["large"],
            None,
            floors.of_functions(rates, runs["large"]),
            limit_seconds=0.050,
        ),
    ]


def onehot_job(sizes: Sizes, rates: floors.Rates, report: Report) -> list[Row]:
    codebook = tk.OneHot(sizes.onehot)
    snr, many = (10.0 ** np.linspace(-1, 2, count) for count in (sizes.levels, sizes.bulk))
    h = np.sqrt(snr)
    expected = rivals.quad_told(codebook.K, h)
    np.testing.assert_allclose(tk.accuracy(codebook, snr).value, expected, rtol=1e-9)
    runs: dict[str, Callable[[], Any]] = {
        "mine": lambda: tk.accuracy(codebook, snr),
        "told": lambda: rivals.quad_told(codebook.K, h),
        "plain": lambda: rivals.quad_plain(codebook.K, h),
        "bulk": lambda: tk.accuracy(codebook, many),
        "profile": lambda: tk.profile(codebook, snr),
    }
    took = in_turns(runs, sizes.turns, report, clock=timer(sizes))
    floor = {name: floors.of_functions(rates, runs[name]) for name in ("mine", "bulk", "profile")}
    # Where the textbook call goes wrong, and we do not (references/onehot.json has the digits).
    hard = np.sqrt(np.array([1e3, 1e4, 1e6]))
    wrong = np.abs(np.array(rivals.quad_plain(codebook.K, hard)) - 1).max()
    ours = np.abs(np.asarray(tk.accuracy(codebook, hard**2).value) - 1).max()
    name = f"one-hot {codebook.K}"
    return [
        row(
            f"{name}, accuracy",
            "scipy.stats in quad",
            took["mine"],
            took["plain"],
            floor["mine"],
            target_ratio=1000.0,
            their_largest_error_from_30_to_60_db=float(wrong),
            our_largest_error_from_30_to_60_db=float(ours),
        ),
        row(
            f"{name}, accuracy",
            "quad told where the mass is",
            took["mine"],
            took["told"],
            floor["mine"],
            target_ratio=1000.0,
        ),
        row(
            f"{name}, accuracy, {many.size:_} levels".replace("_", " "),
            "quad told, scaled up",
            took["bulk"],
            [seconds * many.size / snr.size for seconds in took["told"]],
            floor["bulk"],
            target_ratio=1000.0,
        ),
        row(
            f"{name}, full profile",
            "",
            took["profile"],
            None,
            floor["profile"],
            limit_seconds=2.0,
        ),
    ]


# ---- Rare errors, and the start ------------------------------------------------------------------


def rare_job(sizes: Sizes, rates: floors.Rates, report: Report) -> list[Row]:
    """An error probability near 1e-9 to 1 %, beside counting errors."""
    from tokenkl.information.rare.profile import rare_error_probability

    codebook = gaussian(*sizes.high)
    points = np.asarray(codebook.points)
    snr = 10 ** (np.linspace(0, 12, 3 * sizes.levels // 2, endpoint=False) / 10)
    found = rare_error_probability(codebook, snr, n_samples=256, key=0)
    nearest = np.abs(np.log(np.maximum(found["value"], 1e-300) / 1e-9))
    snr = snr[[int(np.argmin(nearest))]]
    size = sizes.rare_samples
    settings: dict[str, Any] = {"n_samples": size, "key": 0}
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: rare_error_probability(codebook, snr, **settings),
        "theirs": lambda: rivals.numpy_indicator(points, float(np.sqrt(snr[0])), size),
    }
    took = in_turns(runs, sizes.turns, report, clock=timer(sizes))
    found = rare_error_probability(codebook, snr, **settings)
    value = float(found["value"][0])
    relative = float(found["standard_error"][0] + found["numerical_error"][0]) / value
    needed = 1 / (value * 0.01**2)
    return [
        row(
            f"error probability, {codebook.label}",
            "indicator, extrapolated",
            took["ours"],
            [seconds / size * needed for seconds in took["theirs"]],
            floors.of_rare(rates, int(found["n_samples"][0]), codebook.K, codebook.n),
            target_ratio=1e7,
            value=value,
            samples=int(found["n_samples"][0]),
            relative_error=relative,
            limit_relative_error=0.01,
        )
    ]


def rare_middle_job(sizes: Sizes, rates: floors.Rates, report: Report) -> list[Row]:
    """Six levels, from errors that are common to rare ones, with the defaults of the package.

    Beside counting errors, at each level until its standard error is ours.
    """
    codebook = gaussian(*sizes.large)
    points, snr = np.asarray(codebook.points), 10 ** (np.linspace(*sizes.middle, 6) / 10)
    samples = max(16, sizes.rare_samples // 4)
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: tk.error_probability(codebook, snr, key=0),
        "theirs": lambda: rivals.numpy_indicator(points, float(np.sqrt(snr[3])), samples),
    }
    took = in_turns(runs, sizes.turns, report, clock=timer(sizes))
    found = tk.error_probability(codebook, snr, key=0)
    value = np.asarray(found.value)
    error = np.asarray(found.standard_error) + np.asarray(found.numerical_error)
    needed = float((value * (1 - value) / error**2).sum())
    drawn = np.broadcast_to(np.asarray(found.n_samples), snr.shape)
    return [
        row(
            f"error probability, {codebook.label}, six levels",
            "indicator, stopped level by level",
            took["ours"],
            [seconds / samples * needed for seconds in took["theirs"]],
            floors.of_rare(rates, int(drawn.sum()), codebook.K, codebook.n),
            limit_seconds=10.0,
            values=[float(one) for one in value],
            relative_errors=[float(one) for one in error / value],
        )
    ]


def import_job(sizes: Sizes, _: floors.Rates, report: Report) -> list[Row]:
    """In processes of their own, with all cores, as users have it."""

    def running(code: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    def of_children(call: Callable[[], Any]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        call()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    runs = {"ours": running("import tokenkl"), "Python": running("pass")}
    with every_core():
        took = in_turns(runs, sizes.turns + 2, report, clock=of_children)
    floor = {"bare Python": min(took["Python"])}
    return [row("import tokenkl", "", took["ours"], None, floor, limit_seconds=0.4)]


JOBS: dict[str, Job] = {
    "grid": grid_job,
    "onehot": onehot_job,
    "kernel": kernel_job,
    "perturbed": perturbed_job,
    "vq_high": high_job,
    "vq_large": large_job,
    "rare": rare_job,
    "rare_middle": rare_middle_job,
    "import": import_job,
}
