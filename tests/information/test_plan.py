"""`tk.plan`: who serves what, agreement with what is then done, settings honoured or refused."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax
import numpy as np
import pytest

import tokenkl as tk
from tokenkl.information.estimators import Estimator, Served, Task
from tokenkl.information.plans import ESTIMATORS
from tokenkl.information.problem import Problem

RNG = np.random.default_rng(0)
POINTS = tk.PointCodebook(RNG.standard_normal((30, 3)), name="cloud")
PLANE = tk.PointCodebook(RNG.standard_normal((12, 2)), name="plane")
LATTICE = tk.d_codebook(12, 4)
STAGES = tk.ResidualCodebook([RNG.standard_normal((32, 6)) / 2.0**s for s in range(6)])
ERRORS = ("accuracy", "error_probability")

#: Codebook, SNRs, quantities, method, and the estimator expected at each SNR.
CASES = {
    "grid": (tk.FSQ((3, 3)), [1.0, 9.0], tk.QUANTITIES, None, ["exact, by coordinate"] * 2),
    "line": (
        tk.PointCodebook(np.outer([0.0, 1.0, 2.5], [1.0, 2.0])),
        [1.0],
        tk.QUANTITIES,
        tk.Exact(),
        ["exact, by coordinate"],
    ),
    "one-hot": (tk.OneHot(5), [1.0], tk.QUANTITIES, None, ["exact, one-hot"]),
    "checkerboard": (
        tk.Checkerboard((4, 3, 5)),
        [1.0, 1e3],
        ERRORS,
        None,
        ["exact, checkerboard"] * 2,
    ),
    "plane": (PLANE, [1.0, 1e3], ERRORS, None, ["exact, Owen's T over Voronoi edges"] * 2),
    "points": (POINTS, [1.0, 1e3], tk.QUANTITIES, None, ["Monte-Carlo", "rare-event sampling"]),
    "asked": (POINTS, [1.0, 1e3], ("mmse",), tk.MonteCarlo(n_samples=64), ["Monte-Carlo"] * 2),
    "rare": (POINTS, [1.0, 1e3], ("mmse",), tk.RareEvents(), ["rare-event sampling"] * 2),
    "lattice": (
        LATTICE,
        [3.0, 400.0],
        ("accuracy",),
        None,
        ["lattice decoding along rays", "short vectors where errors are rare"],
    ),
    "rays": (
        LATTICE,
        [400.0],
        ("accuracy",),
        tk.MonteCarlo(n_samples=100),
        ["lattice decoding along rays"],
    ),
    "parts": (
        tk.Product([PLANE, tk.OneHot(3)]),
        [1.0, 1e3],
        ERRORS,
        None,
        ["exact, by part"] * 2,
    ),
    "parts, sampled": (
        tk.Product([POINTS, tk.OneHot(3)]),
        [1.0, 1e3],
        ("mmse",),
        None,
        ["by part"] * 2,
    ),
    "stages": (
        STAGES,
        [0.1],
        ("accuracy",),
        tk.MonteCarlo(n_samples=32),
        ["particle filter over stages, bracket"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_plan_is_what_is_done(case: str) -> None:
    codebook, snr, quantities, method, expected = CASES[case]
    plan = tk.plan(codebook, snr, quantities, method=method)
    found = tk.profile(codebook, snr, quantities, method=method, key=0)
    for name in quantities:
        assert plan[name].tolist() == expected
        for level, one in enumerate(expected):  # a product names those of its parts behind it
            ways = {way.estimator.partition(": ")[0] for way in found[name].method.at(level)}
            assert ways == {one}
        exact = expected[0].startswith("exact")
        assert found[name].is_sampled != exact
        assert found[name].seed == (None if exact else 0)
    again = plan.profile(key=0)
    for name in quantities:
        assert (again[name].value == found[name].value).all()
    assert plan.seconds > 0


def test_every_estimator_is_reached() -> None:
    """By one case or another; the traced one inside a transformation."""
    reached = {
        type(share.estimator)
        for codebook, snr, quantities, method, _ in CASES.values()
        for share in tk.plan(codebook, snr, quantities, method=method).shares
    }

    def traced(snr: Any) -> tk.Estimate:
        plan = tk.plan(POINTS, snr, ["mmse"])
        reached.add(type(plan.shares[0].estimator))
        return plan.profile(key=0)["mmse"]

    found = jax.jit(traced)(2.0)
    assert str(found.method) == "Monte-Carlo"
    assert np.isnan(found.standard_error)
    assert reached == {type(one) for one in ESTIMATORS}


def test_quantities_may_have_different_estimators() -> None:
    plan = tk.plan(PLANE, [[1.0], [1e3]], ["mmse", "accuracy"])
    assert plan["accuracy"].shape == (2, 1)
    assert set(plan["accuracy"].ravel()) == {"exact, Owen's T over Voronoi edges"}
    assert plan["mmse"].ravel().tolist() == ["Monte-Carlo", "rare-event sampling"]
    found = plan.profile(key=1)
    assert (found["accuracy"].seed, found["mmse"].seed) == (None, 1)
    assert list(found.estimates) == ["mmse", "accuracy"]


def test_it_prints_as_a_table() -> None:
    plan = tk.plan(PLANE, [1.0, 2.0, 1e3], ["accuracy", "mmse"])
    head, *lines = repr(plan).split("\n")
    assert head == "Plan for plane, K = 12, n = 2:"
    assert len(lines) == len(plan.shares) == 3
    assert "all SNRs" in lines[0]
    assert "Owen" in lines[0]
    assert "snr 1 to 2 (2)" in lines[1]
    assert "snr 1e+03 " in lines[2]
    assert all(line.endswith(" s") for line in lines)
    frame = plan.to_frame()
    assert frame["quantity"].tolist() == ["accuracy"] * 3 + ["mmse"] * 3
    assert frame["snr"].tolist() == [1.0, 2.0, 1e3] * 2
    assert frame["estimator"].tolist()[-1] == "rare-event sampling"
    assert frame["seconds"].sum() == pytest.approx(plan.seconds)
    with pytest.raises(ValueError, match="quantity must be one of"):
        plan["energy"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        cast(Any, plan).quantities = ()


def test_more_work_costs_more() -> None:
    few, many = (tk.plan(POINTS, [1.0], method=tk.MonteCarlo(n_samples=n)) for n in (1000, 10**6))
    assert many.seconds == pytest.approx(1000 * few.seconds)
    one, two = (tk.plan(POINTS, [1.0] * n).seconds for n in (1, 2))
    assert two == pytest.approx(2 * one)


def test_a_new_estimator_is_one_class_and_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenkl.information import plans
    from tokenkl.information.findings import Findings

    class Guess(Estimator):
        name = "a guess"
        settings = tk.Exact

        def serves(self, problem: Problem, wanted: tuple[str, ...], asked: bool) -> Served:
            return tuple(name for name in wanted if name == "mmse"), problem.snr > 0.5

        def seconds(self, problem: Problem, method: Any) -> float:
            return 0.0

        def run(self, task: Task) -> dict[str, Findings]:
            return {"mmse": Findings(task.problem.snr, method=self.name)}

    monkeypatch.setattr(plans, "ESTIMATORS", (Guess(), *ESTIMATORS))
    found = tk.profile(POINTS, [0.1, 1.0], ["mmse", "accuracy"], key=0)
    assert found["mmse"].value[1] == 1.0
    assert found["mmse"].n_samples[1] == 0
    assert found["mmse"].seed == 0
    assert str(found["mmse"].method).endswith(", a guess")
    assert "guess" not in str(found["accuracy"].method)


# ---- Settings: honoured or refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("codebook", "quantity", "method", "field"),
    [
        (LATTICE, "accuracy", tk.MonteCarlo(precision="single"), "precision"),
        (LATTICE, "accuracy", tk.MonteCarlo(control=tk.FSQ((2,))), "control"),
        (STAGES, "mmse", tk.MonteCarlo(precision="single"), "precision"),
        (STAGES, "mmse", tk.MonteCarlo(control=tk.FSQ((2,))), "control"),
        (LATTICE, "accuracy", tk.RareEvents(rtol=0.1), "rtol"),
        (LATTICE, "accuracy", tk.RareEvents(truncation=0.1), "truncation"),
        (LATTICE, "accuracy", tk.RareEvents(max_samples=4096), "max_samples"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(
    codebook: tk.Codebook, quantity: str, method: tk.MonteCarlo | tk.RareEvents, field: str
) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*; got .*") as caught:
        tk.plan(codebook, [400.0], [quantity], method=method)
    with pytest.raises(ValueError, match=f"{field} must be"):
        getattr(tk, quantity)(codebook, 400.0, method=method, key=0)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    "settings", [{"rtol": 0.1}, {"atol": 0.1}, {"memory": 2**20}, {"precision": "double"}]
)
def test_settings_inside_a_transformation(settings: dict[str, Any]) -> None:
    method = tk.MonteCarlo(**settings)
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        jax.jit(lambda snr: tk.mmse(POINTS, snr, method=method, key=0))(1.0)
    held = tk.MonteCarlo(n_samples=10**9, max_samples=64)
    few = tk.MonteCarlo(n_samples=64)
    first, second = (
        jax.jit(lambda snr, how=how: tk.mmse(POINTS, snr, method=how, key=0))(1.0)
        for how in (held, few)
    )
    assert first.value == second.value


def test_variance_reduction_is_left_out_of_brackets_too() -> None:
    plain = tk.MonteCarlo(n_samples=512, variance_reduction=False)
    found, reduced = (
        tk.mutual_information(STAGES, 0.02, method=how, key=0)
        for how in (plain, tk.MonteCarlo(n_samples=512))
    )
    assert found.standard_error > 2 * reduced.standard_error


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"method must be Exact.*RareEvents.* or None"):
        tk.plan(POINTS, 1.0, method=cast(Any, "fast"))
    with pytest.raises(ValueError, match="codebook must be a tokenkl codebook"):
        tk.plan(cast(Any, [[0.0]]), 1.0)
    with pytest.raises(ValueError, match="quantities must be one of"):
        tk.plan(POINTS, 1.0, ["energy"])
    with pytest.raises(ValueError, match="quantities must be at least one"):
        tk.plan(POINTS, 1.0, [])
    with pytest.raises(ValueError, match="snr must be"):
        tk.plan(POINTS, -1.0)
    with pytest.raises(ValueError, match=r"method must be MonteCarlo.*Exact\(\) for mmse"):
        tk.plan(PLANE, 1.0, ["accuracy", "mmse"], method=tk.Exact())
    with pytest.raises(ValueError, match=r"method must be .*at snr = 3"):
        tk.plan(LATTICE, [400.0, 3.0], ["accuracy"], method=tk.RareEvents())
    with pytest.raises(ValueError, match="inside a JAX transformation"):
        jax.jit(lambda snr: tk.mmse(POINTS, snr, method=tk.RareEvents(), key=0))(1.0)
    with pytest.raises(ValueError, match=r"key must be an integer seed.*mmse of"):
        tk.profile(PLANE, 1.0, ["accuracy", "mmse"])
    with pytest.raises(ValueError, match=r"method must be Exact.*MonteCarlo.* or None"):
        tk.ancestral_kl(POINTS, [0.1, 1.0], method=tk.RareEvents(), key=0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"n_samples": 10}, "n_samples must be a whole number, at least 64"),
        ({"rtol": -1.0}, "rtol must be above 0"),
        ({"max_samples": 1}, "max_samples must be"),
        ({"truncation": 1.0}, "truncation must be strictly between 0 and 1"),
    ],
)
def test_settings_of_rare_events(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        tk.RareEvents(**settings)


# ---- Rare events, asked for ---------------------------------------------------------------------


SOME = tk.PointCodebook(np.random.default_rng(3).standard_normal((12, 4)))
CUT = tk.d_codebook(24, 3)


@pytest.mark.parametrize("codebook", [SOME, PLANE, STAGES, tk.Product([SOME, SOME]), CUT])
@pytest.mark.parametrize("wish", [tk.Auto(), tk.Auto(n_samples=512), tk.Auto(rtol=0.1)])
def test_a_number_of_samples_changes_no_estimator(codebook: tk.Codebook, wish: tk.Auto) -> None:
    snr = [0.01, 1.0, 400.0]
    names = ("accuracy",) if codebook is CUT else tk.QUANTITIES
    plain, asked = (tk.plan(codebook, snr, names, method=method) for method in (None, wish))
    for name in names:
        for one, other in zip(plain[name], asked[name], strict=True):
            # Short vectors know no target; rays do.
            assert one == other or (wish.rtol and "short vectors" in one)


def test_one_name_is_one_quantity() -> None:
    for found in (
        tk.profile(PLANE, 1.0, "accuracy").estimates,
        tk.Masking([0.5, 0.5]).profile(0.5, "accuracy").estimates,
        tk.bounds.brackets(PLANE, 1.0, "accuracy"),
    ):
        assert list(found) == ["accuracy"]
    for wrong in ("acc", (), ["accuracy", "x"]):
        with pytest.raises(ValueError, match="quantities must be"):
            tk.profile(PLANE, 1.0, wrong)


def test_samples_and_targets_reach_every_estimator() -> None:
    snr = [1.0, 400.0]
    found = tk.error_probability(SOME, snr, method=tk.Auto(n_samples=16384), key=0)
    assert [way.estimator for way in found.method] == ["Monte-Carlo", "rare-event sampling"]
    assert found.n_samples.tolist() == [16384, 16384 // 8]
    least = tk.plan(SOME, 400.0, "accuracy", method=tk.Auto(n_samples=64)).shares[0].method
    assert least == tk.RareEvents(n_samples=64)
    assert 0 < found.value[1] < 1e-5
    assert found.standard_error[1] < 0.05 * found.value[1]
    fine = tk.error_probability(SOME, snr, method=tk.Auto(rtol=0.003), key=0)
    assert (fine.standard_error <= 0.003 * fine.value).all()
    first = tk.error_probability(SOME, 20.0, method=tk.RareEvents(n_samples=64), key=0)
    small = tk.RareEvents(n_samples=64, atol=float(first.standard_error) / 3)
    close = tk.error_probability(SOME, 20.0, method=small, key=0)
    assert float(close.standard_error) <= small.atol
    assert close.n_samples > 64
    for wrong, message in (
        ({"n_samples": 10}, "n_samples must be a whole number, at least 64"),
        ({"n_samples": 100, "rtol": 0.1}, "n_samples must be None where rtol or atol"),
        ({"atol": -1.0}, "atol must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            tk.Auto(**wrong)


def test_rare_events_against_an_exact_formula() -> None:
    exact = tk.profile(PLANE, [3.0, 100.0], ERRORS)
    found = tk.profile(PLANE, [3.0, 100.0], ERRORS, method=tk.RareEvents(n_samples=20_000), key=0)
    for name in ERRORS:
        error = 4.3 * found[name].standard_error + found[name].numerical_error
        assert (np.abs(found[name].value - exact[name].value) <= error).all()
        assert found[name].n_samples == 20_000
        assert str(found[name].method) == "rare-event sampling"


def test_rare_events_meet_their_target() -> None:
    loose, tight = (
        tk.error_probability(POINTS, 4.0, method=tk.RareEvents(rtol=rtol), key=0)
        for rtol in (0.5, 2e-3)
    )
    assert loose.n_samples == 2000
    assert tight.n_samples > 2000
    assert tight.standard_error <= 2e-3 * tight.value
    assert not tight.note


def test_rare_events_stop_where_they_are_told_to() -> None:
    method = tk.RareEvents(n_samples=100, rtol=1e-6, max_samples=1500)
    for name in ("error_probability", "accuracy"):
        found = getattr(tk, name)(POINTS, 4.0, method=method, key=0)
        assert found.n_samples == 1500
        assert "max_samples was reached" in found.note


def test_truncation_is_honoured() -> None:
    far, near = (
        tk.error_probability(POINTS, 10.0, method=tk.RareEvents(truncation=part), key=0)
        for part in (1e-9, 0.05)
    )
    assert near.numerical_error > 10 * far.numerical_error


def test_progress_is_reported_everywhere() -> None:
    for codebook, snr, quantities, method, expected in CASES.values():
        if expected[0].startswith("exact"):
            continue
        seen: list[tuple[int, int]] = []

        def note(done: int, wanted: int, seen: list[tuple[int, int]] = seen) -> None:
            seen.append((done, wanted))

        tk.profile(codebook, snr, quantities, method=method, key=0, progress=note)
        assert seen
        assert all(0 <= done <= wanted for done, wanted in seen)


def test_progress_of_rare_events_counts_draws() -> None:
    seen: list[tuple[int, int]] = []
    tk.profile(
        POINTS,
        [100.0, 1e3],
        ["mmse"],
        method=tk.RareEvents(n_samples=500),
        key=0,
        progress=lambda done, wanted: seen.append((done, wanted)),
    )
    assert seen == [(500, 1000), (1000, 1000)]


def test_levels_of_a_lattice_keep_their_streams_and_places() -> None:
    """Draws of a level depend on its place among all that were asked for, whoever serves those."""
    method = tk.RareEvents(n_samples=4000)
    together = tk.error_probability(LATTICE, [150.0, 200.0], method=method, key=0)
    first = tk.error_probability(LATTICE, [150.0], method=method, key=0)
    second = tk.error_probability(LATTICE, [200.0], method=method, key=0)
    assert together.value[0] == first.value[0] > together.value[1]
    assert together.value[1] == pytest.approx(second.value[0], rel=1e-3)
    behind = [tk.error_probability(LATTICE, [snr, 200.0], key=0).value[1] for snr in (3.0, 150.0)]
    assert behind[0] == behind[1] != tk.error_probability(LATTICE, [200.0], key=0).value[0]
