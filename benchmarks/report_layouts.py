"""How long `tokenkl report` takes on seven layouts: `python -m benchmarks.report_layouts [NAME]`.

Files as the libraries write them, with weights out of a seed, and token ids beside them; one fresh
process for each, as from a shell. Processes use as many threads as the machine has cores, unless
NUMBA_NUM_THREADS says otherwise. Writes benchmarks/results/report_layouts.json, one layout after
the other; what is not named stays as it is.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tokenkl._files import atomic_path

RESULTS = Path(__file__).parent / "results" / "report_layouts.json"
#: Token ids of a corpus.
TOKENS = 200_000
#: What the issue asks for, in seconds.
LIMIT = 120.0

Arrays = dict[str, np.ndarray]


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def used(rng: np.random.Generator, size: int, *shape: int) -> np.ndarray:
    """Ids of which small ones are more frequent."""
    return np.minimum(size * rng.random(shape) ** 1.5, size - 1).astype(np.int64)


def write(folder: Path, arrays: Arrays) -> str:
    from safetensors.numpy import save_file

    path = folder / "model.safetensors"
    save_file(arrays, path)
    return str(path)


def vector_quantize(folder: Path, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """vector-quantize-pytorch: VectorQuantize(dim=64, codebook_size=1024, codebook_dim=16)."""
    arrays = {
        "_codebook.embed": normal(rng, 1, 1024, 16),
        "_codebook.embed_avg": normal(rng, 1, 1024, 16),
        "_codebook.cluster_size": np.ones((1, 1024), np.float32),
        "_codebook.initted": np.ones(1, np.float32),
        "project_in.weight": normal(rng, 16, 64),
        "project_in.bias": normal(rng, 16),
        "project_out.weight": normal(rng, 64, 16),
        "project_out.bias": normal(rng, 64),
    }
    return write(folder, arrays), used(rng, 1024, TOKENS)


def encodec(folder: Path, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """transformers' EnCodec at 6 kbit/s: 8 stages of 1024 in R^128."""
    arrays: Arrays = {"decoder.layers.0.conv.bias": normal(rng, 512)}
    for stage in range(8):
        home = f"quantizer.layers.{stage}.codebook"
        arrays[f"{home}.embed"] = normal(rng, 1024, 128, scale=0.8**stage)
        arrays[f"{home}.embed_avg"] = arrays[f"{home}.embed"]
        arrays[f"{home}.cluster_size"] = np.ones(1024, np.float32)
        arrays[f"{home}.inited"] = np.ones(1, np.float32)
    return write(folder, arrays), used(rng, 1024, 8, TOKENS // 8)


def mimi(folder: Path, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Mimi's acoustic branch in its own space: 8 stages of 2048 in R^256, as sums and counts."""
    arrays: Arrays = {}
    for stage in range(8):
        home = f"quantizer.acoustic_residual_vector_quantizer.layers.{stage}.codebook"
        usage = 5 + 20 * rng.random(2048, np.float32)
        arrays[f"{home}.embed_sum"] = normal(rng, 2048, 256, scale=0.8**stage) * usage[:, None]
        arrays[f"{home}.cluster_usage"] = usage
        arrays[f"{home}.initialized"] = np.ones(1, np.float32)
    return write(folder, arrays), used(rng, 2048, 8, TOKENS // 8)


def dac(folder: Path, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """DAC: 9 stages of 1024 in R^8, each behind a projection to R^1024, where codes add up."""
    arrays: Arrays = {}
    for stage in range(9):
        home = f"quantizer.quantizers.{stage}"
        arrays[f"{home}.codebook.weight"] = normal(rng, 1024, 8, scale=0.8**stage)
        arrays[f"{home}.in_proj.weight"] = normal(rng, 8, 1024, 1)
        arrays[f"{home}.in_proj.bias"] = normal(rng, 8)
        arrays[f"{home}.out_proj.weight"] = normal(rng, 1024, 8, 1)
        arrays[f"{home}.out_proj.bias"] = normal(rng, 1024)
    return write(folder, arrays), used(rng, 1024, 9, TOKENS // 9)


def k_means(folder: Path, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Centroids of faiss or scikit-learn, 4096 in R^64."""
    np.save(folder / "centroids.npy", normal(rng, 4096, 64))
    return str(folder / "centroids.npy"), used(rng, 4096, TOKENS)


def language_model(folder: Path, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """The input embedding of a language model, 32,000 in R^256, beside a layer."""
    arrays = {
        "model.embed_tokens.weight": normal(rng, 32_000, 256, scale=0.02),
        "model.layers.0.self_attn.q_proj.weight": normal(rng, 256, 256),
    }
    ranks = np.arange(1, 32_001)
    ids = rng.choice(32_000, TOKENS, p=(1 / ranks) / (1 / ranks).sum())
    return write(folder, arrays), ids


def fsq(_: Path, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    return "fsq:8,5,5,5", used(rng, 1000, TOKENS)


LAYOUTS: dict[str, Callable[[Path, np.random.Generator], tuple[str, np.ndarray]]] = {
    "vector-quantize-pytorch 1024 x 16": vector_quantize,
    "EnCodec 8 x 1024 x 128": encodec,
    "Mimi 8 x 2048 x 256": mimi,
    "DAC 9 x 1024 x 1024": dac,
    "k-means 4096 x 64": k_means,
    "language model 32000 x 256": language_model,
    "fsq:8,5,5,5": fsq,
}


def measured(make: Callable[[Path, np.random.Generator], tuple[str, np.ndarray]]) -> dict[str, Any]:
    """Seconds of one report in a process of its own, and what its page says."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec, ids = make(folder, np.random.default_rng(0))
        np.save(folder / "ids.npy", ids)
        words = [sys.executable, "-m", "tokenkl.cli", "report", spec]
        words += ["--tokens", str(folder / "ids.npy"), "-o", str(folder / "page")]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        row: dict[str, Any] = {"wall_seconds": wall, "cpu_seconds": cpu, "exit": done.returncode}
        row["load_before"] = os.getloadavg()[0]
        if done.returncode != 0:
            return row | {"error": done.stderr[-500:]}
        record = json.loads((folder / "page" / "record.json").read_text())
    chapters = record["chapters"]
    half = chapters.get("half-of-the-information", {}).get("snr_db", {})
    return row | {
        "chapters": len(chapters),
        "left_out": list(record["left_out"]),
        "half_of_the_information_db": half.get("value"),
        "theorems": chapters.get("theorems", {}).get("counts"),
    }


def show(rows: dict[str, dict[str, Any]]) -> None:
    table = Table("layout", "wall, s", "CPU, s", "chapters", "left out", "half, dB", "theorems")
    for name, row in rows.items():
        half = row.get("half_of_the_information_db")
        table.add_row(
            name,
            f"{row['wall_seconds']:.0f}" + (" (!)" if row["wall_seconds"] > LIMIT else ""),
            f"{row['cpu_seconds']:.0f}",
            str(row.get("chapters", row.get("error", ""))),
            ", ".join(row.get("left_out", ())),
            "" if half is None else f"{half:.2f}",
            ", ".join(f"{n} {what}" for what, n in (row.get("theorems") or {}).items()),
        )
    Console(width=140).print(table)


def main(names: list[str]) -> None:
    rows = json.loads(RESULTS.read_text())["layouts"] if RESULTS.exists() else {}
    for name, make in LAYOUTS.items():
        if names and not any(word in name for word in names):
            continue
        Console(stderr=True).print(f"{time.strftime('%H:%M:%S')} {name} ...")
        rows[name] = measured(make)
        rows = {name: rows[name] for name in LAYOUTS if name in rows}
        RESULTS.parent.mkdir(exist_ok=True)
        with atomic_path(RESULTS) as path:
            record = {"cores": os.cpu_count(), "layouts": rows}
            path.write_text(json.dumps(record, indent=1) + "\n")
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
