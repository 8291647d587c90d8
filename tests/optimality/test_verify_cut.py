"""The verifier of the E8 cut's accuracy: by itself, what it refuses, and its two ends."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.special import ndtr

import tokenkl as tk
from tokenkl.optimality import verify_cut
from tokenkl.optimality.enclosed import E8_CUT, E8_FROM_ABOVE, E8_FROM_BELOW, Enclosed
from tokenkl.optimality.nn_bounds import PROOFS
from tokenkl.optimality.prove_less import FORMATS
from tokenkl.optimality.proved import E8_LADDER, E8_STAYS
from tokenkl.optimality.verify_cut import arb, ctx, half_steps, verify, whole_steps

RECORD = json.loads((PROOFS / "e8_bracketed.json").read_text())
BETWEEN = json.loads((PROOFS / "e8_between.json").read_text())


@pytest.mark.slow
def test_by_itself(tmp_path: Path) -> None:
    """Without tokenkl on the path, and with -O."""
    alone = tmp_path / "verify.py"
    alone.write_text(Path(verify_cut.__file__).read_text())
    words = [sys.executable, "-I", "-O", str(alone), str(PROOFS / "e8_bracketed.json")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.count("is proved: ") == 1
    tampered = copy.deepcopy(RECORD)
    tampered["inequalities"] = tampered["inequalities"][:1]
    tampered["inequalities"][0]["less"]["quantity"]["snr"] = "47"
    (tmp_path / "wrong.json").write_text(json.dumps(tampered))
    words[-1] = str(tmp_path / "wrong.json")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "an enclosure is not what is found" in done.stderr


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    text = Path(verify_cut.__file__).read_text()
    assert len(text.splitlines()) <= 200
    assert not re.search(r"^\s*(assert\b|from tokenkl|import tokenkl)", text, re.MULTILINE)
    assert FORMATS["verify_cut"] == verify_cut.FORMAT


def test_the_ladder_has_no_holes() -> None:
    """FSQ is at each SNR less accurate than the cut at the one before, up to the proof for all
    larger ones."""
    steps = [
        (claim["than"]["quantity"]["snr"], claim["less"]["quantity"]["snr"])
        for claim in BETWEEN["inequalities"]
    ]
    ends = [float(verify_cut.exact(one)) for step in steps for one in step]
    assert ends == [float(one) for step in itertools.pairwise(E8_LADDER) for one in step]
    assert ends[-1] >= float(E8_STAYS)
    assert {claim["than"]["quantity"]["codebook"]["kind"] for claim in BETWEEN["inequalities"]} == {
        "E8 cut"
    }


@pytest.mark.slow
def test_a_step_of_the_ladder() -> None:
    """All of them are verified by the script."""
    assert verify({**BETWEEN, "inequalities": BETWEEN["inequalities"][-1:]})


def _first(record: Any, side: str, **changes: Any) -> None:
    record["inequalities"][0][side]["quantity"].update(changes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(format="other"), "must be tokenkl inequalities of a cut"),
        (lambda r: r.update(inequalities=[]), "must be"),
        (lambda r: _first(r, "less", what="entropy"), "a known quantity"),
        (lambda r: _first(r, "less", codebook={"kind": "E8 cut"}), "damaged"),
        (lambda r: _first(r, "less", codebook={"kind": "E8 cut", "known": "both"}), "from above"),
        (lambda r: _first(r, "less", codebook={"kind": "one-hot", "K": 7}), "must be known"),
        (lambda r: _first(r, "less", snr=48.1), "whole number or"),
    ],
)
def test_refused(change: Callable[[Any], Any], says: str) -> None:
    record = copy.deepcopy(RECORD)
    record["inequalities"].pop()
    change(record)
    with pytest.raises(ValueError, match=says):
        verify(record)


# ---- Enclosures against independent values ------------------------------------------------------


@pytest.mark.slow
def test_between_the_ends_is_what_sampling_finds() -> None:
    """At an SNR of 30: decoding of the cut, and the union bound, which is looser."""
    above = Enclosed.accuracy(E8_FROM_ABOVE, 30).enclosure(64)
    below = Enclosed.accuracy(E8_FROM_BELOW, 30).enclosure(64)
    assert above[0] <= 0
    assert below[1] >= 1
    sampled = tk.accuracy(tk.e8_codebook(), 30, method=tk.MonteCarlo(n_samples=2**18), key=5)
    value, error = float(sampled.value), float(sampled.standard_error)
    assert error < 4e-4
    assert float(below[0]) - 4.3 * error < value < float(above[1]) + 4.3 * error
    assert float(above[1] - below[0]) < 0.008
    assert Enclosed.accuracy(E8_CUT, 30).enclosure()[0] < below[0]


@pytest.mark.slow
def test_steps_against_the_roots() -> None:
    """Whole and half steps of random tokens, by all neighbours of the cut at the least distance."""
    rng = np.random.default_rng(11)
    words = np.array(list(itertools.product(range(3), repeat=8)))
    odd = words.sum(axis=1) % 2
    tokens = words + odd[:, None] / 2
    r, N = 2.5, 40_000
    chosen = np.sort(rng.integers(len(tokens), size=N))
    noise = rng.normal(size=(N, 8)) / r
    beaten = np.zeros((2, N), dtype=bool)
    tree = cKDTree(tokens)
    first = np.searchsorted(chosen, np.arange(len(tokens) + 1))
    for k in np.unique(chosen):
        here = slice(first[k], first[k + 1])
        near = np.setdiff1d(tree.query_ball_point(tokens[k], 1.5), k)
        over = noise[here] @ (tokens[near] - tokens[k]).T > 1
        whole = odd[near] == odd[k]
        beaten[0, here] = over[:, whole].any(axis=1)
        beaten[1, here] = over[:, ~whole].any(axis=1) & ~beaten[0, here]
    ctx.prec = 64
    ball = arb(r)
    kept = float(whole_steps(ball, None) + whole_steps(ball, arb(1) / 2))
    for share, low, high in [
        (beaten[0].mean(), 1 - kept, 1 - kept),
        (beaten[1].mean(), *(float(half_steps(ball, above)) for above in (False, True))),
    ]:
        error = 4.3 * math.sqrt(share * (1 - share) / N)
        assert low - error < share < high + error


def test_whole_steps_in_two_ways() -> None:
    """P(no two u exceed 1 in sum) from the integral, and from u in small cells."""
    ctx.prec, r, cells = 64, 2.5, 4000
    u = np.arange(-4 * cells, 4 * cells + 1) / cells
    below = (2 * ndtr(r * u) + np.clip(2 * ndtr(r * u) - 1, 0, None)) / 3
    largest = np.diff(below**8)  # P(the largest u is in a cell)
    middle = (u[1:] + u[:-1]) / 2
    share = (2 * ndtr(r * (1 - middle)) + np.clip(2 * ndtr(r * (1 - middle)) - 1, 0, None)) / 3
    here = (2 * ndtr(r * middle) + np.clip(2 * ndtr(r * middle) - 1, 0, None)) / 3
    kept = (largest * np.minimum(1, share / here) ** 7).sum()
    found = whole_steps(arb(r), None) + whole_steps(arb(r), arb(1) / 2)
    # Where u is above 1 is in the ball; sums over cells are right to 1e-8.
    assert float(found.lower()) - 1e-7 < kept < float(found.upper()) + 1e-7
    assert float(found.rad()) < 2e-5
