"""Do the property tests notice errors? Plants one at a time in a copy of the library, and looks.

    python -m benchmarks.mutations [NAME ...] [--list] [--output FILE]

Each mutation replaces one piece of text in one file of a temporary copy of the library and its
tests, and runs tests/properties there: first the files that are about the same theorem, and the
whole folder if these let it pass, so that a mutation survives only if every test passes. The
working tree is never touched. Without mutation the suite must pass, or failures prove nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What the tests need of the repository.
NEEDED = ("tokenkl", "tests", "pyproject.toml")
#: Failing tests to look for before a run is stopped.
MOST = 3
#: Above the table.
HEAD = """Errors planted one at a time by `python -m benchmarks.mutations`, and what noticed
(at most three property tests each: a run stops there).

"""
#: Added to the copy's conftest.py.
NO_SHRINKING = """
hypothesis.settings.register_profile(
    "mutations",
    hypothesis.settings.get_profile("tokenkl"),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile("mutations")
"""


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One planted error: `old`, which occurs in `file`, becomes `new` where it occurs first.

    `likely` are the property tests to run first.
    """

    name: str
    file: str
    old: str
    new: str
    likely: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "Hellman-Raviv without its 1/2",
        "bounds/_posterior.py",
        "/ (2 * math.log(2)), 1.0)",
        "/ math.log(2), 1.0)",
        ("hellman_raviv",),
    ),
    Mutation(
        "bits for nats in Jensen's bound",
        "bounds/_posterior.py",
        '-np.expm1(-high_end(entropy, "entropy", level))',
        '-np.expm1(-math.log(2) * high_end(entropy, "entropy", level))',
        ("jensen",),
    ),
    Mutation(
        "Fano with log K for log(K - 1)",
        "bounds/_posterior.py",
        "math.log(max(K - 1, 1))",
        "math.log(max(K, 1))",
        ("fano",),
    ),
    Mutation(
        "K for K - 1 in Cover-Hart",
        "bounds/_posterior.py",
        "rest = (check_tokens(K) - 1) / K\n    value",
        "rest = check_tokens(K) / (K + 1)\n    value",
        ("cover_hart",),
    ),
    Mutation(
        "wrong sign of the log-odds in the union bound",
        "bounds/_union.py",
        "return reach / 2 + shift",
        "return reach / 2 - shift",
        ("union_bound",),
    ),
    Mutation(
        "union bound without the prior",
        "bounds/_union.py",
        "(np.exp(log_prior[own]) * tokens[own])",
        "(tokens[own] / tokens.sum())",
        ("union_bound",),
    ),
    Mutation(
        "half a distance missing: Q(h d) for Q(h d/2)",
        "bounds/_union.py",
        "half, weight = np.sqrt(squared) / 2, pairs / codebook.K",
        "half, weight = np.sqrt(squared), pairs / codebook.K",
        ("union_bound",),
    ),
    Mutation(
        "wrong sign of the second Bonferroni sum",
        "bounds/_pairs.py",
        "np.cumsum(events.single - pairs, axis=1)",
        "np.cumsum(events.single + pairs, axis=1)",
        ("bonferroni",),
    ),
    Mutation(
        "wrong sign of the correlation of two rivals",
        "bounds/_pairs.py",
        "rho[:, i, j].ravel()",
        "-rho[:, i, j].ravel()",
        (
            "bonferroni",
            "de_caen",
        ),
    ),
    Mutation(
        "equal points: what their merging costs is forgotten",
        "bounds/_pairs.py",
        "return (1 - rivals.mass) + rivals.mass * total",
        "return total",
        ("duplicates",),
    ),
    Mutation(
        "sqrt(snr) for snr in the linear MMSE",
        "bounds/_moments.py",
        "np.sum(eigenvalues / (1 + one * eigenvalues))",
        "np.sum(eigenvalues / (1 + np.sqrt(one) * eigenvalues))",
        ("linear_mmse",),
    ),
    Mutation(
        "Gaussian information without its 1/2",
        "bounds/_moments.py",
        "np.log1p(one * eigenvalues).sum() / 2",
        "np.log1p(one * eigenvalues).sum()",
        (
            "gaussian_information",
            "linear_mmse",
        ),
    ),
    Mutation(
        "factor 1/2 in the lower bound on the MMSE",
        "bounds/_moments.py",
        "** 2 / 2 if codebook.K > 1",
        "** 2 / 4 if codebook.K > 1",
        ("mmse_and_distances",),
    ),
    Mutation(
        "universal accuracy without the largest prior",
        "bounds/_moments.py",
        "snr, largest_prior(codebook))",
        "snr, 1 / codebook.K)",
        ("universal_accuracy",),
    ),
    Mutation(
        "phi(0) for 2 phi(0) in the universal accuracy",
        "bounds/_moments.py",
        "math.sqrt(2 / math.pi) * np.sqrt(snr)",
        "math.sqrt(1 / (2 * math.pi)) * np.sqrt(snr)",
        ("universal_accuracy",),
    ),
    Mutation(
        "decay of the MMSE half as fast as it may be",
        "bounds/_moments.py",
        "np.exp(-snr * diameter(codebook) ** 2 / 4)",
        "np.exp(-snr * diameter(codebook) ** 2 / 8)",
        ("mmse_decay",),
    ),
    Mutation(
        "ends of the chord exchanged",
        "bounds/_moments.py",
        "(1 - share) * first + share * second",
        "share * first + (1 - share) * second",
        ("entropy_is_convex",),
    ),
    Mutation(
        "slope of the entropy without its 1/2",
        "bounds/_moments.py",
        'low_end(mmse, "mmse", level)) / 2',
        'low_end(mmse, "mmse", level))',
        ("entropy_is_convex",),
    ),
    Mutation(
        "capacity for a box of half the size",
        "bounds/_moments.py",
        "[np.ptp(column) / 2 for column",
        "[np.ptp(column) / 4 for column",
        (
            "capacity_of_the_box",
            "universal_accuracy",
        ),
    ),
    Mutation(
        "i(x; F) with phi for f: swapped arguments of KL",
        "bounds/_capacity.py",
        "(-(z**2) / 2 - LOG_ROOT - log_f)).sum(axis=1))\n    if order == 1",
        "(log_f + z**2 / 2 + LOG_ROOT)).sum(axis=1))\n    if order == 1",
        ("capacity_of_the_box",),
    ),
    Mutation(
        "I-MMSE without its 1/2",
        "information/_immse.py",
        "parts = half[:, 0] / 2 * (values",
        "parts = half[:, 0] * (values",
        ("i_mmse",),
    ),
    Mutation(
        "coordinates counted once in sums over a grid",
        "information/_product.py",
        "totals[name] = total + count * value,",
        "totals[name] = total + value,",
        ("products_add",),
    ),
    Mutation(
        "planar accuracy without the prior",
        "information/_planar.py",
        "error[index] += prior @ (missed.sum(axis=1) + outside)",
        "error[index] += ((missed.sum(axis=1) + outside) / points.shape[0]).sum()",
        (
            "union_bound",
            "largest_pair",
        ),
    ),
    Mutation(
        "bridge KL without its 1/2",
        "divergence/bridge.py",
        "xp.broadcast_to(0.5 * squared * gap, shape)",
        "xp.broadcast_to(squared * gap, shape)",
        ("bridge_log_ratio",),
    ),
    Mutation(
        "Girsanov's log ratio with the opposite sign of its second term",
        "divergence/bridge.py",
        ".sum(axis=1) + 0.5 * h * (shift**2)",
        ".sum(axis=1) - 0.5 * h * (shift**2)",
        ("bridge_log_ratio",),
    ),
    Mutation(
        "amplitude for power: SNR = alpha / sigma",
        "schedule.py",
        "(self._alpha(t, xp) / self._sigma(t, xp)) ** 2",
        "self._alpha(t, xp) / self._sigma(t, xp)",
        ("schedule_is_snr",),
    ),
)


def run(mutation: Mutation | None) -> tuple[list[str], float]:
    """The property tests that fail in a mutated copy, and how long it took."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in NEEDED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
                shutil.copytree(source, copy / name, ignore=ignored)
            else:
                shutil.copy(source, copy / name)
        # Failing examples need not be made smaller here.
        with (copy / "tests" / "conftest.py").open("a") as conftest:
            conftest.write(NO_SHRINKING)
        started = time.perf_counter()
        if mutation is None:
            failed = _failing(copy, ["tests/properties"])
        else:
            path = copy / "tokenkl" / mutation.file
            path.write_text(path.read_text().replace(mutation.old, mutation.new, 1))
            likely = [f"tests/properties/test_{name}.py" for name in mutation.likely]
            failed = _failing(copy, likely) or _failing(copy, ["tests/properties"])
        return failed, time.perf_counter() - started


def _failing(copy: Path, targets: list[str]) -> list[str]:
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no"),
            *("-m", "slow or not slow", f"--maxfail={MOST}", *targets),
        ],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    failed = re.findall(r"^(?:FAILED|ERROR) tests/properties/(\S+)", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1) or bool(failed) != (done.returncode == 1):
        raise RuntimeError(f"the tests did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed


def check_texts() -> None:
    """Every planted error is still an error in a text that is there."""
    for mutation in MUTATIONS:
        if mutation.old not in (ROOT / "tokenkl" / mutation.file).read_text():
            raise SystemExit(f"{mutation.name}: {mutation.file} has no {mutation.old!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="mutations to run; all of them without it")
    parser.add_argument("--list", action="store_true", help="print their names and go")
    parser.add_argument(
        "--trust", action="store_true", help="skip the run without mutation (made before)"
    )
    parser.add_argument("--output", type=Path, help="write a table in Markdown")
    options = parser.parse_args()
    check_texts()
    chosen = [one for one in MUTATIONS if not options.names or one.name in options.names]
    if options.list:
        print("\n".join(one.name for one in chosen))
        return
    if not options.trust:
        failed, seconds = run(None)
        if failed:
            raise SystemExit(f"the tests fail without any mutation: {', '.join(failed)}")
        print(f"without mutation: all tests pass ({seconds:.0f} s)", flush=True)
    rows = ["| planted error | file | caught by |", "|---|---|---|"]
    survivors = 0
    for number, mutation in enumerate(chosen, 1):
        failed, seconds = run(mutation)
        survivors += not failed
        caught = ", ".join(f"`{one}`" for one in failed) or "**nothing**"
        rows.append(f"| {mutation.name} | `{mutation.file}` | {caught} |")
        print(f"{number}/{len(chosen)} ({seconds:.0f} s) {rows[-1]}", flush=True)
        if options.output is not None:
            options.output.write_text(HEAD + "\n".join(rows) + "\n")
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    raise SystemExit(survivors > 0)


if __name__ == "__main__":
    main()
