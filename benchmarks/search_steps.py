"""What a gradient step of D costs, three ways: `python -m benchmarks.search_steps`.

6561 tokens in 8 dimensions, as FSQ 3^8 has. All give the gradient of the mean nearest-neighbour
distance. Dense torch makes all distances and differentiates through them; blocked NumPy finds
nearest neighbours by matrix products in blocks, anew at every step; ours keeps neighbour lists
while the tokens move, and its time includes every time that lists are made. Steps are those of an
ascent, a thousandth of the mean distance long at most. One thread each, one run; writes
benchmarks/results/search_steps.json.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.timing import progress
from tokenkl._files import atomic_path
from tokenkl.optimality.search.objectives import NearestDistances

RESULTS = Path(__file__).parent / "results" / "search_steps.json"
K, N = 6561, 8
#: Steps of each, and how many times the whole is done.
STEPS, BLOCKED, DENSE = 200, 4, 2
ROWS = 512


def dense_torch(points: np.ndarray) -> tuple[float, np.ndarray]:
    """All distances at once, and autograd."""
    tensor = torch.tensor(points, requires_grad=True)
    distances = torch.cdist(tensor, tensor, compute_mode="donot_use_mm_for_euclid_dist")
    far = torch.full((len(points),), float("inf"), dtype=distances.dtype)
    mean = (distances + torch.diag(far)).min(dim=1).values.mean()
    mean.backward()
    assert tensor.grad is not None
    return mean.item(), tensor.grad.numpy()


def blocked_numpy(points: np.ndarray) -> tuple[float, np.ndarray]:
    """Nearest neighbours by matrix products in blocks, then their distances."""
    size = len(points)
    norms = np.square(points).sum(axis=1)
    nearest = np.empty(size, dtype=np.int64)
    for start in range(0, size, ROWS):
        rows = np.arange(start, min(start + ROWS, size))
        squares = norms - 2 * points[rows] @ points.T
        squares[np.arange(rows.size), rows] = np.inf
        nearest[rows] = squares.argmin(axis=1)
    across = points - points[nearest]
    radii = np.sqrt(np.square(across).sum(axis=1))
    pull = across / (radii[:, None] * size)
    slope = pull.copy()
    np.add.at(slope, nearest, -pull)
    return float(radii.mean()), slope


def main() -> None:
    torch.set_num_threads(1)
    points = np.random.default_rng(0).uniform(-1, 1, (K, N))
    ours = NearestDistances()
    ours(points)  # compiled
    with threadpool_limits(1), progress("steps") as report:
        others: dict[str, Any] = {
            "blocked NumPy": (blocked_numpy, BLOCKED),
            "dense torch": (dense_torch, DENSE),
        }
        seconds: dict[str, float] = {}
        agree: dict[str, float] = {}
        value, slope = ours(points)
        for name, (function, times) in others.items():
            began = time.perf_counter()
            for _ in range(times):
                theirs, their_slope = function(points)
            seconds[name] = (time.perf_counter() - began) / times
            assert abs(theirs - value) < 1e-12
            report(len(seconds), 3)
            agree[name] = float(np.linalg.norm(their_slope - slope) / np.linalg.norm(slope))
        fresh, moving = NearestDistances(), points.copy()
        began = time.perf_counter()
        for _ in range(STEPS):
            value, slope = fresh(moving)
            longest = np.sqrt(np.square(slope).sum(axis=1)).max()
            moving = np.clip(moving + 1e-3 * value / longest * slope, -1, 1)
        seconds["tokenkl"] = (time.perf_counter() - began) / STEPS
        final = blocked_numpy(moving)
        last = fresh(moving)
    assert fresh.lists is not None
    record = {
        "codebook": f"{K} x {N}, uniform",
        "seconds_a_step": seconds,
        "gradients_differ_by": {
            **agree,
            "after the ascent": float(np.linalg.norm(final[1] - last[1]) / np.linalg.norm(last[1])),
        },
        "steps": STEPS,
        "lists_made": fresh.lists.builds,
        "faster_than_dense_torch": seconds["dense torch"] / seconds["tokenkl"],
        "faster_than_blocked_numpy": seconds["blocked NumPy"] / seconds["tokenkl"],
    }
    print(json.dumps(record, indent=1))
    with atomic_path(RESULTS) as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
