"""The 65536 x 16 job on a GPU, beside torch.compile: `python -m benchmarks.gpu`.

Needs a GPU that JAX sees (and PyTorch, for the rival); says so and stops where there is none.
Prints nanoseconds for one token at one level, the part of the device's exponential rate that they
amount to, and the ratio to torch.compile; writes benchmarks/results/gpu.json. `--anyway` runs a
small version on the CPU, which tells nothing but that the script works.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import median_seconds
from tokenkl._files import atomic_path
from tokenkl.information.sampling import xla

RESULTS = Path(__file__).parent / "results" / "gpu.json"


def exponential_ns(size: int, rounds: int = 256) -> float:
    """Nanoseconds of one exponential, many in a row in registers, on JAX's default device."""

    @jax.jit
    def chain(x: Any) -> Any:
        return jax.lax.fori_loop(0, rounds, lambda i, y: jnp.exp2(-y), x)

    x = jnp.linspace(0.1, 0.9, size, dtype=jnp.float32)
    return median_seconds(lambda: chain(x).block_until_ready(), 5) / (size * rounds) * 1e9


def torch_compiled(points: np.ndarray, h: np.ndarray, samples: int) -> float:
    """Seconds of torch.compile for accuracy and entropy of so many samples at all levels."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    table = torch.tensor(points, dtype=torch.float32, device=device)
    roots = torch.tensor(h, dtype=torch.float32, device=device)
    chunk = max(1, 2**22 // len(points))

    @torch.compile
    def block(ids: Any, noise: Any) -> Any:
        true = table[ids]
        along = noise @ table.T - (noise * true).sum(1, keepdim=True)
        squared = (true**2).sum(1, keepdim=True) + (table**2).sum(1) - 2 * true @ table.T
        found = []
        for root in roots:
            log_p = torch.log_softmax(root * along - root**2 / 2 * squared, dim=1)
            p = log_p.exp()
            found.append(torch.stack([p.amax(1).sum(), -(p * log_p).sum()]))
        return torch.stack(found)

    def run() -> None:
        for _ in range(0, samples, chunk):
            ids = torch.randint(len(points), (chunk,), device=device)
            block(ids, torch.randn(chunk, points.shape[1], device=device))
        if device == "cuda":
            torch.cuda.synchronize()

    return median_seconds(run, 3)


def main() -> None:
    anyway = "--anyway" in sys.argv[1:]
    if not xla.has_gpu() and not anyway:
        sys.exit("No GPU that JAX can use was found here: nothing was measured.")
    K, samples = (65536, 2**14) if not anyway else (2048, 512)
    rng = np.random.default_rng(0)
    points = rng.standard_normal((K, 16))
    h = np.sqrt(10 ** np.linspace(-1, 1, 32))
    ids, noise = rng.integers(K, size=samples), rng.standard_normal((samples, 16))
    prior = np.full(K, -np.log(K))
    ours = median_seconds(lambda: xla.block_statistics(points, prior, ids, noise, h, False), 3)
    theirs = torch_compiled(points, h, samples)
    each = ours / (samples * K * h.size) * 1e9
    floor = exponential_ns(K * 16)
    record = {
        "device": str(jax.devices()[0]),
        "ns_per_token_and_level": each,
        "exponential_ns": floor,
        "fraction_of_exponential_rate": floor / each,
        "times_faster_than_torch_compile": theirs / ours,
    }
    print(json.dumps(record, indent=1))
    if not anyway:
        with atomic_path(RESULTS) as path:
            path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
