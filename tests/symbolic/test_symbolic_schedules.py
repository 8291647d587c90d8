"""The derived schedules against the code, in symbols and in numbers."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import sympy as sp

import tokenkl as tk
from tokenkl.symbolic import coefficients, derive_schedule, in_coefficients, snr_identity
from tokenkl.symbolic._symbols import alpha, f, g, gamma, sigma, t
from tokenkl.symbolic.page import SCHEDULES

PARAMETERS = {
    "BetaVP": (0.3, 7.0),
    "SubVP": (0.2, 11.0),
    "VE": (0.03, 12.0),
    "EDM": (0.01, 20.0, 4.5),
}
derived = functools.cache(derive_schedule)


def test_all_schedules_are_here() -> None:
    public = [getattr(tk, name) for name in tk.__all__]
    known = [one for one in public if isinstance(one, type) and issubclass(one, tk.Schedule)]
    # A table has no formula; of these two SymPy makes nothing that one would print.
    others = {tk.Schedule, tk.TableSchedule, tk.LogLinear, tk.SqrtVP}
    assert set(known) - others == set(SCHEDULES)


@pytest.mark.parametrize("kind", SCHEDULES, ids=lambda kind: kind.__name__)
def test_against_the_code(kind: type[tk.Schedule]) -> None:
    one = derived(kind)
    values = PARAMETERS.get(kind.__name__, ())
    code = kind(*values)
    times = np.random.default_rng(1).uniform(0.02, 0.98, 7)
    for name in ("alpha", "sigma", "f", "g2", "snr"):
        formula = getattr(one, name).subs(dict(zip(one.parameters, values, strict=True)))
        exact = [float(formula.subs(t, sp.Float(float(at), 40)).evalf(30)) for at in times]
        np.testing.assert_allclose(getattr(code, name)(times), exact, rtol=4e-13, atol=1e-300)
    inverse = one.inverse.subs(dict(zip(one.parameters, values, strict=True)))
    for at, snr in zip(times, code.snr(times), strict=True):
        assert float(inverse.subs(gamma, sp.Float(snr, 40)).evalf(30)) == pytest.approx(
            at, rel=1e-9
        )


@pytest.mark.parametrize("kind", SCHEDULES, ids=lambda kind: kind.__name__)
def test_residuals_vanish(kind: type[tk.Schedule]) -> None:
    one = derived(kind)
    assert one.identity == 0
    assert one.code_differences == (0, 0)
    assert one.inverse_residual == 0


def test_residuals_see_errors() -> None:
    # The zeros above are no accident of a simplification that drops everything.
    one = derived(tk.SubVP)
    wrong = type(one)(**{**vars(one), "g2": 2 * one.g2, "snr": one.snr * (1 + t)})
    assert wrong.identity != 0
    assert wrong.code_differences[1] != 0
    assert wrong.inverse_residual != 0


def test_any_schedule() -> None:
    assert snr_identity() == 0
    drift, g2 = coefficients()
    assert sp.simplify(drift - sp.diff(sp.log(alpha(t)), t)) == 0
    assert in_coefficients(drift) == f(t)
    assert in_coefficients(g2) == g(t) ** 2
    rate = sp.diff(sigma(t) ** 2, t)
    assert sp.simplify(in_coefficients(rate) - 2 * f(t) * sigma(t) ** 2 - g(t) ** 2) == 0
