"""Noise laws and level recommendations: against the information curve and full enumeration."""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import numpy as np
import pytest
from scipy import integrate, stats

import tokenkl as tk
from problems import zipf
from tokenkl.divergence.mmse_table import (
    Nodes,
    sample_functionals,
    sampled_nodes,
    sampled_table,
)
from tokenkl.optimality import design, information_uniform_schedule, recommend_levels

CODEBOOK = tk.FSQ((3,) * 4)
LAW = information_uniform_schedule(CODEBOOK)


def test_cdf_is_the_share_of_information() -> None:
    x = np.linspace(LAW.log_snr[0], LAW.log_snr[-1], 40)
    nats = tk.mutual_information(CODEBOOK, np.exp(x)).value
    share = (nats - nats[0]) / (nats[-1] - nats[0])
    assert np.abs(LAW.cdf(x) - share).max() <= LAW.numerical_error < 1e-8
    assert LAW.information == pytest.approx(nats[-1] - nats[0], rel=1e-9)


def test_default_range_leaves_a_thousandth_at_each_end() -> None:
    left = tk.conditional_entropy(CODEBOOK, np.exp(LAW.log_snr[[0, -1]])).value
    assert left / (4 * math.log(3)) == pytest.approx([0.999, 0.001], rel=0.01)


@pytest.mark.parametrize(
    "codebook",
    [
        *(tk.ProductCodebook([[0, 1.0]], [[p, 1 - p]]) for p in (1e-2, 1e-6, 1e-8, 1e-12, 1e-200)),
        tk.OneHot(2, np.array([1e-8, 1 - 1e-8])),
        tk.OneHot(12, zipf(12), scale=3.0),
        tk.ProductCodebook([[-1, 1.0], [-1e-3, 1e-3], [-1e3, 1e3]]),
        tk.ProductCodebook([[0, 0.03, 1, 1.03]], [[0.1, 0.2, 0.3, 0.4]]),
        tk.ProductCodebook([[-1e120, 0, 1e120]]),
        tk.PointCodebook([[0.0, 0.0], [1e-130, 1e-130]], [1e-5, 1 - 1e-5]),
    ],
    ids=repr,
)
def test_default_range_of_any_codebook(codebook: tk.Codebook) -> None:
    """All but a thousandth at each end, at however rare priors and at all scales of levels."""
    law = information_uniform_schedule(codebook)
    low, high = np.exp(law.log_snr[[0, -1]])
    entropy = float(codebook.prior_entropy())
    assert tk.mutual_information(codebook, low).value / entropy == pytest.approx(0.001, rel=0.003)
    left = tk.conditional_entropy(codebook, high).value / entropy
    assert 0.00094 < left <= 0.001
    x = np.linspace(law.log_snr[0], law.log_snr[-1], 60)
    lost = tk.conditional_entropy(codebook, np.exp(x)).value
    share = (lost[0] - lost) / (lost[0] - lost[-1])
    assert np.abs(law.cdf(x) - share).max() <= law.numerical_error < 1e-7
    assert law.information == pytest.approx(lost[0] - lost[-1], rel=1e-10)
    u = np.linspace(0, 1, 21)
    assert np.abs(law.cdf(law.quantile(u)) - u).max() < 1e-12


def test_a_range_of_all_floats() -> None:
    """Most of it is empty; the curve is where the information is, and increases."""
    law = information_uniform_schedule(CODEBOOK, 1e-250, 1e250)
    inner = information_uniform_schedule(CODEBOOK)
    u = np.linspace(0.01, 0.99, 15)
    assert law.quantile(u * 0.998 + 0.001) == pytest.approx(inner.quantile(u), abs=1e-3)
    assert law.numerical_error < 1e-4
    assert (np.diff(law.cdf(np.linspace(-20, 20, 2001))) >= 0).all()


def test_default_range_of_a_sampled_codebook() -> None:
    """Near that of the same grid with its structure, equal priors or a rare token."""
    for priors in (None, [[0.01, 0.99], [0.3, 0.7]]):
        grid = tk.ProductCodebook([[0, 1.0], [0, 0.8]], priors)
        points = tk.PointCodebook(
            np.column_stack([grid.points, grid.points @ [0.01, 0.02]]), grid.prior
        )
        found = information_uniform_schedule(
            points, method=tk.MonteCarlo(n_samples=256), key=0
        ).log_snr
        exact = information_uniform_schedule(grid).log_snr
        assert found[[0, -1]] == pytest.approx(exact[[0, -1]], abs=0.2)


def test_errors_of_a_sampled_schedule() -> None:
    """Interpolation against the same samples at closer nodes; sampling against the exact law."""
    grid = tk.ProductCodebook([[-1, 0, 1.0], [0, 0.2]], [[0.01, 0.9, 0.09], [0.5, 0.5]])
    points = tk.PointCodebook(grid.points, grid.prior)
    method = tk.MonteCarlo(n_samples=256)
    law = information_uniform_schedule(points, 0.1, 500.0, method=method, key=1)
    nodes = sampled_nodes(points, 0.1, 500.0)
    edges = np.linspace(0, nodes.edges[-1], 3 * nodes.edges.size)
    finer = Nodes(nodes.low, nodes.scale, edges, nodes.degree)
    none = np.zeros((0, finer.x.size))
    sampled = sample_functionals(points, finer, none, method, 1)
    table = sampled_table(finer, sampled.mmse, sampled.mmse_error)
    x = np.linspace(np.log(0.1), np.log(500.0), 300)
    share = table.area(np.exp(x)) / table.area(500.0)
    off = np.abs(law.cdf(x) - share).max()
    assert 1e-12 < off <= law.numerical_error + table.area_slack / table.area(500.0)
    exact = information_uniform_schedule(grid, 0.1, 500.0)
    assert np.abs(law.cdf(x) - exact.cdf(x)).max() < 4 * law.standard_error


def test_density_is_half_of_snr_times_mmse() -> None:
    x = np.linspace(LAW.log_snr[0] + 0.1, LAW.log_snr[-1] - 0.1, 30)
    expected = np.exp(x) * tk.mmse(CODEBOOK, np.exp(x)).value / (2 * LAW.information)
    assert LAW.density(x) == pytest.approx(expected, rel=1e-6)
    assert (LAW.density(LAW.log_snr[[0, -1]] + [-1, 1]) == 0).all()


def test_quantile_inverts_cdf() -> None:
    u = np.linspace(0, 1, 101)
    assert np.abs(LAW.cdf(LAW.quantile(u)) - u).max() < 1e-12
    assert LAW.quantile([0.0, 1.0]) == pytest.approx(LAW.log_snr[[0, -1]], abs=1e-9)
    with pytest.raises(ValueError, match="u must be in"):
        LAW.quantile(1.5)


def test_samples_follow_the_law() -> None:
    drawn = LAW.sample(5000, key=1)
    assert stats.kstest(drawn, LAW.cdf).pvalue > 2e-5
    assert (drawn == LAW.sample(5000, key=1)).all()


@pytest.mark.parametrize("schedule", [tk.LinearVP(), tk.CosineVP(), tk.FlowMatching()])
def test_times_and_weights_of_a_schedule(schedule: tk.Schedule) -> None:
    u = np.linspace(0.01, 0.99, 9)
    t = LAW.times(schedule, u)
    assert (np.diff(t) > 0).all()
    assert np.log(schedule.snr(t)) == pytest.approx(LAW.quantile(1 - u), abs=1e-9)
    low, high = LAW.times(schedule, [0.0, 1.0])
    grid = np.linspace(low, high, 20_001)
    assert integrate.simpson(LAW.weight(schedule, grid), x=grid) == pytest.approx(1, abs=2e-4)
    assert LAW.weight(schedule, [0.0, 1.0]) == pytest.approx([0.0, 0.0])


def test_sampled_codebook() -> None:
    points = tk.PointCodebook(CODEBOOK.points)
    law = information_uniform_schedule(
        points, *np.exp(LAW.log_snr[[0, -1]]), method=tk.MonteCarlo(n_samples=1024), key=0
    )
    x = np.linspace(LAW.log_snr[0], LAW.log_snr[-1], 20)
    assert 0 < law.standard_error < 0.05
    assert np.abs(law.cdf(x) - LAW.cdf(x)).max() < 4 * law.standard_error


def test_unequal_priors_move_the_noise() -> None:
    """A grid whose outer levels are rare: information is gained at higher SNRs."""
    rare = tk.FSQ((3,) * 4, priors=[[0.05, 0.9, 0.05]] * 4)
    assert information_uniform_schedule(rare).quantile(0.5) > LAW.quantile(0.5) + 0.1


@pytest.mark.slow
def test_recommendation_by_enumeration() -> None:
    for snr, power, by in ((2.0, None, "information"), (30.0, 1.0, "accuracy")):
        best = recommend_levels(
            budget_tokens=200, n_range=(2, 4), snr=snr, power=power, by=by, least_share=0.8, top=5
        )
        values = []
        for n in (2, 3, 4):
            for levels in itertools.combinations_with_replacement(range(2, 65), n):
                if 200**0.8 <= math.prod(levels) <= 200:
                    cb: tk.Codebook = tk.FSQ(levels[::-1])
                    cb = cb if power is None else tk.scale_to(cb, power=power)
                    values.append((cb, levels[::-1]))
        quantity = {"information": tk.mutual_information, "accuracy": tk.accuracy}[by]
        found = {levels: float(quantity(cb, snr)) for cb, levels in values}
        ranked = sorted(found.values(), reverse=True)[:5]
        assert [getattr(one, by) for one in best] == pytest.approx(ranked, rel=1e-10)
        assert found[best[0].levels] == pytest.approx(ranked[0], rel=1e-12)
        assert best[0].information + best[0].conditional_entropy == pytest.approx(
            math.log(best[0].K), rel=1e-12
        )


def test_budget_in_bits() -> None:
    in_bits = recommend_levels(budget_bits=10, n_range=(3, 6), snr=5.0)
    in_tokens = recommend_levels(budget_tokens=1024, n_range=(3, 6), snr=5.0)
    assert in_bits == in_tokens
    assert all(one.K <= 1024 and 3 <= one.n <= 6 for one in in_bits)
    assert 0 < in_bits[0].information_per_bit <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "must be given, and only one of them"),
        ({"budget_tokens": 9, "budget_bits": 3.0}, "must be given, and only one of them"),
        ({"budget_bits": 0.5}, "budget_bits must be from 1"),
        ({"budget_tokens": 9, "n_range": (3, 2)}, "n_range must be a pair"),
        ({"budget_tokens": 9, "n_range": 2}, "n_range must be a pair"),
        ({"budget_tokens": 9, "n_range": (9, 9)}, "such that some grid"),
        ({"budget_tokens": 9, "by": "size"}, "by must be one of"),
        ({"budget_tokens": 9, "least_share": 1.0}, "least_share must be in"),
        ({"budget_tokens": 9, "snr": -1.0}, "snr must be at least 0"),
        ({"budget_tokens": 9, "snr": [1.0]}, "snr must be one concrete number"),
        ({"budget_tokens": 9, "power": 0.0}, "power must be above 0"),
    ],
)
def test_bad_budgets(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recommend_levels(**({"snr": 1.0, "n_range": (1, 4)} | options))


def test_equal_tokens_are_not_waited_for() -> None:
    """Two of three tokens coincide: the law is that of two tokens with the merged prior."""
    prior = [0.5, 0.2, 0.3]
    twice = tk.PointCodebook([[0.0], [0.0], [2.0]], prior, allow_duplicates=True)
    merged = tk.PointCodebook([[0.0], [2.0]], [0.7, 0.3])
    found = information_uniform_schedule(twice, key=0)
    room = 4 * found.standard_error + 5e-3
    assert room < 0.1
    assert found.information == pytest.approx(float(merged.prior_entropy()), rel=room)
    u = np.array([0.2, 0.5, 0.8])
    expected = information_uniform_schedule(merged, key=0)
    assert expected.cdf(found.quantile(u)) == pytest.approx(u, abs=room)


def test_bad_ranges() -> None:
    with pytest.raises(ValueError, match="snr_max must be above snr_min"):
        information_uniform_schedule(CODEBOOK, 2.0, 1.0)
    with pytest.raises(ValueError, match="snr_min must be above 0"):
        information_uniform_schedule(CODEBOOK, 0.0, 1.0)
    same = tk.PointCodebook([[1.0, 0.0], [1.0, 0.0]], allow_duplicates=True)
    with pytest.raises(ValueError, match="distinct tokens, or snr_min and snr_max"):
        information_uniform_schedule(same, key=0)
    with pytest.raises(ValueError, match="schedule must be"):
        LAW.times(cast(Any, "linear"), 0.5)
    with pytest.raises(ValueError, match="schedule must be"):
        LAW.weight(cast(Any, "linear"), 0.5)


def test_tensors_in_tensors_out() -> None:
    """With a generator of torch, or tensors, a noise schedule answers with tensors like them."""
    torch = pytest.importorskip("torch")
    law, schedule = tk.information_uniform_schedule(tk.FSQ((3, 3))), tk.LinearVP()
    drawn = law.sample(4000, key=torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.get_default_dtype()
    assert stats.kstest(law.cdf(drawn).numpy(), "uniform").pvalue > 2e-5
    again = law.sample(4000, key=torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    assert isinstance(law.sample(3, key=0), np.ndarray)
    u = np.array([[0.1, 0.5], [0.9, 0.99]])
    t = law.times(schedule, u)
    for dtype, rtol in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        found = {
            "times": (law.times(schedule, torch.tensor(u, dtype=dtype)), t),
            "named": (law.times(schedule, u=torch.tensor(u, dtype=dtype)), t),
            "weight": (law.weight(schedule, torch.tensor(t, dtype=dtype)), law.weight(schedule, t)),
            "cdf": (law.cdf(law.quantile(torch.tensor(u, dtype=dtype))), u),
            "density": (law.density(torch.tensor(u, dtype=dtype)), law.density(u)),
        }
        for name, (tensor, array) in found.items():
            assert tensor.dtype == dtype, name
            np.testing.assert_allclose(tensor.numpy(), array, rtol=50 * rtol, atol=rtol)
    with pytest.raises(ValueError, match="a tensor for times must be one without"):
        law.times(schedule, torch.tensor(u, requires_grad=True))
    with pytest.raises(ValueError, match="size must be a whole number"):
        law.sample(0, key=torch.Generator())


@pytest.mark.parametrize(("K", "n", "samples"), [(2**12, 2**6, 4096), (2**15, 2**6, 1024)])
def test_large_tables_have_fewer_samples_for_their_range(K: int, n: int, samples: int) -> None:
    points = np.random.default_rng(0).standard_normal((K, n))
    assert design._ranging(tk.PointCodebook(points)) == tk.MonteCarlo(samples)
