"""`verify`: right codebooks pass, wrong quantities fail, sampled ones only beyond their errors."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import special

import tokenkl as tk
from problems import onehot_problems
from tokenkl import verification
from tokenkl.codebooks.transforms import perturb
from tokenkl.verification import (
    THEOREMS,
    Check,
    _largest_of_normals,
    count_verdicts,
    markdown_report,
    worst,
)

SNR = np.array([0.01, 0.3, 1.0, 5.0, 50.0])
RNG = np.random.default_rng(2)
CODEBOOKS = [
    tk.FSQ((3, 2)),
    tk.FSQ((3, 3), priors=[[0.7, 0.2, 0.1], None]),
    tk.OneHot(12),
    tk.OneHot(5, [0.6, 0.2, 0.1, 0.06, 0.04], 0.5),
    tk.PointCodebook(RNG.normal(size=(9, 2)), RNG.dirichlet(np.ones(9))),
    tk.PointCodebook(RNG.normal(size=(20, 5))),
    tk.ResidualCodebook([RNG.normal(size=(4, 3)), 0.2 * RNG.normal(size=(4, 3))]),
    tk.PointCodebook([[0.0, 1.0], [0.0, 1.0], [2.0, 0.0]], [0.5, 0.3, 0.2], allow_duplicates=True),
]


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Every call is made once: tests differ in what they do with the answers."""
    known = {}

    def call(codebook: tk.Codebook, snr: Any, **more: Any) -> Any:
        key = (id(codebook), np.asarray(snr).tobytes(), repr(more))
        if key not in known:
            known[key] = codebook, function(codebook, snr, **more)  # keeps the id taken
        return known[key][1]

    return call


@pytest.fixture(scope="module", autouse=True)
def sampled_anew_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "estimate", remembered(verification.estimate))
        yield


profile = remembered(verification.measure_all)


def failed(checks: list[Check]) -> set[str]:
    return {one.theorem for one in checks if one.verdict == "fail"}


def assert_right(codebook: tk.Codebook, snr: Any, key: int) -> None:
    checks = tk.verify(codebook, snr, key=key, measure=profile)
    assert not failed(checks)
    # Of the exact, of one-hot tokens, and of all but one-hot tokens.
    some = {"I-MMSE", "I-MMSE, derivative", "largest of normals", "capacity of the box"}
    if len(snr) < 3:
        some.add("H is convex")
    assert {one.theorem for one in checks} >= set(THEOREMS) - some
    assert count_verdicts(checks)["pass"] > 0.85 * len(checks)


@pytest.mark.slow
@pytest.mark.parametrize("codebook", [*CODEBOOKS[:3], CODEBOOKS[4]], ids=repr)
def test_correct_quantities_pass(codebook: tk.Codebook) -> None:
    """The slow test of errors of one per cent asks it of the others."""
    assert_right(codebook, SNR, 1)


def tampered(quantity: str, change: Callable[..., Any]) -> Callable[..., Any]:
    """The library's profile with one quantity that is wrong."""

    def measure(
        codebook: tk.Codebook, snr: Any, *, method: Any = None, key: Any = None
    ) -> tk.Profile:
        found = profile(codebook, snr, method=method, key=key)
        wrong = dataclasses.replace(found[quantity], value=change(codebook, found[quantity].value))
        return dataclasses.replace(found, estimates={**found.estimates, quantity: wrong})

    return measure


@pytest.mark.parametrize("codebook", [CODEBOOKS[1], CODEBOOKS[5]], ids=repr)
@pytest.mark.parametrize(
    ("quantity", "change", "caught"),
    [
        ("conditional_entropy", lambda cb, x: x / np.log(2), "entropy balance"),
        ("mmse", lambda cb, x: x / cb.n, "mmse, sampled anew"),
        ("mmse", lambda cb, x: 2 * x, "linear MMSE"),
        ("error_probability", lambda cb, x: 1 - x, "complement"),
        ("error_probability", lambda cb, x: x / 4, "Bonferroni"),
        ("mutual_information", lambda cb, x: 2 * x, "Gaussian input"),
        ("accuracy", lambda cb, x: x + 0.2, "complement"),
    ],
)
def test_wrong_quantities_fail(
    codebook: tk.Codebook, quantity: str, change: Callable[..., Any], caught: str
) -> None:
    checks = tk.verify(codebook, SNR, key=1, measure=tampered(quantity, change))
    assert caught in failed(checks)


def test_nan_is_no_pass() -> None:
    wrong = tampered("mmse", lambda cb, x: np.full_like(x, np.nan))
    assert "linear MMSE" in failed(tk.verify(tk.FSQ((2, 2)), SNR, measure=wrong))


@pytest.mark.slow
def test_sampling_noise_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples: some values are on the wrong side, none beyond its error.

    What `verify` itself samples is drawn once, since the noise is that of the values.
    """
    codebook, anew = CODEBOOKS[5], verification.estimate
    monkeypatch.setattr(
        verification, "estimate", lambda cb, snr, **more: anew(cb, snr, **more | {"key": 0})
    )
    verdicts = {"pass": 0, "within error bars": 0, "fail": 0}
    for key in range(8):
        checks = tk.verify(codebook, SNR[:3], key=key, method=tk.MonteCarlo(n_samples=200))
        for name, count in count_verdicts(checks).items():
            verdicts[name] += count
    assert verdicts["fail"] == 0
    assert verdicts["within error bars"] > 0


# ---- Errors of one per cent ---------------------------------------------------------------------

#: Quantity, the one that is consistent with it, and what both add up to.
PAIRS = [
    ("error_probability", "accuracy", lambda cb: 1.0),
    ("accuracy", "error_probability", lambda cb: 1.0),
    ("conditional_entropy", "mutual_information", lambda cb: float(cb.prior_entropy())),
    ("mutual_information", "conditional_entropy", lambda cb: float(cb.prior_entropy())),
    ("mmse", None, None),
    ("sampling_error", None, None),
]


def consistent(
    quantity: str, other: str | None, whole: Callable[..., Any] | None, factor: float
) -> Callable[..., Any]:
    """The library's profile with one quantity off by a factor, and the other one accordingly."""

    def measure(
        codebook: tk.Codebook, snr: Any, *, method: Any = None, key: Any = None
    ) -> tk.Profile:
        found = profile(codebook, snr, method=method, key=key)
        wrong = {quantity: factor * found[quantity].value}
        if other is not None and whole is not None:
            wrong[other] = whole(codebook) - wrong[quantity]
        replaced = {
            name: dataclasses.replace(found[name], value=value) for name, value in wrong.items()
        }
        return dataclasses.replace(found, estimates={**found.estimates, **replaced})

    return measure


#: What relates one noise level to the next.
CURVES = {
    "monotone in the SNR", "slope of H, above", "slope of H, below", "N-step KL", "H is convex",
}  # fmt: skip


def unnoticed(codebook: tk.Codebook, snr: Sequence[float]) -> list[tuple[str, float, float]]:
    """The errors of 1 % and the noise levels at which none of its own checks fails on them."""
    out = []
    for quantity, other, whole in PAIRS:
        for factor in (0.99, 1.01):
            measure = consistent(quantity, other, whole, factor)
            checks = tk.verify(codebook, snr, key=3, measure=measure)
            noticed = {
                one.snr for one in checks if one.verdict == "fail" and one.theorem not in CURVES
            }
            out += [(quantity, factor, level) for level in snr if level not in noticed]
    return out


@pytest.mark.parametrize("snr", [0.05, 4.0, 200.0])
@pytest.mark.parametrize("codebook", [CODEBOOKS[1], CODEBOOKS[3]], ids=repr)
def test_one_per_cent_is_noticed(codebook: tk.Codebook, snr: float) -> None:
    """Consistently wrong, so that A + P_e = 1 and I + H = H(prior) still hold."""
    assert not unnoticed(codebook, [snr])


SAMPLED = [
    tk.PointCodebook(np.outer([-1.0, -0.4, 0.1, 1.5], [0.6, 0.8]), [0.1, 0.2, 0.6, 0.1]),
    CODEBOOKS[4],
    tk.ProductCodebook([[0.0, 1.0, 1.7], [-1.0, 1.0]], prior=RNG.dirichlet(np.ones(6))),
    perturb(tk.FSQ((3, 2, 2)), 0.1, key=3),
    CODEBOOKS[5],
    tk.ResidualCodebook([RNG.normal(size=(3, 3)), 0.2 * RNG.normal(size=(3, 3))]),
    tk.PointCodebook([[0.0, 1.0], [0.0, 1.0], [1.0, 0.5]], [0.5, 0.3, 0.2], allow_duplicates=True),
    tk.d_codebook(4, 3),
    tk.PointCodebook(RNG.normal(size=(32, 6)), RNG.dirichlet(np.ones(32))),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codebook", "snr"),
    [
        # In turns, and at all four levels where tokens are at one place, near a grid, or many.
        (codebook, snr)
        for number, codebook in enumerate([*CODEBOOKS[:4], *SAMPLED])
        for index, snr in enumerate([(0.05, 40.0), (1.0, 300.0)])
        if index == number % 2 or number in (7, 10, 12)
    ],
    ids=repr,
)
def test_one_per_cent_is_noticed_everywhere(codebook: tk.Codebook, snr: tuple[float, ...]) -> None:
    """And what is right passes, from the same samples."""
    assert_right(codebook, snr, 3)
    assert not unnoticed(codebook, snr)


@pytest.mark.parametrize(
    ("quantity", "caught"),
    [
        ("conditional_entropy", {"I-MMSE", "I-MMSE, derivative", "H, sampled anew"}),
        ("mutual_information", {"I-MMSE", "I-MMSE, derivative", "I, sampled anew"}),
        ("mmse", {"I-MMSE", "I-MMSE, derivative", "mmse, sampled anew"}),
        ("sampling_error", {"S, sampled anew"}),
        ("error_probability", {"P_e, sampled anew", "largest of normals"}),
        ("accuracy", {"A, sampled anew", "largest of normals"}),
    ],
)
def test_which_equality_pins_what(quantity: str, caught: set[str]) -> None:
    """More than one does, each without the other."""
    name, other, whole = next(one for one in PAIRS if one[0] == quantity)
    for factor in (0.985, 1.015):
        measure = consistent(name, other, whole, factor)
        assert failed(tk.verify(CODEBOOKS[3], [6.0], key=2, measure=measure)) >= caught


def test_what_cannot_be_pinned_says_so() -> None:
    """Few samples that were asked for: the error of the check is above a per cent."""
    checks = tk.verify(CODEBOOKS[5], [1.0], key=1, method=tk.MonteCarlo(n_samples=200))
    (one,) = [check for check in checks if check.theorem == "P_e, sampled anew"]
    assert 0.01 * one.left < one.error < 0.5 * one.left
    assert one.verdict == "pass"


def clusters(scale: float, rare: float) -> tk.ProductCodebook:
    """Levels in two clusters of near points, at several scales and with rare tokens."""
    return tk.ProductCodebook(
        [np.array([-0.5, 0.5]), scale * np.arange(8), np.array([0.0, 0.01 * scale])],
        [[rare, 1 - rare], None, None],
    )


@pytest.mark.slow
@pytest.mark.parametrize("codebook", [clusters(1e-4, 0.5), clusters(1e-3, 1e-3)], ids=repr)
def test_clusters_are_no_failure(codebook: tk.ProductCodebook) -> None:
    """The part of the MMSE that rare errors between clusters carry is nearly all of it."""
    for key in range(2):
        assert not failed(tk.verify(codebook, [10.0, 74.0, 1e4], key=key))


@pytest.mark.slow
@pytest.mark.parametrize("rare", [0.5, 1e-2, 1e-5])
@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-6])
def test_no_false_alarms(scale: float, rare: float) -> None:
    """Quantities are exact here, so that only what verify samples could be at fault."""
    assert not failed(tk.verify(clusters(scale, rare), [0.1, 10.0, 60.0, 74.0, 3e3], key=0))


@pytest.mark.parametrize(
    ("K", "prior", "scale"), [(2, None, 1.0), (2, [0.9, 0.1], 0.5), (2, [1e-9, 1 - 1e-9], 2.0)]
)
def test_largest_of_two_normals(K: int, prior: list[float] | None, scale: float) -> None:
    """Two tokens: P_e in closed form."""
    p = np.full(2, 0.5) if prior is None else np.asarray(prior)
    for snr in (0.1, 3.0, 800.0):
        distance = np.sqrt(2 * snr) * scale
        edges = distance / 2 + np.log(p / p[::-1]) / distance
        found = _largest_of_normals(tk.OneHot(K, prior, scale), snr)
        assert found == pytest.approx(float(p @ special.ndtr(-edges)), rel=1e-11)


def test_largest_of_many_normals() -> None:
    for problem in onehot_problems():
        assert isinstance(problem.codebook, tk.OneHot)
        found = _largest_of_normals(problem.codebook, problem.snr)
        if found is not None and "error_probability" in problem.answers:
            assert found == pytest.approx(problem.answers["error_probability"], rel=1e-9)


def test_worst_and_report() -> None:
    checks = tk.verify(tk.FSQ((2, 2)), SNR, measure=tampered("mmse", lambda cb, x: 2 * x))
    shown = worst(checks)
    assert len(shown) == len({one.theorem for one in checks})
    linear = next(one for one in shown if one.theorem == "linear MMSE")
    assert linear.verdict == "fail"
    assert linear.margin == pytest.approx(linear.right - linear.left)
    report = markdown_report(checks, "a square")
    assert "| linear MMSE |" in report
    assert report.count("\n| ") == len(shown) + 1


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="snr must be one or more numbers above 0"):
        tk.verify(tk.FSQ((2,)), [0.0, 1.0])
    with pytest.raises(ValueError, match="key must be a whole number"):
        tk.verify(tk.FSQ((2,)), [1.0], key=-1)


def test_a_panel_says_how_far_it_is_from_the_curve() -> None:
    """Five nodes on curves that they do not resolve."""
    ticks, weights = np.polynomial.legendre.leggauss(5)
    rate = np.array([4.0, 8.0, 12.0])[:, None]
    curve = np.exp(-rate * (1 + ticks))
    area = verification._panel(
        verification.Side(curve, curve, curve), np.ones((3, 1)), ticks, weights
    )
    truth = ((1 - np.exp(-2 * rate)) / rate / 2)[:, 0]
    assert (np.abs(area.value - truth) > 1e-5 * truth).all()
    assert (area.low <= truth).all()
    assert (truth <= area.high).all()
