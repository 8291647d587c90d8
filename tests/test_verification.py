"""`verify`: right codebooks pass, wrong quantities fail, sampled ones only beyond their errors."""

import dataclasses

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.verification import THEOREMS, count_verdicts, markdown_report, sampling_error, worst

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


def failed(checks):
    return {one.theorem for one in checks if one.verdict == "fail"}


@pytest.mark.parametrize("codebook", CODEBOOKS, ids=repr)
def test_correct_quantities_pass(codebook):
    checks = tk.verify(codebook, SNR, key=1)
    assert not failed(checks)
    assert {one.theorem for one in checks} >= set(THEOREMS) - {"I-MMSE", "capacity of the box"}
    assert count_verdicts(checks)["pass"] > 0.85 * len(checks)


def tampered(quantity, change):
    """The library's profile with one quantity that is wrong."""

    def measure(codebook, snr, *, method=None, key=None):
        found = tk.profile(codebook, snr, method=method, key=key)
        wrong = dataclasses.replace(found[quantity], value=change(codebook, found[quantity].value))
        return dataclasses.replace(found, estimates={**found.estimates, quantity: wrong})

    return measure


@pytest.mark.parametrize("codebook", [CODEBOOKS[1], CODEBOOKS[5]], ids=repr)
@pytest.mark.parametrize(
    ("quantity", "change", "caught"),
    [
        ("conditional_entropy", lambda cb, x: x / np.log(2), "entropy balance"),
        ("mmse", lambda cb, x: x / cb.n, "isometry, names"),
        ("mmse", lambda cb, x: 2 * x, "linear MMSE"),
        ("error_probability", lambda cb, x: 1 - x, "complement"),
        ("error_probability", lambda cb, x: x / 4, "Bonferroni"),
        ("mutual_information", lambda cb, x: 2 * x, "Gaussian input"),
        ("accuracy", lambda cb, x: x + 0.2, "complement"),
    ],
)
def test_wrong_quantities_fail(codebook, quantity, change, caught):
    checks = tk.verify(codebook, SNR, key=1, measure=tampered(quantity, change))
    assert caught in failed(checks)


def test_nan_is_no_pass():
    wrong = tampered("mmse", lambda cb, x: np.full_like(x, np.nan))
    assert "linear MMSE" in failed(tk.verify(tk.FSQ((2, 2)), SNR, measure=wrong))


def test_sampling_noise_is_no_failure():
    """Few samples: some values are on the wrong side, none beyond its error."""
    codebook = CODEBOOKS[5]
    verdicts = {"pass": 0, "within error bars": 0, "fail": 0}
    for key in range(12):
        checks = tk.verify(codebook, SNR[:3], key=key, method=tk.MonteCarlo(n_samples=200))
        for name, count in count_verdicts(checks).items():
            verdicts[name] += count
    assert verdicts["fail"] == 0
    assert verdicts["within error bars"] > 0


def test_sampling_error_of_known_cases():
    """One-hot as points, and a grid: S from quadrature."""
    from tokenkl.testing import reference_profile

    for codebook in (tk.FSQ((3, 3)), tk.PointCodebook(np.eye(3)), CODEBOOKS[4]):
        found = sampling_error(codebook, np.array([1.0]), key=3)
        truth = float(reference_profile(codebook, 1.0)["sampling_error"])
        # 4.27 standard errors: two in 1e5.
        assert abs(found.value[0] - truth) < 4.27 * found.standard_error[0]


def test_worst_and_report():
    checks = tk.verify(tk.FSQ((2, 2)), SNR, measure=tampered("mmse", lambda cb, x: 2 * x))
    shown = worst(checks)
    assert len(shown) == len({one.theorem for one in checks})
    linear = next(one for one in shown if one.theorem == "linear MMSE")
    assert linear.verdict == "fail"
    assert linear.margin == pytest.approx(linear.right - linear.left)
    report = markdown_report(checks, "a square")
    assert "| linear MMSE |" in report
    assert report.count("\n| ") == len(shown) + 1


def test_bad_input():
    with pytest.raises(ValueError, match="snr must be one or more numbers above 0"):
        tk.verify(tk.FSQ((2,)), [0.0, 1.0])
    with pytest.raises(ValueError, match="key must be a whole number"):
        tk.verify(tk.FSQ((2,)), [1.0], key=-1)
