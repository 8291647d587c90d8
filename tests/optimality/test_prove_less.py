"""Proofs of inequalities: what is proved, what is not, and their files."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest

import tokenkl as tk
from tokenkl._extras import MissingExtra
from tokenkl._formats import FileError
from tokenkl.optimality import enclosed, verify_less
from tokenkl.optimality.counterexamples import edge_heavy_nine
from tokenkl.optimality.enclosed import Enclosed
from tokenkl.optimality.nn_bounds import PROOFS
from tokenkl.optimality.prove_less import FORMATS
from tokenkl.optimality.proved import CENTRE_OVERTAKES, LEAST_FAVOURABLE, PROVED, prove

GRID = tk.FSQ((3, 3))


def test_reversed_and_equal_are_not_proved() -> None:
    nine, grid = Enclosed.accuracy(edge_heavy_nine(), "1/9"), Enclosed.accuracy(GRID, "1/9")
    assert tk.prove_less(grid, nine).proved
    for a, b in ((nine, grid), (grid, grid)):
        found = tk.prove_less(a, b)
        assert not found.proved
        with pytest.raises(ValueError, match="must be proved"):
            found.check()
        with pytest.raises(ValueError, match="not apart"):
            verify_less.verify(found.record)


def test_precision_is_raised_until_it_suffices() -> None:
    """Accuracies that differ by 1e-60, and by less than any precision allowed."""
    below = Enclosed.accuracy(GRID, 4)
    near = Fraction(1, 10**60)
    found = tk.prove_less(below, below + Enclosed.number(near))
    assert found.proved
    assert found.claims[0]["less"]["precision"] == 256
    assert found.check()
    assert not tk.prove_less(below, below + Enclosed.number(near), limit=128).proved


def test_brackets_do_not_ask_for_more_bits() -> None:
    """A bracket that overlaps at 64 bits overlaps at all: two precisions are tried."""
    cube, moved = tk.FSQ((2,) * 5), {"kind": "vertex to centre", "n": 5}
    found = tk.prove_less(Enclosed.accuracy(cube, "12.9"), Enclosed.accuracy(moved, "12.9"))
    assert not found.proved
    assert found.claims[0]["less"]["precision"] == 256


@pytest.mark.parametrize("name", ["nine_overtake", "two_points_are_least_favourable"])
def test_files_are_found_anew(name: str) -> None:
    there, found = tk.load_inequalities(PROOFS / f"{name}.json"), prove(name)
    assert found.claims == there.claims
    assert found.proved
    assert there.proved


def test_brackets_are_narrow() -> None:
    """What the documentation says of the thresholds."""
    for low, high in CENTRE_OVERTAKES.values():
        assert 10 * np.log10(float(high) / float(low)) < 0.105
    assert float(LEAST_FAVOURABLE[0]) < 1.0567435137 < float(LEAST_FAVOURABLE[1])
    assert set(PROVED) >= {f"centre_overtakes_{n}" for n in (5, 6, 7, 8)}


def test_saved_and_loaded(tmp_path: Path) -> None:
    first = tk.prove_less("1/3", Fraction(1, 2))
    both = first + tk.prove_less(Enclosed.number(1), "5/4")
    both.save(tmp_path / "both.json")
    again = tk.load_inequalities(tmp_path / "both.json")
    assert again == both
    assert again.check() == "2 inequalities in balls of at most 128 bits."
    assert "NOT" not in repr(again)
    assert "1/3 [0.333333333333332, 0.333333333333335] < 1/2" in repr(again)
    assert FORMATS["verify_less"] == verify_less.FORMAT


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "another"},
        {"inequalities": []},
        {"inequalities": [3]},
        {"inequalities": [{"less": 1, "than": 2}]},
        {"proved": "yes"},
        {"versions": 1},
    ],
)
def test_files_without_claims(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    record = json.loads((PROOFS / "nine_overtake.json").read_text())
    path.write_text(json.dumps({**record, **changes}))
    with pytest.raises(FileError):
        tk.load_inequalities(path)


def test_hostile_files(tmp_path: Path) -> None:
    path = tmp_path / "less.json"
    tk.load_inequalities(PROOFS / "three_points_reach_the_capacity.json").save(path)
    told = hostile.attack(path, lambda: tk.load_inequalities(path), hostile.damage_json, 300)
    assert told["refused"] > 20


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Enclosed.accuracy(GRID, 0.5), "snr must be exact"),  # type: ignore[arg-type]
        (lambda: Enclosed.accuracy(GRID, True), "snr must be exact"),
        (lambda: Enclosed.accuracy(GRID, "1/0"), "snr must be exact"),
        (lambda: Enclosed.accuracy(GRID, -1), "snr must be at least 0"),
        (lambda: Enclosed.accuracy(GRID, (2, 1)), "snr must be a number, or a pair"),
        (lambda: Enclosed.accuracy(GRID, (1, 2, 3)), "snr must be a number, or a pair"),  # type: ignore[arg-type]
        (lambda: Enclosed.accuracy(GRID.points, 1), "codebook must be"),  # type: ignore[arg-type]
        (lambda: Enclosed.accuracy({"kind": "cube"}, 1), "kind must be one of"),
        (lambda: Enclosed.accuracy(tk.e8_codebook(), 1), "E8_CUT"),
        (lambda: Enclosed.accuracy(tk.OneHot(4, scale=2.0), 1), "scale must be 1"),
        (lambda: Enclosed.accuracy(tk.OneHot(2, prior=np.array([0.3, 0.7])), 1), "equal priors"),
        (lambda: Enclosed.accuracy(tk.ProductCodebook([[0.0, np.pi]]), 1), "are fractions"),
        (lambda: Enclosed.mmse(edge_heavy_nine(), 1).enclosure(), "only the accuracy is enclosed"),
        (lambda: Enclosed({"what": "accuracy"}).enclosure(), "verify_less.py knows"),
        (lambda: Enclosed.ancestral_kl(GRID, [1]), "at least two SNRs"),
        (lambda: Enclosed.ancestral_kl(GRID, [2, 1]), "at least two SNRs"),
        (lambda: Enclosed.density([(0, 1), (1, -1)], 0, 1).enclosure(), "weights must be above 0"),
        (lambda: tk.prove_less(0.5, 1), "value must be exact"),  # type: ignore[arg-type]
        (lambda: tk.prove_less(0, 1, precision=16), "precision must be"),
        (lambda: tk.prove_less(0, 1, limit=64), "limit must be at least the precision"),
        (lambda: tk.prove_less(0, 1, limit=10**6), "limit must be"),
    ],
)
def test_rejected(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_sums() -> None:
    """Multiples and differences are enclosed as what they are made of."""
    one, two = Enclosed.number("1/3"), Enclosed.number("1/7")
    low, high = (2 * one - Fraction(1, 2) * two + one).enclosure()
    assert low <= 1 - Fraction(1, 14) <= high
    assert high - low < Fraction(1, 10**30)


def test_precision_of_the_caller_is_kept() -> None:
    import flint

    before = flint.ctx.prec
    tk.prove_less(0, 1).check()
    assert flint.ctx.prec == before


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flint", None)
    monkeypatch.delitem(sys.modules, "tokenkl.optimality.verify_less", raising=False)
    monkeypatch.delattr("tokenkl.optimality.verify_less", raising=False)
    enclosed.verifier.cache_clear()
    with pytest.raises(MissingExtra, match=r"python-flint, which is not installed.*certified"):
        tk.prove_less(0, 1)
    enclosed.verifier.cache_clear()
