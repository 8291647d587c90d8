"""Gains of cuts of lattices in dB, against the exact curves that they are read off."""

from __future__ import annotations

import numpy as np
import pytest

import tokenkl as tk
from experiments.structured_regimes import Config, compute


def test_gains_are_those_of_the_values() -> None:
    config = Config((4,), (3,), (0.2,), samples=2**10)
    table, facts = compute(config, lambda done, total: None)
    assert len(table) == 4
    fsq, cut = tk.FSQ((3,) * 4), tk.LatticeCodebook("D+", 3, 4)
    for row in table.itertuples():
        quantity = {"accuracy": tk.accuracy, "information": tk.mutual_information}[row.quantity]
        power = row.constraint == "power"
        scales = [4 / float(tk.average_power(one)) if power else 1.0 for one in (fsq, cut)]
        snr = 10 ** (row.snr_db / 10)
        # FSQ at an SNR that is higher by the gain is as good as the cut.
        raised = snr * 10 ** (row.gain_db / 10)
        assert float(
            quantity(tk.scale_to(fsq, power=4) if power else fsq, raised)
        ) == pytest.approx(row.cut, rel=1e-6)
        assert float(quantity(fsq, snr * scales[0])) == pytest.approx(row.fsq, rel=1e-9)
        assert row.low < row.gain_db < row.high
    accuracy = table[table.quantity == "accuracy"]
    assert np.allclose(1 - accuracy.fsq, 0.2, atol=1e-9)
    assert sum(one["cases"] for one in facts["summary"]) == 4


def test_refused() -> None:
    with pytest.raises(ValueError, match="error probabilities"):
        Config(rates=(1.5,))
