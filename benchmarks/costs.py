"""What `tokenkl.plan` says that estimators cost, beside what they do: `python -m benchmarks.costs`.

Each constant in the code is the time of one unit of work. Where the last column is not near 1 for
the cases of an estimator, that is the factor by which its constant is off. The plan speaks of
orders of magnitude: factors of 3 are of no account.
"""

from __future__ import annotations

import time

import numpy as np

import tokenkl as tk
from tokenkl.information import Plan
from tokenkl.information.methods import Method

RNG = np.random.default_rng(0)


def cloud(K: int, n: int) -> tk.PointCodebook:
    return tk.PointCodebook(np.random.default_rng(K).standard_normal((K, n)), name=f"{K} x {n}")


def stages(count: int, size: int, n: int) -> tk.ResidualCodebook:
    return tk.ResidualCodebook([RNG.standard_normal((size, n)) / 2.0**s for s in range(count)])


ONE = np.array([1.0])
#: Codebook, SNRs, quantities, method: every estimator, small and large.
CASES: tuple[tuple[tk.Codebook, np.ndarray, tuple[str, ...], Method | None], ...] = (
    (tk.FSQ((3,) * 8), np.geomspace(0.1, 100, 20), tk.QUANTITIES, None),
    (tk.FSQ((64, 32, 16)), np.geomspace(0.1, 1e4, 20), tk.QUANTITIES, None),
    (tk.OneHot(1000), np.geomspace(0.1, 100, 20), tk.QUANTITIES, None),
    (tk.OneHot(1000, prior=RNG.dirichlet(np.ones(1000))), ONE * 9, tk.QUANTITIES, None),
    (cloud(100, 2), np.geomspace(0.1, 100, 20), ("accuracy",), None),
    (cloud(10_000, 2), np.geomspace(0.1, 100, 20), ("accuracy",), None),
    (tk.d_codebook(12, 4), ONE * 400, ("error_probability",), None),
    (tk.d_codebook(24, 4), ONE * 400, ("error_probability",), None),
    (tk.d_codebook(12, 4), ONE * 3, ("accuracy",), None),
    (tk.d_codebook(24, 4), np.array([1.0, 3.0, 9.0]), ("accuracy",), None),
    (stages(8, 64, 8), ONE, tk.QUANTITIES, None),
    (stages(4, 1024, 64), ONE, ("accuracy",), tk.MonteCarlo(n_samples=256)),
    (cloud(100, 4), ONE * 1e3, tk.QUANTITIES, None),
    (cloud(4096, 8), ONE * 1e3, tk.QUANTITIES, None),
    (cloud(100, 4), np.geomspace(0.1, 10, 5), tk.QUANTITIES, None),
    (cloud(4096, 8), np.geomspace(0.1, 3, 3), tk.QUANTITIES, None),
    (cloud(4096, 64), ONE / 9, tk.QUANTITIES, None),
)


def seconds_of(plan: Plan) -> float:
    """The shorter of two runs: the first may compile."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        plan.profile(key=0)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    print(f"{'codebook':32} {'estimator':40} {'said':>8} {'took':>8} {'ratio':>6}")
    for codebook, snr, quantities, method in CASES:
        plan = tk.plan(codebook, snr, quantities, method=method)
        names = ", ".join(dict.fromkeys(plan[quantities[-1]].tolist()))
        said, took = plan.seconds, seconds_of(plan)
        label = f"{codebook.label}, {snr.size} SNRs"
        print(f"{label:32.32} {names:40.40} {said:8.2g} {took:8.2g} {took / said:6.2g}", flush=True)


if __name__ == "__main__":
    main()
