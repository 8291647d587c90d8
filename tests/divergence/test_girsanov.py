"""Path KL of learned denoisers against quadrature, closed forms and a simulated sampler."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy import integrate, special, stats

import tokenkl as tk
from tokenkl.channel import denoiser as posterior_mean
from tokenkl.channel import log_posterior
from tokenkl.codebooks.digits import Order
from tokenkl.codebooks.transforms import diameter
from tokenkl.divergence.girsanov import Direction, Sampler, excess_cross_entropy, learned_path_kl

BUDGET = 2e-5
Z = special.ndtri(1 - BUDGET / 2)

LINE = tk.FSQ((2,))
SQUARE = tk.FSQ((2, 2))
TRIANGLE = tk.PointCodebook([[1.0, 0.0], [-0.6, 0.8], [-0.3, -1.1]], [0.5, 0.3, 0.2])
GRID = np.array([0.1, 0.4, 1.0, 2.0, 4.0])


def tempered(codebook: tk.Codebook, temperature: float) -> Callable[..., Any]:
    """The exact posterior with its logits divided by a temperature."""
    return lambda y, snr: log_posterior(codebook, y, snr) / temperature


def constant(codebook: tk.Codebook) -> Callable[..., Any]:
    """The prior, whatever is observed."""
    return lambda y, snr: np.broadcast_to(codebook.log_prior, (len(y), codebook.K))


def within(estimate: tk.Estimate | None, value: float, z: float = Z) -> bool:
    assert estimate is not None
    # Johnson's shift is part of the interval.
    interval = estimate.confidence_interval(2 * special.ndtr(z) - 1)
    return bool(interval.low <= value <= interval.high)


def expect(function: Callable[[float], float], snr: float) -> float:
    """E function(Y) for the tokens -1 and 1 at one SNR, for an even function: Y given token 1."""
    h = np.sqrt(snr)

    def integrand(x: float) -> float:
        return np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * function(h + x)

    return integrate.quad(integrand, -14, 14, limit=400, epsabs=1e-13)[0]


def gap(snr: float, temperature: float) -> float:
    """E (e_theta - e)^2 for the tempered posterior of the tokens -1 and 1."""
    h = np.sqrt(snr)
    return expect(lambda y: (np.tanh(h * y) - np.tanh(h * y / temperature)) ** 2, snr)


def divergence(snr: float, temperature: float, reverse: bool = False) -> float:
    """E KL(p || p_theta) for the tempered posterior of the tokens -1 and 1, or reversed."""
    h = np.sqrt(snr)

    def kl(y: float) -> float:
        a, b = 2 * h * y, 2 * h * y / temperature  # log odds of the token 1
        if reverse:
            a, b = b, a
        plus = special.expit(a) * (special.log_expit(a) - special.log_expit(b))
        return plus + special.expit(-a) * (special.log_expit(-a) - special.log_expit(-b))

    return expect(kl, snr)


# ---------------------------------------------------------------- known answers


@pytest.mark.parametrize("sampler", ["ancestral", "continuous"])
@pytest.mark.parametrize("codebook", [SQUARE, TRIANGLE, tk.OneHot(5)], ids=lambda c: c.label)
def test_the_exact_denoiser_costs_nothing(codebook: tk.Codebook, sampler: Sampler) -> None:
    snr = GRID if sampler == "ancestral" else GRID[[0, -1]]
    found = learned_path_kl(
        codebook, tempered(codebook, 1.0), snr, key=0, sampler=sampler, n_samples=4096
    )
    for name in ("denoiser", "cross_entropy", "pinsker", "decoding"):
        part = getattr(found, name)
        assert 0 <= part.value <= part.numerical_error < 1e-12, name
        # That no mistake was seen does not show that there is none.
        assert not part.interval_supported, name
        assert part.confidence_interval().high > 1e-3, name
    if sampler == "continuous":
        assert found.discretisation.value == 0
        assert found.total.value == pytest.approx(found.initial.value, abs=1e-12)


@pytest.mark.parametrize(("beyond", "draws"), [(4.2, 4000), (3.0, 4000), (2.0, 20_000)])
@pytest.mark.slow
def test_rare_mistakes_are_inside_the_intervals(beyond: float, draws: int) -> None:
    # The denoiser swaps two tokens where the noise is beyond a threshold: seen never, a few times,
    # and often enough for a central-limit interval.
    codebook, snr = tk.FSQ((2,)), np.array([4.0, 9.0, 16.0])

    def swapped(y: np.ndarray, level: np.ndarray) -> np.ndarray:
        right = log_posterior(codebook, y, level)
        return np.where(y > np.sqrt(level)[:, None] + beyond, right[:, ::-1], right)

    def gap(level: float) -> float:
        h = math.sqrt(level)
        density = lambda y: (math.exp(-((y - h) ** 2) / 2) + math.exp(-((y + h) ** 2) / 2)) / 2  # noqa: E731
        scale = 2 / math.sqrt(2 * math.pi)
        return integrate.quad(
            lambda y: scale * density(y) * math.tanh(h * y) ** 2, h + beyond, h + 16
        )[0]

    truth = sum((b - a) * gap(a) for a, b in itertools.pairwise(snr))
    covered = supported = 0
    for key in range(60):
        part = learned_path_kl(codebook, swapped, snr, key=key, n_samples=draws).denoiser
        low, high, _ = part.confidence_interval(0.95)
        covered += low <= truth <= high
        supported += bool(part.interval_supported)
    assert covered >= 48  # of 60; P(fewer) < 2e-6 at a coverage of 0.95
    assert supported == (60 if beyond == 2.0 else 0)


@pytest.mark.parametrize("sampler", ["ancestral", "continuous"])
def test_tempered_posterior_by_quadrature(sampler: Sampler) -> None:
    # Two independent coordinates: twice the scalar, for the gap and for the divergence.
    if sampler == "ancestral":
        snr = GRID
        area = lambda f: float(np.diff(GRID) @ [f(g) for g in GRID[:-1]])  # noqa: E731
    else:
        snr = np.array([0.05, 6.0])
        area = lambda f: integrate.quad(f, *snr, epsabs=1e-9)[0]  # noqa: E731
    found = learned_path_kl(
        SQUARE,
        tempered(SQUARE, 2.0),
        snr,
        key=3,
        sampler=sampler,
        n_samples=2**15,
        dimension_free="forward",
    )
    assert within(found.denoiser, area(lambda g: gap(g, 2.0)))
    excess = 2 * area(lambda g: divergence(g, 2.0))
    assert within(found.cross_entropy, excess)
    assert within(found.pinsker, 2 * excess)  # diameter^2 / 4 = 2
    assert within(found.dimension_free, excess)  # range^2 / 4 = 1
    assert within(found.decoding, 2 * divergence(snr[-1], 2.0))
    assert found.denoiser.standard_error < 0.01 * found.denoiser.value
    reverse = learned_path_kl(
        SQUARE,
        tempered(SQUARE, 2.0),
        snr,
        key=4,
        sampler=sampler,
        n_samples=2**14,
        dimension_free="reverse",
    )
    assert within(reverse.dimension_free, 2 * area(lambda g: divergence(g, 2.0, reverse=True)))


@pytest.mark.parametrize("codebook", [SQUARE, tk.OneHot(4), tk.FSQ((3, 2))], ids=lambda c: c.label)
def test_prior_mean_by_i_mmse(codebook: tk.Codebook) -> None:
    # E|e - mean|^2 = power - mmse, and half of the integral of mmse is information.
    snr = (0.0, 5.0)
    found = learned_path_kl(
        codebook, constant(codebook), snr, key=5, sampler="continuous", n_samples=2**14
    )
    exact = tk.average_power(codebook) * 2.5 - tk.mutual_information(codebook, 5.0).value
    assert within(found.denoiser, exact)
    # Its excess cross-entropy is the information.
    excess = excess_cross_entropy(codebook, constant(codebook), [0.5, 5.0], key=6)
    nats = tk.mutual_information(codebook, np.array([0.5, 5.0])).value
    assert all(within(excess[i], nats[i]) for i in range(2))
    assert excess.value.shape == (2,)


def test_discretisation_of_a_sampled_codebook_is_that_of_the_same_grid() -> None:
    # The square turned by 30 degrees is no grid to the library: sampled against exact.
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    turned = tk.PointCodebook(SQUARE.points @ turn)
    arguments: dict[str, Any] = {"key": 7, "n_samples": 2**14}
    exact = learned_path_kl(SQUARE, constant(SQUARE), GRID, **arguments)
    found = learned_path_kl(turned, constant(turned), GRID, **arguments)
    assert exact.discretisation.standard_error == 0
    assert exact.discretisation.numerical_error < 1e-12
    assert found.discretisation.standard_error > 0
    assert within(found.discretisation, exact.discretisation.value)
    mmse = tk.mmse(SQUARE, GRID).value
    entropy = tk.conditional_entropy(SQUARE, GRID).value
    identity = mmse[:-1] @ np.diff(GRID) / 2 - (entropy[0] - entropy[-1])
    assert exact.discretisation.value == pytest.approx(identity, rel=1e-10)


@pytest.mark.parametrize("variance", [0.6, 1.0, 1.3, 1.5, 4.0])
@pytest.mark.parametrize("snr", [0.0, 0.02, 0.3, 3.0])
def test_initial_part_by_quadrature(snr: float, variance: float) -> None:
    def density(y: float, mean: float, var: float) -> float:
        return np.exp(-((y - mean) ** 2) / (2 * var)) / np.sqrt(2 * np.pi * var)

    def integrand(y: float) -> float:
        h = np.sqrt(snr)
        p = (density(y, h, 1) + density(y, -h, 1)) / 2
        return p * np.log(p / density(y, 0, variance))

    exact = integrate.quad(integrand, -12, 12, epsabs=1e-13, limit=200)[0]
    found = learned_path_kl(
        LINE, constant(LINE), (snr, 8.0), key=8, n_samples=2**14, start=variance**0.5
    ).initial
    assert found.interval_supported
    assert abs(found.value - exact) <= Z * found.standard_error + found.numerical_error + 1e-12
    # A wrong sign of what the variance adds would be ten times as large as this.
    assert found.standard_error <= 0.02 * max(exact, 0.1) or snr > 1
    assert found.numerical_error < 1e-10
    assert found.numerical_error > 0 or snr == 0


def test_intervals_cover_at_their_level() -> None:
    exact = integrate.quad(lambda g: gap(g, 0.5), 0.1, 4.0, epsabs=1e-9)[0] / 2
    runs = 200
    covered = sum(
        within(
            learned_path_kl(
                LINE, tempered(LINE, 0.5), (0.1, 4.0), key=key, sampler="continuous", n_samples=256
            ).denoiser,
            exact,
            z=special.ndtri(0.95),
        )
        for key in range(runs)
    )
    assert covered >= stats.binom.ppf(BUDGET, runs, 0.9)


# ---------------------------------------------------------------- what the parts mean


def test_bounds_hold_draw_by_draw() -> None:
    for codebook in (SQUARE, TRIANGLE, tk.OneHot(5), tk.FSQ((3, 2))):
        free: Direction | None = "reverse" if isinstance(codebook, tk.ProductCodebook) else None
        for temperature in (0.3, 3.0):
            found = learned_path_kl(
                codebook,
                tempered(codebook, temperature),
                GRID,
                key=9,
                n_samples=1024,
                dimension_free=free,
            )
            assert found.denoiser.value <= found.pinsker.value
            if free:
                assert found.dimension_free is not None
                assert found.denoiser.value <= found.dimension_free.value


def test_token_bound_holds_for_the_simulated_sampler() -> None:
    """KL(prior || produced token) of the ancestral sampler is below total + decoding."""
    codebook = tk.PointCodebook([[1.0], [-0.2], [-1.0]], [0.6, 0.3, 0.1])
    grid = np.array([0.0, 0.5, 2.0, 6.0])
    wrong = lambda y, snr: log_posterior(codebook, y, snr) * 0.5 + [0.0, 0.4, 0.8]  # noqa: E731
    found = learned_path_kl(codebook, wrong, grid, key=10)
    rng, paths = np.random.default_rng(11), 200_000
    state = np.zeros((paths, 1))
    y = rng.standard_normal((paths, 1))
    for begin, end in itertools.pairwise(grid):
        p = special.softmax(wrong(y, np.full(paths, begin)), axis=1)
        step = end - begin
        state = state + step * (p @ codebook.points)
        state = state + np.sqrt(step) * rng.standard_normal(state.shape)
        y = state / np.sqrt(end)
    produced = special.softmax(wrong(y, np.full(paths, grid[-1])), axis=1).mean(axis=0)
    kl = float(np.sum(codebook.prior * np.log(codebook.prior / produced)))
    assert 0.01 < kl < found.token_bound.value
    assert found.total.value == pytest.approx(
        found.initial.value + found.denoiser.value + found.discretisation.value
    )


def test_total_is_the_likelihood_ratio_of_simulated_paths() -> None:
    """Increments of the exact process under both laws: no identity of the module is used."""
    grid, paths, substeps = np.array([0.2, 0.8, 2.0]), 20_000, 24
    wrong = tempered(TRIANGLE, 2.0)
    found = learned_path_kl(TRIANGLE, wrong, grid, key=12, n_samples=2**15)
    rng = np.random.default_rng(13)
    token = rng.choice(3, size=paths, p=TRIANGLE.prior)
    state = grid[0] * TRIANGLE.points[token] + np.sqrt(grid[0]) * rng.standard_normal((paths, 2))
    log_ratio = np.zeros(paths)
    for begin, end in itertools.pairwise(grid):
        y = state / np.sqrt(begin)
        frozen = special.softmax(wrong(y, np.full(paths, begin)), axis=1) @ TRIANGLE.points
        length = (end - begin) / substeps
        for number in range(substeps):
            at = begin + number * length
            # The exact transition, given the token; its density needs none of the samplers.
            moved = length * TRIANGLE.points[token]
            moved = moved + np.sqrt(length) * rng.standard_normal(state.shape)
            centres = length * TRIANGLE.points
            log_p = special.logsumexp(
                log_posterior(TRIANGLE, state / np.sqrt(at), np.full(paths, at))
                - ((moved[:, None] - centres) ** 2).sum(axis=2) / (2 * length),
                axis=1,
            )
            log_ratio += log_p + ((moved - length * frozen) ** 2).sum(axis=1) / (2 * length)
            state = state + moved
    # The skeleton sees at most the path; what it misses shrinks with the substeps (below 2 %).
    path = found.denoiser.value + found.discretisation.value
    error = np.hypot(log_ratio.std() / np.sqrt(paths), found.total.standard_error)
    assert -Z * error <= path - log_ratio.mean() <= Z * error + 0.02 * path


# ---------------------------------------------------------------- back ends


def test_torch_and_jax_give_the_same_numbers() -> None:
    torch: Any = pytest.importorskip("torch")
    weight, bias = np.random.default_rng(14).normal(size=(4, 3)), np.arange(4.0) / 5

    def in_numpy(y: np.ndarray, snr: np.ndarray) -> np.ndarray:
        x = np.concatenate([y, np.sqrt(snr)[:, None]], axis=1)
        return np.tanh(x @ weight.T) * 2 + bias

    def in_jax(y: np.ndarray, snr: np.ndarray) -> Array:
        x = jnp.concatenate([jnp.asarray(y), jnp.sqrt(snr)[:, None]], axis=1)
        return jnp.tanh(x @ weight.T) * 2 + bias

    class InTorch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 4, bias=False, dtype=torch.float64)
            self.linear.weight.data = torch.tensor(weight)

        def forward(self, y: Any, snr: Any) -> Any:
            x = torch.cat([y, snr.sqrt()[:, None]], dim=1)
            return torch.tanh(self.linear(x)) * 2 + torch.tensor(bias)

    class InSingle(InTorch):
        def __init__(self) -> None:
            super().__init__()
            self.linear = self.linear.float()

        def forward(self, y: Any, snr: Any) -> Any:
            assert y.dtype == snr.dtype == torch.float32
            return super().forward(y, snr)

    module = InTorch()
    arguments: dict[str, Any] = {"key": 15, "n_samples": 2048}
    reference = learned_path_kl(SQUARE, in_numpy, GRID, **arguments)
    found = learned_path_kl(SQUARE, module, GRID, **arguments)
    plain = learned_path_kl(
        SQUARE, lambda y, snr: module(y, snr), GRID, backend="torch", **arguments
    )
    jitted = learned_path_kl(SQUARE, jax.jit(in_jax), GRID, backend="jax", **arguments)
    for part in ("denoiser", "cross_entropy", "decoding"):
        value = getattr(reference, part).value
        assert getattr(found, part).value == pytest.approx(value, rel=1e-12)
        assert getattr(plain, part).value == pytest.approx(value, rel=1e-12)
        assert getattr(jitted, part).value == pytest.approx(value, rel=1e-4)  # float32
    single = learned_path_kl(SQUARE, InSingle(), GRID, **arguments)
    assert single.denoiser.value == pytest.approx(reference.denoiser.value, rel=1e-4)


def test_same_key_same_bits_and_progress() -> None:
    seen = []
    arguments: dict[str, Any] = {"key": jax.random.key(0), "n_samples": 512}
    first = learned_path_kl(
        TRIANGLE,
        tempered(TRIANGLE, 2),
        GRID,
        progress=lambda done, wanted: seen.append((done, wanted)),
        **arguments,
    )
    again = learned_path_kl(TRIANGLE, tempered(TRIANGLE, 2), GRID, **arguments)
    assert seen[-1] == (512, 512)
    for field in dataclasses.fields(first):
        one, two = getattr(first, field.name), getattr(again, field.name)
        assert one is two or one.value == two.value
    assert "denoiser" in repr(first)


def test_a_token_that_is_ruled_out_costs_infinitely_much() -> None:
    impossible = lambda y, snr: np.tile([0.0, -np.inf], (len(y), 1))  # noqa: E731
    found = learned_path_kl(LINE, impossible, (0.1, 1.0), key=0, n_samples=64)
    assert found.cross_entropy.value == np.inf
    assert found.pinsker.confidence_interval().low == np.inf
    assert "probability 0" in found.cross_entropy.note
    assert np.isfinite(found.denoiser.value)


# ---------------------------------------------------------------- conditions and errors


def test_dimension_free_bound_is_refused_where_it_would_not_hold() -> None:
    joint = lambda y, snr: np.tile([2.0, 0.0, 0.0, 2.0], (len(y), 1))  # noqa: E731
    with pytest.raises(ValueError, match=r"^denoiser must be a product over the coordinates"):
        learned_path_kl(SQUARE, joint, GRID, key=0, n_samples=64, dimension_free="forward")
    with pytest.raises(ValueError, match=r"^codebook must be a grid \(ProductCodebook\)"):
        learned_path_kl(
            TRIANGLE, tempered(TRIANGLE, 1), GRID, key=0, dimension_free="forward", n_samples=64
        )
    tied = tk.ProductCodebook([[-1.0, 1.0]] * 2, prior=[0.4, 0.1, 0.1, 0.4])
    with pytest.raises(ValueError, match=r"^codebook must be a grid with a product prior"):
        learned_path_kl(tied, tempered(tied, 1), GRID, key=0, dimension_free="reverse")
    # Any head will do in the reversed one, and any prior in the forward one.
    learned_path_kl(SQUARE, joint, GRID, key=0, n_samples=64, dimension_free="reverse")
    product = tempered(SQUARE, 2.0)
    learned_path_kl(tied, product, GRID, key=0, n_samples=64, dimension_free="forward")


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_product_is_recognised_in_both_orders_of_ids(order: Order) -> None:
    grid = tk.FSQ((3, 2), order=order)
    found = learned_path_kl(
        grid, tempered(grid, 2.0), GRID, key=0, n_samples=64, dimension_free="forward"
    )
    assert found.dimension_free is not None
    assert found.dimension_free.value >= found.denoiser.value


def test_the_joint_law_would_break_the_dimension_free_bound() -> None:
    """The refusal is needed: for a law that is no product the inequality itself fails."""
    n = 6
    cube = tk.FSQ((2,) * n)
    mass = 0.05
    q = np.full(cube.K, 1e-12)
    q[0], q[-1] = 0.5 - mass, 0.5 + mass  # nearly all on two opposite corners
    p = np.full(cube.K, 1e-12)
    p[0], p[-1] = 0.5, 0.5
    p, q = p / p.sum(), q / q.sum()
    squared = (((p - q) @ cube.points) ** 2).sum()
    assert squared > 2 * (p * np.log(p / q)).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebook": 3}, r"^codebook must be a tokenkl codebook"),
        ({"denoiser": 3}, r"^denoiser must be a function of observations and SNRs"),
        ({"denoiser": lambda y, snr: y}, r"^denoiser must be a function whose result has shape"),
        ({"denoiser": lambda y, snr: np.full((len(y), 2), np.nan)}, r"^denoiser must be .* finite"),
        ({"grid": [1.0]}, r"^grid must be at least two SNRs that increase"),
        ({"grid": [1.0, 0.5]}, r"^grid must be at least two SNRs that increase"),
        ({"grid": [-1.0, 0.5]}, r"^grid must be at least 0"),
        ({"grid": GRID, "sampler": "continuous"}, r"^grid must be a pair"),
        ({"sampler": "ddim"}, r"^sampler must be one of"),
        ({"n_samples": 7}, r"^n_samples must be a whole number, at least 8"),
        ({"start": 0.0}, r"^start must be above 0"),
        ({"start_variance": 0.0}, r"^start_variance must be above 0"),
        ({"start_variance": 2.0, "start": 2.0}, r"^start_variance must be left out"),
        ({"dimension_free": "both"}, r"^dimension_free must be one of"),
        ({"key": -1}, r"^key must be"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "codebook": LINE,
        "denoiser": tempered(LINE, 2.0),
        "grid": (0.1, 1.0),
        "key": 0,
        "n_samples": 64,
    }
    with pytest.raises(ValueError, match=message):
        learned_path_kl(**(arguments | change))


def test_bad_input_of_the_excess() -> None:
    with pytest.raises(ValueError, match=r"^n_samples must be a whole number, at least 2"):
        excess_cross_entropy(LINE, tempered(LINE, 2.0), 1.0, key=0, n_samples=1)


def test_diameter() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 3))
    brute = max(np.linalg.norm(a - b) for a in points for b in points)
    assert diameter(tk.PointCodebook(points)) == pytest.approx(brute, rel=1e-14)
    assert diameter(tk.FSQ((3, 2, 5))) == pytest.approx(np.sqrt(12), rel=1e-15)
    assert diameter(tk.OneHot(7, None, 3.0)) == pytest.approx(3 * np.sqrt(2), rel=1e-15)
    assert diameter(tk.OneHot(1)) == 0
    y = rng.normal(size=(5, 3))
    assert posterior_mean(tk.PointCodebook(points), y, 1.0).shape == (5, 3)
