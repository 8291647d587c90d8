"""docs/theory/derivations.md: everything that SymPy derives, in LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp

from tokenkl import schedule
from tokenkl.symbolic import bridge, expansions, posterior, schedules
from tokenkl.symbolic._symbols import L, a, gamma, h, sigma, t, x

#: The schedules of `tokenkl.schedule`, in its order.
SCHEDULES = (
    schedule.LinearVP,
    schedule.CosineVP,
    schedule.BetaVP,
    schedule.SubVP,
    schedule.VE,
    schedule.EDM,
    schedule.FlowMatching,
)

_HEAD = """\
# Derivations

Written by `tokenkl derive`; do not edit. Every formula on this page is the output of SymPy
{version}, from the definitions named beside it. Status: **proved** where the derivation is a chain
of exact symbolic steps; **proved up to the stated order** for expansions. A test compares this page
with what the command writes, and every formula with the numerical code.

Notation as on the [theory page](index.md). Time runs backwards in a reverse process, and its drift
is given per unit of $t$.
"""


def page(progress: Callable[[int, int], None] | None = None) -> str:
    """The whole page as Markdown.

    Args:
        progress: called with (sections done, sections in all).
    """
    sections = (_schedules, _bridge, _log_ratio, _posterior, _accuracy, _edges, _strong_noise)
    parts = [_HEAD.format(version=sp.__version__)]
    for done, section in enumerate(sections):
        if progress is not None:
            progress(done, len(sections))
        parts.append("\n".join(section()).rstrip() + "\n")
    return "\n".join(parts)


def _display(*sides: Any) -> str:
    """One displayed equation; text is taken as LaTeX, everything else is printed by SymPy."""
    shown = [side if isinstance(side, str) else sp.latex(side) for side in sides]
    return "$$" + " = ".join(shown) + "$$\n"


def _inline(left: str, right: Any) -> str:
    return f"${left} = {sp.latex(right)}$"


def _code(functions: str, test: str, module: str) -> str:
    names = [f"`tokenkl/symbolic/{module}.py::{name}`" for name in functions.split()]
    tests = [f"`tests/symbolic/test_symbolic_{module}.py::{name}`" for name in test.split()]
    return f"Functions: {', '.join(names)}. Tests: {', '.join(tests)}.\n"


def _schedules() -> Iterator[str]:
    drift, g2 = schedules.coefficients()
    yield "## 1. Schedules (proved)\n"
    yield (
        "$X_t$ given $X_0 = a$ is $N(\\alpha a, \\sigma^2)$. The moments of $dX = fX\\,dt + "
        "g\\,dW$ obey "
        "$m' = fm$ and $V' = 2fV + g^2$; solved for $f$ and $g^2$:\n"
    )
    yield _display("f", drift)
    yield _display("g^2", g2)
    yield "The identity behind every path KL, for any $\\alpha$ and $\\sigma$:\n"
    yield _display(
        r"\frac{g^2\alpha^2}{\sigma^4} + \frac{d}{dt}\frac{\alpha^2}{\sigma^2}",
        schedules.snr_identity(),
    )
    yield (
        "The seven schedules. $\\alpha$ and $\\sigma$ are what the code of "
        "`tokenkl/schedule.py` returns when it is "
        "called with symbols; the rest is derived from them. The last line is the identity, "
        "then the "
        "difference to the $f$ and the $g^2$ that the code uses, and that of the code's inverse "
        "put into "
        "the SNR.\n"
    )
    for kind in SCHEDULES:
        one = schedules.derive_schedule(kind)
        yield f"### {one.name}\n"
        yield _display(r"\alpha", one.alpha)
        yield _display(r"\sigma", one.sigma)
        yield _display("f", one.f)
        yield _display("g^2", one.g2)
        yield _display(r"\mathrm{snr}", one.snr)
        yield _display(r"t(\gamma)", one.inverse)
        by_f, by_g2 = one.code_differences
        residuals = (one.identity, by_f, by_g2, one.inverse_residual)
        yield f"Residuals: ${', '.join(sp.latex(value) for value in residuals)}$.\n"
    yield _code(
        "coefficients snr_identity derive_schedule",
        "test_against_the_code test_residuals_vanish",
        "schedules",
    )


def _bridge() -> Iterator[str]:
    yield "## 2. Bridges (proved)\n"
    yield (
        "The reverse SDE of a data law with density $p(x, t)$ at time $t$ has the drift "
        "$b = fx - g^2\\,\\partial_x\\log p$. Conditioned on $X_0 = a$ it is Doob's transform by "
        "$h = N(x; \\alpha a, \\sigma^2)/p$. The density $N(x; \\alpha a, \\sigma^2)$ solves "
        "Fokker-Planck's equation "
        "(residual "
        f"${sp.latex(bridge.forward_residual())}$), and then $\\partial_t h + b\\,\\partial_x h "
        f"- (g^2/2)\\,"
        f"\\partial_x^2 h = {sp.latex(bridge.doob_residual())}$ for every $p$ that solves it "
        f"too. In the "
        "pinned drift the data law cancels:\n"
    )
    yield _display(r"b - g^2\,\partial_x \log h", bridge.doob_drift())
    difference, rate = bridge.path_kl_rate()
    yield (
        "The difference of the drifts for $a_1$ and $a_2$, and by Girsanov's theorem the KL "
        "per unit of $t$:\n"
    )
    yield _display(r"\Delta b", difference)
    yield _display(r"\frac{(\Delta b)^2}{2 g^2}", rate)
    yield (
        "Integrated from $t_{\\min}$ to $t_{\\max}$ for any schedule (Statement 8), in one "
        "coordinate; "
        "squares add over coordinates. From a common start:\n"
    )
    yield _display(r"\mathrm{KL}(P_1\|P_2)", bridge.path_kl())
    yield "From the true marginals at $t_{\\max}$, whose KL is integrated and added:\n"
    yield _display(r"\mathrm{KL}(P_1\|P_2)", bridge.path_kl(common_start=False))
    yield _code(
        "forward_residual doob_residual doob_drift path_kl_rate path_kl",
        "test_path_kl_of_every_schedule test_doob_drift_of_a_mixture",
        "bridge",
    )


def _log_ratio() -> Iterator[str]:
    total, mean, variance = bridge.log_ratio_cumulants()
    yield "## 3. The law of the log-ratio (proved)\n"
    yield (
        "Over one step the two bridges are Gaussian with one variance and means that differ by an "
        "amount that the state does not enter. Integration gives the cumulant generating "
        "function of the "
        "step's log-ratio under $P_1$, in terms of the step's KL:\n"
    )
    yield _display(r"\log E_{P_1} e^{\theta \log dP_1/dP_2}", total)
    yield (
        "Steps are independent, so that these add, and the law is normal with mean "
        f"${sp.latex(mean)}$ and variance ${sp.latex(variance)}$ for every number of steps and "
        f"in the limit: "
        "$\\log dP_1/dP_2 \\sim N(\\mathrm{KL}, 2\\,\\mathrm{KL})$.\n"
    )
    yield _code("gaussian_kl log_ratio_cumulants", "test_log_ratio_law", "bridge")


def _posterior() -> Iterator[str]:
    r, v = posterior.transition()
    mean, variance = posterior.ddpm_posterior()
    drift, diffusion = posterior.posterior_limit()
    yield "## 4. The DDPM posterior and its limit (proved)\n"
    yield "For $s < t$, $x_t = r x_s + \\sqrt v\\,\\varepsilon$ with\n"
    yield _display("r", r)
    yield _display("v", v)
    yield (
        "Completing the square in $x_s$ given $x_t = x$ and $x_0 = a$, for any $\\alpha$ and "
        "$\\sigma$:\n"
    )
    yield _display(r"E[x_s | x_t, x_0]", mean)
    yield _display(r"\mathrm{Var}[x_s | x_t, x_0]", variance)
    yield (
        "With $\\alpha_t = \\sqrt{\\bar\\alpha_t}$ and variance preserved, these are equations "
        "6 and 7 of Ho, Jain and "
        "Abbeel (2020, arXiv 2006.11239):\n"
    )
    for left, side in zip((r"\tilde\mu_t", r"\tilde\beta_t"), posterior.ddpm_form(), strict=True):
        yield _display(left, side)
    yield (
        "As $s \\to t$ the mean is $x + (s - t)\\,b + O((s-t)^2)$ and the variance $(t - s)\\,d "
        "+ O((s-t)^2)$, with "
        "$\\alpha'$ and $\\sigma'$ written by $f$ and $g$:\n"
    )
    yield _display("b", drift)
    yield _display("d", diffusion)
    score = sp.Symbol(r"\nabla\log p", real=True)
    tweedie = sp.solve(sp.Eq(score, -(x - schedules.alpha(t) * a) / sigma(t) ** 2), a)[0]
    yield (
        "It is the bridge of section 2. With $E[a|x_t]$ in the place of $a$, by Tweedie's formula "
        "$\\nabla \\log p = (\\alpha E[a|x] - x)/\\sigma^2$, it is the drift of the reverse SDE:\n"
    )
    yield _display("b", sp.expand(drift.subs(a, tweedie)))
    yield _code(
        "transition ddpm_posterior posterior_limit ddpm_form",
        "test_posterior_by_conditioning test_limit_is_the_bridge",
        "posterior",
    )


def _accuracy() -> Iterator[str]:
    yield "## 5. Accuracy of grids in strong noise (proved up to the stated order)\n"
    yield (
        "$L$ equispaced levels in each of $n$ coordinates, equal priors. Every token's density is "
        "integrated over its cell:\n"
    )
    yield _display("A", expansions.grid_accuracy())
    yield "Taylor polynomials of $K A$ in $h$, up to $O(h^4)$, for base 2, base 3 and any $L$:\n"
    by_base = [(2, expansions.accuracy_expansion(2)), (3, expansions.accuracy_expansion(3))]
    for base, series in by_base:
        yield _display(rf"{base}^n A_{base}", series)
    general = expansions.accuracy_expansion()
    yield _display("L^n A_L", general)
    gap = sp.factor(sp.simplify(general.coeff(h, 3) - general.coeff(h, 3).subs(L, 2)))
    yield (
        "The first two orders do not depend on $L$: they count the corners of the box. The "
        "third differs "
        "from that of base 2 by\n"
    )
    yield _display(r"[h^3]\,(L^n A_L - 2^n A_2)", gap)
    yield _code(
        "line_accuracy grid_accuracy accuracy_expansion",
        "test_grid_accuracy test_accuracy_expansion",
        "expansions",
    )


def _edges() -> Iterator[str]:
    m = sp.Symbol("m", positive=True)
    yield "## 6. The edge term (Statement 19; proved up to the stated order)\n"
    yield (
        "Tokens in the square $[-1, 1]^2$ that include its corners, equal priors. In noise "
        "units $KA = \\int \\max_k N(y; h e_k, I)\\,dy$. A token inside the square beats the "
        "corner of $y$'s quadrant only where $|y_1|$ and $|y_2|$ are both $O(h)$. One on the edge "
        "of second coordinate 1 beats its two corners only where $|y_1| \\le h$, and there it is "
        "met by other tokens than those of its edge only where $|y_2|$ is $O(h)$ too. That area "
        "is $O(h^2)$, and all $N(y; h e_k, I)$ agree on it to $O(h^2)$: what happens there "
        "changes $KA$ by $O(h^4)$. Elsewhere the maximum over an edge is that of tokens on a "
        "line, where a gap $w$ adds $2\\Phi(hw/2) - 1$, times the mass $\\Phi(h)$ of "
        "$N(y_2; h, 1)$ on $y_2 > 0$. So the coefficient of $h^3$ beyond the corners is a sum "
        "over edges; an edge with $m$ equispaced points between its corners adds\n"
    )
    term = expansions.edge_term(m)
    yield _display(r"c(m)", term)
    one, two = expansions.edge_term(1), expansions.edge_term(2)
    yield _display("c(1)", one)
    yield _display("c(2)", two)
    third = sp.Rational(1, 3)
    nine = expansions.edges_term([[0], [0], [0], [-third, third]])
    grid = expansions.edges_term([[0]] * 4)
    yield (
        "The $3 \\times 3$ grid has one point on each edge and wastes one inside; the "
        "edge-heavy nine have "
        "$1, 1, 1, 2$ on the edges. So, with $s = 1/h$ and $K = 9$,\n"
    )
    yield _display(
        r"\lim_{s\to\infty} s^3 (A_{\mathrm{nine}} - A_{\mathrm{FSQ}})",
        sp.nsimplify(sp.simplify((nine - grid) / 9)),
    )
    unit = 2 * sp.sqrt(2 * sp.pi)
    yield (
        "which is $\\frac19\\,(c(2) - c(1))$, in units of $1/(2\\sqrt{2\\pi})$: "
        + _inline(r"c(2)", sp.simplify(two * unit))
        + " and "
        + _inline(r"c(1)", sp.simplify(one * unit))
        + ".\n"
    )
    yield _code(
        "edge_term edges_term",
        "test_edges_agree_with_the_grid test_edge_heavy_nine_at_large_s",
        "expansions",
    )


def _strong_noise() -> Iterator[str]:
    yield "## 7. MMSE and information in strong noise (proved up to the stated order)\n"
    yield (
        "A centred scalar token with moments $m_k$, any law, $\\gamma = \\mathrm{snr}$. With "
        "Hermite polynomials "
        "$e^{hye - h^2e^2/2} = \\sum_k h^k e^k \\mathrm{He}_k(y)/k!$; the mean of $E[e|Y]^2$ is "
        "integrated term by "
        "term:\n"
    )
    series = expansions.mmse_expansion(3)
    yield _display(r"\mathrm{mmse}", rf"{sp.latex(series)} + O(\gamma^4)")
    information = expansions.mutual_information_expansion(series)
    yield "By I-MMSE, $I = \\frac12\\int_0^\\gamma \\mathrm{mmse}$, and $H = H(\\pi) - I$:\n"
    yield _display("I", rf"{sp.latex(sp.collect(information, gamma, sp.factor))} + O(\gamma^5)")
    vector, S, T = expansions.mmse_expansion_vector(2)
    cubes = sum(value**2 for value in sp.flatten(T.tolist()))
    forms = [
        (r"\mathrm{tr}\,S", S.trace()),
        (r"\|S\|_F^2", sum(value**2 for value in S)),
        (r"\mathrm{tr}\,S^3 - \tfrac12\|T\|^2", (S**3).trace() - cubes / 2),
    ]
    coefficients = [vector.coeff(gamma, 0), -vector.coeff(gamma, 1), vector.coeff(gamma, 2)]
    residuals = [
        sp.expand(form - found) for (_, form), found in zip(forms, coefficients, strict=True)
    ]
    yield (
        "In two dimensions, with covariance $S$ and third moments $T$, the same expansion with "
        "Hermite "
        "polynomials of two variables gives\n"
    )
    yield _display(r"\mathrm{mmse}", rf"{sp.latex(vector)} + O(\gamma^3)")
    names = ", ".join(f"${name}$" for name, _ in forms)
    yield (
        f"Its coefficients of $1$, $-\\gamma$ and $\\gamma^2$ are {names}: differences "
        f"${', '.join(sp.latex(value) for value in residuals)}$. So\n"
    )
    trace, square, cube = (sp.Symbol(name) for name, _ in forms)
    cube = sp.Symbol(r"\left(" + forms[2][0] + r"\right)")
    short = trace - gamma * square + gamma**2 * cube
    yield _display(
        "I", rf"{sp.latex(expansions.mutual_information_expansion(short))} + O(\gamma^4)"
    )
    yield _code(
        "mmse_expansion mmse_expansion_vector mutual_information_expansion",
        "test_mmse_expansion test_vector_expansion test_information_expansion",
        "expansions",
    )
