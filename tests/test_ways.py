"""Which estimator found which values is known through all that is done with an estimate."""

import json
from typing import Any

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.ways import Way, Ways

LOW, HIGH = Way("low", (("points", ("Sobol",)),), (0, 2)), Way("high", (), (1, 3))
MIXED = tk.Estimate([[1.0, 2.0], [3.0, 4.0]], method=Ways([LOW, HIGH]))


def names(estimate: tk.Estimate) -> list[str]:
    size = np.size(estimate.value)
    return ["+".join(way.estimator for way in estimate.method.at(i)) for i in range(size)]


def test_a_name_is_a_way() -> None:
    assert tk.Estimate(1.0).method == Ways([Way("exact")])
    assert str(tk.Estimate(1.0, method="closed form").method) == "closed form"
    assert (Ways.of(""), str(Ways.of(""))) == (Ways(), "")
    assert str(MIXED.method) == "low (points: Sobol), high"
    several = [Way("a", (("x", ("2", "1")),), (0,)), Way("a", (("x", ("1", "3")), ("y", ("4",))))]
    assert str(Ways(several)) == "a (x: 1, 2, 3; y: 4)"


def test_parts_of_an_estimate() -> None:
    assert names(MIXED) == ["low", "high", "low", "high"]
    assert names(MIXED[:, 1]) == ["high", "high"]
    assert MIXED[:, 1].method == Ways([Way("high")])  # all of it: no levels are named
    assert names(MIXED[1, ::-1]) == ["high", "low"]
    assert MIXED[0, 0].method == Ways([LOW._replace(levels=None)])
    assert names(MIXED[:0]) == []
    assert names(MIXED[:0] + 1.0) == []


def test_sums_products_and_stacks() -> None:
    assert names(2 * MIXED + 1) == names(MIXED)
    assert names(MIXED * np.ones((3, 2, 2))) == 3 * names(MIXED)
    assert names(MIXED + np.zeros((2, 2, 2))) == 2 * names(MIXED)
    other = tk.Estimate([0.5, 0.25], method=Ways([HIGH._replace(levels=(0,)), Way("c", (), (1,))]))
    assert names(MIXED + other) == ["low+high", "high+c", "low+high", "high+c"]
    assert names(tk.Estimate.stack([MIXED, tk.Estimate(np.zeros((2, 2)))])) == [
        *names(MIXED),
        *["exact"] * 4,
    ]
    assert tk.Estimate.stack([MIXED[0, 0], MIXED[1, 0]]).method == Ways([LOW._replace(levels=None)])


def test_records() -> None:
    record = json.loads(json.dumps(MIXED.to_json()))
    assert record["method"][0] == {
        "estimator": "low",
        "settings": {"points": ["Sobol"]},
        "levels": [0, 2],
    }
    assert tk.Estimate.from_json(record).method == MIXED.method
    assert tk.Estimate.from_json(record | {"method": "by hand"}).method == Ways.of("by hand")
    wrong: Any
    for wrong in (1, [1], [{}], [record["method"][0] | {"levels": [0.5]}]):
        with pytest.raises(ValueError, match=r"^record must be what Estimate.to_json gives"):
            tk.Estimate.from_json(record | {"method": wrong})


def test_what_was_chosen_at_each_level() -> None:
    """Near a grid at low SNR controls pay, and nets of Sobol points do; elsewhere neither does."""
    codebook = tk.PointCodebook(np.random.default_rng(0).standard_normal((64, 3)))
    method = tk.MonteCarlo(n_samples=4096)
    found = tk.mmse(codebook, [1e-3, 1e4], key=0, method=method)
    low, high = (dict(found.method.at(level)[0].settings) for level in (0, 1))
    assert low["control variates"]
    assert "control variates" not in high
    rough = tk.MonteCarlo(n_samples=256, precision="single", variance_reduction=False)
    settings = tk.mmse(codebook, 1.0, key=0, method=rough).method[0].settings
    assert settings == (("precision", ("single",)),)
