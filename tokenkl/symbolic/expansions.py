"""Accuracy, MMSE and information where the noise is strong: power series in h = sqrt(SNR)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import sympy as sp

from tokenkl.symbolic._symbols import L, gamma, h, n, normal_cdf, normal_density, y


def line_accuracy(levels: Sequence[Any]) -> Any:
    """K A of tokens on a line, equal priors: the integral of max_k N(y; h u_k, 1) over y.

    Integrates every token's density over its cell, which ends half way to its neighbours.

    Args:
        levels: increasing positions u_k, symbols or numbers.
    """
    middles = [h * (low + high) / 2 for low, high in itertools.pairwise(levels)]
    ends = [-sp.oo, *middles, sp.oo]
    cells = itertools.pairwise(ends)
    total = sp.Integer(0)
    for u, (low, high) in zip(levels, cells, strict=True):
        total += sp.integrate(normal_density(y), (y, low - h * u, high - h * u))
    return sp.expand(sp.simplify(total))


def grid_accuracy(count: Any = L, dimension: Any = n) -> Any:
    """A of `count` equispaced levels on [-1, 1] in each of `dimension` coordinates, equal priors.

    Two end cells and `count` - 2 inner ones, each integrated; a product over coordinates.

    Args:
        count: number of levels, a symbol or a number, at least 2.
        dimension: number of coordinates, a symbol or a number.
    """
    half = h / (sp.sympify(count) - 1)  # half a gap, in noise units
    end, inner = normal_cdf(half), sp.integrate(normal_density(y), (y, -half, half))
    line = sp.collect(sp.expand(2 * end + (count - 2) * inner), inner)
    return (line / count) ** dimension


def accuracy_expansion(count: Any = L, dimension: Any = n, order: int = 3) -> Any:
    """K A of the grid in powers of h up to `order`; add O(h^(order + 1)).

    Example:
        >>> from tokenkl.symbolic._symbols import h
        >>> accuracy_expansion(2, 1, 1)
        sqrt(2)*h/sqrt(pi) + 1
    """
    count, dimension = sp.sympify(count), sp.sympify(dimension)
    one = sp.expand(sp.simplify(count * grid_accuracy(count, 1)))
    return _taylor(one**dimension, h, order)


def edge_term(points: Any) -> Any:
    """What `points` equispaced points inside an edge of the square add to K A / h^3 as h -> 0.

    Beyond the four corners. On the edge y_2 > 0 the factor of y_2 is P(y_2 > 0) = Phi(h), 1/2 at
    leading order, and along it tokens compete as on a line: `points` + 1 gaps of 2/(points + 1)
    instead of one gap of 2, each gap g adding 2 Phi(h g/2) - 1. Where both coordinates of the
    observation are O(h), an area O(h^2), no token changes K A's integrand by more than O(h^2), so
    that inner points and the ends of the edges enter at h^4.

    Args:
        points: number of points on the edge between the corners, a symbol or a number.
    """
    gaps = sp.sympify(points) + 1
    return _edge(gaps * _gap(2 / gaps) - _gap(sp.Integer(2)))


def edges_term(edges: Sequence[Sequence[Any]]) -> Any:
    """The same for any points on any edges: the coefficient of h^3 in K A, beyond the corners.

    Args:
        edges: for each edge that has points, their positions strictly between -1 and 1.
    """
    total = sp.Integer(0)
    for positions in edges:
        stops = [-1, *sorted(sp.sympify(u) for u in positions), 1]
        gain = sum(_gap(high - low) for low, high in itertools.pairwise(stops))
        total += _edge(gain - _gap(sp.Integer(2)))
    return sp.simplify(total)


def _gap(width: Any) -> Any:
    """What a gap between neighbouring tokens on a line adds to K A."""
    return 2 * normal_cdf(h * width / 2) - 1


def _edge(gain: Any) -> Any:
    return sp.factor(sp.simplify(_taylor(normal_cdf(h) * gain, h, 3).coeff(h, 3)))


def moments(count: int) -> tuple[Any, ...]:
    """Symbols m_0 = 1, m_1 = 0, m_2, ... of the moments of a centred scalar token."""
    return (sp.Integer(1), sp.Integer(0), *sp.symbols(f"m_2:{count + 1}", real=True))


@functools.cache
def mmse_expansion(order: int = 3) -> Any:
    """MMSE of a centred scalar token of any law, in powers of gamma = SNR up to `order`.

    In symbols m_k of its moments. With He_k the Hermite polynomials,
    exp(h y e - h^2 e^2/2) = sum_k h^k e^k He_k(y)/k!, so that the density of Y over that of pure
    noise is D = sum_k h^k m_k He_k/k! and D E[e|Y] = N = sum_k h^k m_{k+1} He_k/k!; the MMSE is
    m_2 minus the mean of N^2/D under N(0, 1), term by term. For unit variance it
    is the series of Guo, Wu, Shamai and Verdu (2011, IEEE Trans. Inf. Theory 57, 2371-2385).
    """
    top = 2 * order
    m = moments(top)
    hermite = [_hermite(k, y) / sp.factorial(k) for k in range(top)]
    density = sum(h**k * m[k] * hermite[k] for k in range(1, top - 1))
    numerator = sum(h**k * m[k + 1] * hermite[k] for k in range(1, top))
    return _from_series(m[2], [numerator], density, (y,), order)


@functools.cache
def mmse_expansion_vector(dimension: int = 2) -> tuple[Any, Any, Any]:
    """MMSE of a centred token in R^n up to gamma^2, and its second and third moments.

    As `mmse_expansion`, with Hermite polynomials of several variables. The result is
    tr S - gamma |S|_F^2 + gamma^2 (tr S^3 - |T|^2/2) with S the covariance and T the third moments.

    Args:
        dimension: n, a small number (2 or 3 take seconds).

    Returns:
        The expansion, S as a matrix, and T as an array of rank 3.
    """
    axes = range(dimension)
    ys = sp.symbols(f"y_1:{dimension + 1}", real=True)

    def moment(*indices: int) -> Any:
        if len(indices) == 1:
            return sp.Integer(0)
        shown = "".join(str(index + 1) for index in sorted(indices))
        return sp.Symbol(("S_{%s}" if len(indices) == 2 else "m_{%s}") % shown, real=True)

    def hermite(*indices: int) -> Any:
        return sp.prod([_hermite(indices.count(axis), ys[axis]) for axis in axes])

    def series(most: int, *given: int) -> Any:
        """Sum over k of h^k/k! sum over indices of E[e_given e_indices] He_indices(y)."""
        total = sp.Integer(0)
        for k in range(1, most + 1):
            for indices in itertools.product(axes, repeat=k):
                term = moment(*given, *indices) * hermite(*indices)
                total += h**k / sp.factorial(k) * term
        return total

    numerators = [series(3, axis) for axis in axes]
    trace = sum(moment(axis, axis) for axis in axes)
    found = _from_series(trace, numerators, series(2), ys, 2)
    S = sp.Matrix(dimension, dimension, lambda i, j: moment(i, j))
    T = sp.Array([[[moment(i, j, k) for k in axes] for j in axes] for i in axes])
    return found, S, T


def mutual_information_expansion(mmse: Any) -> Any:
    """I(token; Y) in nats from an expansion of the MMSE in gamma: half its integral (I-MMSE).

    The conditional entropy is H(prior) minus it.
    """
    return sp.expand(sp.integrate(mmse / 2, (gamma, 0, gamma)))


def _from_series(
    power: Any, numerators: Sequence[Any], density: Any, ys: Sequence[Any], order: int
) -> Any:
    """power - E sum N_i^2 / (1 + density) under standard normal ys, up to gamma^order."""
    top = 2 * order
    one = sp.Poly(1, h, *ys)
    density = sp.Poly(density, h, *ys)
    inverse, term = one, one
    for _ in range(top - 2):  # the geometric series of 1 / (1 + density); N^2 brings h^2
        term = _cut(-term * density, top - 2)
        inverse += term
    mean = sp.Integer(0)
    for numerator in numerators:
        square = _cut(sp.Poly(numerator, h, *ys) ** 2, top)
        for (degree, *powers), value in _cut(square * inverse, top).terms():
            mean += value * h**degree * sp.prod([_normal_moment(power) for power in powers])
    return sp.collect(sp.expand((power - mean).subs(h, sp.sqrt(gamma))), gamma, sp.factor)


def _cut(polynomial: Any, top: int) -> Any:
    """A polynomial, h first among its variables, without the powers of h above `top`."""
    kept = {powers: value for powers, value in polynomial.terms() if powers[0] <= top}
    return sp.Poly(kept or {(0,) * len(polynomial.gens): 0}, *polynomial.gens)


def _hermite(k: int, at: Any) -> Any:
    """He_k, by Rodrigues' formula: (-1)^k exp(y^2/2) d^k exp(-y^2/2)/dy^k."""
    z = sp.Dummy("z", real=True)
    bell = sp.exp(-(z**2) / 2)
    return sp.expand(sp.simplify((-1) ** k * sp.diff(bell, z, k) / bell)).subs(z, at)


@functools.cache
def _normal_moment(power: int) -> Any:
    return sp.integrate(y**power * normal_density(y), (y, -sp.oo, sp.oo))


def _taylor(function: Any, at: Any, order: int) -> Any:
    """Taylor polynomial in `at` about 0, by differentiation."""
    total, derivative = sp.Integer(0), function
    for k in range(order + 1):
        value = sp.expand(derivative.subs(at, 0))
        total += value * at**k / sp.factorial(k)
        derivative = sp.diff(derivative, at)
    return sp.collect(sp.expand(total), at, sp.factor)
