"""Ground-truth tasks against 20-digit tables, adaptive quadrature and a sample; their files."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import hostile
import numpy as np
import pytest
from scipy import integrate, special, stats

import tokenkl as tk
from tokenkl._formats import FileError

REFERENCES = Path(__file__).parent / "references"


def one_coordinate(levels: np.ndarray, prior: np.ndarray, snr: float) -> float:
    """I of a token on a line by adaptive quadrature over y, which shares nothing with the library.

    The integrand is the divergence of posterior and prior at y, times the density there.
    """
    root = math.sqrt(snr)

    def integrand(y: float) -> float:
        logs = np.log(prior) - (y - root * levels) ** 2 / 2
        total = special.logsumexp(logs)
        posterior = np.exp(logs - total)
        return float(np.exp(total) * special.rel_entr(posterior, prior).sum())

    ends = np.unique(np.concatenate([root * levels + shift for shift in (-9.0, -1.0, 1.0, 9.0)]))
    pieces = (
        integrate.quad(integrand, a, b, epsabs=1e-15, epsrel=1e-13, limit=200)[0]
        for a, b in itertools.pairwise(ends)
    )
    return math.fsum(pieces) / math.sqrt(2 * math.pi)


def from_table(name: str, **wanted: Any) -> float:
    """The information of an entry of the references."""
    entries = json.loads((REFERENCES / f"{name}.json").read_text())
    [found] = [e for e in entries if all(e[key] == value for key, value in wanted.items())]
    return float(found["mutual_information"])


@pytest.mark.parametrize("name", tk.tasks.list())
def test_the_truth_is_true_to_1e_11(name: str) -> None:
    task = tk.tasks.load(name)
    codebook, snr = task.sampler.codebook, task.sampler.snr
    grid = codebook.as_grid
    if grid is not None:
        first = np.asarray(grid.levels[0]), np.exp(np.asarray(grid.coordinate_log_prior(0)))
        for axis in range(grid.n):  # all coordinates are alike
            assert np.array_equal(grid.levels[axis], first[0])
            assert np.array_equal(np.exp(np.asarray(grid.coordinate_log_prior(axis))), first[1])
        expected = grid.n * one_coordinate(*first, snr)
    else:
        prior = "zipf" if "zipf" in name else "equal"
        expected = codebook.n // 7 * from_table("onehot", K=7, prior=prior, snr=snr)
    assert abs(task.mutual_information - expected) < 1e-11
    assert task.error < 1e-11
    assert 0 < task.mutual_information < float(codebook.prior_entropy()) + 1e-11


@pytest.mark.parametrize("name", ["bit-snr1", "zipf-17^4-snr20", "onehot-7^3-zipf-snr10"])
def test_samples_have_that_information(name: str) -> None:
    """The mean of log p(k | y) / p(k) over a sample, whose posterior is formed by hand."""
    task = tk.tasks.load(name)
    x, y = task.sample(20_000, seed=3)
    assert x.shape == y.shape == (20_000, task.dim_x) == (20_000, task.dim_y)
    again, _ = task.sample(20_000, seed=3)
    assert np.array_equal(x, again)
    other, _ = task.sample(20_000, seed=4)
    assert not np.array_equal(x, other)
    root = math.sqrt(task.sampler.snr)
    assert stats.kstest((y - root * x).ravel()[:20_000], "norm").pvalue > 2e-5
    total = np.zeros(len(x))
    codebook = task.sampler.codebook
    where = 0
    for part in codebook.smallest_parts:
        points, log_prior = np.asarray(part.points), np.asarray(part.log_prior)
        here = slice(where, where + part.n)
        where += part.n
        scores = root * y[:, here] @ points.T - root**2 * (points**2).sum(axis=1) / 2 + log_prior
        own = root * (y[:, here] * x[:, here]).sum(axis=1)
        own -= root**2 * (x[:, here] ** 2).sum(axis=1) / 2
        total += own - special.logsumexp(scores, axis=1)
    error = total.std() / math.sqrt(len(total))
    assert abs(total.mean() - task.mutual_information) < special.ndtri(1 - 1e-5) * error


def test_interface_of_bmi() -> None:
    """What bmi's runner asks a task and a sampler for."""
    task = tk.tasks.load("fsq-2^24-snr1")
    assert (task.id, task.dim_x, task.dim_y) == ("fsq-2^24-snr1", 24, 24)
    assert isinstance(task.name, str)
    assert isinstance(task.mutual_information, float)
    assert json.dumps(task.params) == '{"snr": 1.0, "K": 16777216}'
    sampler = task.sampler
    assert sampler.mutual_information() == task.mutual_information
    assert sampler.dim_total == 48
    x, y = sampler.sample(10, 5)
    assert np.array_equal(x, task.sample(10, 5)[0])
    assert np.array_equal(y, task.sample(10, 5)[1])


@pytest.mark.parametrize("name", ["rare-bit-snr4", "fsq-10^6-snr100", "onehot-7^3-zipf-snr10"])
def test_files(name: str, tmp_path: Path) -> None:
    task, path = tk.tasks.load(name), tmp_path / "task.json"
    tk.tasks.save(task, path)
    assert {one.name for one in tmp_path.iterdir()} == {"task.json", "task.npz"}
    assert (tmp_path / "task.npz").stat().st_size < 10_000
    found = tk.tasks.load(path)
    assert (found.id, found.name, found.params) == (task.id, task.name, task.params)
    assert found.mutual_information == task.mutual_information
    assert np.array_equal(found.sample(9, 0)[1], task.sample(9, 0)[1])
    record = json.loads(path.read_text())
    assert record["mi_true"] == task.mutual_information
    assert record["mi_error"] == task.error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mi_true": 0.9}, "it claims 0.9 nats, and its codebook has"),
        ({"dim_x": 2}, "it claims other dimensions"),
        ({"task_params": {"snr": -1.0, "K": 2}}, "snr must be"),
        ({"task_params": {}}, "task_params"),
        ({"format": "other"}, "format"),
        ({"version": 2}, "version"),
        ({"mi_true": "x"}, "mi_true"),
    ],
)
def test_damaged_files(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    tk.tasks.save(tk.tasks.load("bit-snr1"), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FileError, match=said):
        tk.tasks.load(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tk.tasks.load("nothing"), "which must be one of 'bit-snr1', "),
        (lambda: tk.tasks.load("nothing.json"), "there is no such file"),
        (lambda: tk.tasks.load(cast(Any, 3)), "which must be the name of a task"),
        (lambda: tk.tasks.make("a", tk.e8_codebook(), 1.0), "whose information is exact"),
        (lambda: tk.tasks.make("a", tk.FSQ((2,)), 0.0), "snr must be one number above 0"),
        (lambda: tk.tasks.make("a", tk.FSQ((2,)), -1.0), "snr must be"),
        (lambda: tk.tasks.load("bit-snr1").sample(0, 1), "n_points must be"),
        (lambda: tk.tasks.save(tk.tasks.load("bit-snr1"), "a.yaml"), "ends in .yaml"),
    ],
)
def test_refusals(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_a_missing_codebook(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    tk.tasks.save(tk.tasks.load("bit-snr1"), path)
    (tmp_path / "task.npz").unlink()
    with pytest.raises(FileError, match=r"task\.npz"):
        tk.tasks.load(path)


def test_hostile_files(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    tk.tasks.save(tk.tasks.load("onehot-7-zipf-snr60"), path)
    told = hostile.attack(path, lambda: tk.tasks.load(path), hostile.damage_json, 150)
    assert told["refused"] > 75
