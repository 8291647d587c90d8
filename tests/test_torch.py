"""`tokenkl.torch`: values, errors and gradients, by JAX, by differences and by exact formulas."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats

import tokenkl as tk
from problems import onehot_problems, product_problems

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(5)
CLOUD = RNG.standard_normal((7, 3))
LAW = np.array([0.3, 0.05, 0.2, 0.1, 0.15, 0.12, 0.08])
LEVELS, PRIOR = np.array([-1.0, -0.3, 0.8]), np.array([0.5, 0.2, 0.3])
NAMES = (*tk.QUANTITIES, "sampling_error")
#: Directions in which levels and prior are moved; that of the prior stays on the simplex.
ALONG, ON_SIMPLEX = np.array([0.2, 1.0, -0.5]), np.array([0.3, 0.1, -0.4])
#: Chance of a false alarm of one statistical test.
ALARM = 2e-5


def _value(name: str, weight: Any, snr: Any, prior: Any = None, **given: Any) -> Any:
    return getattr(tk.torch, name)(weight, snr, prior, **{"key": 0, **given})


@pytest.mark.slow
def test_it_is_imported_when_it_is_asked_for() -> None:
    code = (
        "import sys, tokenkl as tk; assert 'torch' not in sys.modules;"
        "tk.torch.mmse; assert 'torch' in sys.modules; print(hasattr(tk, 'torche'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


#: Two clusters a million times farther apart than their tokens.
CLUSTERS = 1e-6 * CLOUD + np.repeat([[0.0], [1.0]], [4, 3], axis=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("tokens", "snr"), [(CLOUD, 0.2), (CLOUD, 2.0), (CLOUD, 20.0), (CLUSTERS, 2e12)]
)
def test_the_same_as_by_jax(name: str, tokens: np.ndarray, snr: float) -> None:
    """Same random numbers, same values and gradients as the traced estimator has in float64."""

    def traced(points: Any, level: Any) -> Any:
        codebook = tk.PointCodebook(points, prior)
        method = tk.MonteCarlo(n_samples=300)
        return getattr(tk, name)(codebook, level, method=method, key=3).value

    for prior in (None, LAW):
        if prior is not None and name in ("mutual_information", "conditional_entropy"):
            continue  # JAX knows one of the two routes
        with jax.enable_x64(True):
            value, slopes = jax.value_and_grad(traced, argnums=(0, 1))(tokens, snr)
        weight = torch.tensor(tokens, requires_grad=True)
        level = torch.tensor(snr, dtype=torch.float64, requires_grad=True)
        ours = _value(name, weight, level, prior, key=3, n_samples=300)
        ours.backward()
        rtol = 1e-9 if tokens is CLOUD else 1e-7
        np.testing.assert_allclose(ours.item(), value, rtol=rtol)
        atol = 1e-3 * rtol * np.abs(slopes[0]).max()
        np.testing.assert_allclose(weight.grad.numpy(), slopes[0], rtol=rtol, atol=atol)
        np.testing.assert_allclose(level.grad.item(), slopes[1], rtol=rtol)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("snr", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("prior", [None, LAW], ids=["equal", "unequal"])
def test_gradients_are_those_of_the_average(name: str, snr: float, prior: Any) -> None:
    """By central differences, in weights and SNRs, at two SNRs at once."""
    weight = torch.tensor(CLOUD, requires_grad=True)
    levels = torch.tensor([snr, 1.3 * snr], dtype=torch.float64, requires_grad=True)

    def average(w: Any, s: Any) -> Any:
        return _value(name, w, s, prior, n_samples=60)

    assert torch.autograd.gradcheck(average, (weight, levels), eps=1e-5, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("snr", [0.3, 3.0, 25.0])
def test_gradients_are_unbiased(name: str, snr: float) -> None:
    """Against differences of the exact value on a line, in levels, prior and SNR."""
    exact = getattr(tk, name)

    def difference(make: Any, step: float = 1e-3) -> float:
        near, far = (float(exact(*make(s * step))) - float(exact(*make(-s * step))) for s in (1, 2))
        return (8 * near - far) / (12 * step)

    expected = [
        difference(lambda e: (tk.ProductCodebook([LEVELS + e * ALONG], [PRIOR]), snr)),
        difference(lambda e: (tk.ProductCodebook([LEVELS], [PRIOR + e * ON_SIMPLEX]), snr)),
        difference(lambda e: (tk.ProductCodebook([LEVELS], [PRIOR]), snr * (1 + e))) / snr,
    ]
    runs = 60
    found = np.empty((runs, 3))
    for key in range(runs):
        weight = torch.tensor(LEVELS[:, None], requires_grad=True)
        prior = torch.tensor(PRIOR, requires_grad=True)
        level = torch.tensor(snr, dtype=torch.float64, requires_grad=True)
        _value(name, weight, level, prior, key=key, n_samples=1024).backward()
        along, on_simplex = (weight.grad[:, 0].numpy(), ALONG), (prior.grad.numpy(), ON_SIMPLEX)
        found[key] = np.dot(*along), np.dot(*on_simplex), level.grad.item()
    error = found.std(axis=0, ddof=1) / np.sqrt(runs)
    limit = stats.t.isf(ALARM / 6, runs - 1)
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - expected), limit * error + 1e-9)


@pytest.mark.parametrize("prior", [None, LAW], ids=["equal", "unequal"])
def test_i_mmse(prior: Any) -> None:
    """d I / d snr = mmse / 2, each from random numbers of its own."""
    levels, runs = np.array([0.05, 0.5, 3.0, 20.0]), 60
    gap = np.empty((runs, levels.size))
    for key in range(runs):
        snr = torch.tensor(levels, requires_grad=True)
        information = _value("mutual_information", torch.tensor(CLOUD), snr, prior, key=key)
        information.sum().backward()
        half = _value("mmse", torch.tensor(CLOUD), levels, prior, key=1000 + key) / 2
        gap[key] = snr.grad.numpy() - half.numpy()
    error = gap.std(axis=0, ddof=1) / np.sqrt(runs)
    assert (np.abs(gap.mean(axis=0)) < stats.t.isf(ALARM / 8, runs - 1) * error).all()


@pytest.mark.parametrize("prior", [None, LAW], ids=["equal", "unequal"])
def test_blocks_change_nothing(prior: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients are the same whatever is kept, and however samples are divided."""
    found = []
    for block, kept in ((2**16, 2**22), (2**16, 0), (50, 0)):
        monkeypatch.setattr(tk.torch, "BLOCK", block)
        monkeypatch.setattr(tk.torch, "KEPT", kept)
        weight = torch.tensor(CLOUD, requires_grad=True)
        snr = torch.tensor([0.5, 4.0], dtype=torch.float64, requires_grad=True)
        run = tk.torch.profile(weight, snr, NAMES, prior, key=1, n_samples=200)
        torch.stack([one.value.sum() for one in run.values()]).sum().backward()
        values = [one.value.detach() for one in run.values()]
        found.append(torch.cat([*values, snr.grad, weight.grad.flatten()]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-10, atol=1e-12)


def test_a_generator_and_a_seed() -> None:
    weight = torch.tensor(CLOUD)
    assert _value("mmse", weight, 1.0, key=4) == _value("mmse", weight, 1.0, key=4)
    source = torch.Generator().manual_seed(1)
    first, second = (_value("mmse", weight, 1.0, key=source) for _ in range(2))
    assert first != second
    assert _value("mmse", weight, 1.0, key=torch.Generator().manual_seed(1)) == first
    estimate = tk.torch.profile(weight, 1.0, ["mmse"], key=4)["mmse"].estimate
    assert estimate.seed == 4
    assert tk.torch.profile(weight, 1.0, ["mmse"], key=source)["mmse"].estimate.seed is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_precision_is_that_of_the_weights(dtype: Any) -> None:
    weight = torch.nn.Parameter(torch.tensor(CLOUD).to(dtype))
    found = _value("mutual_information", weight, torch.tensor([[1.0], [2.0]]))
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert found.shape == (2, 1)
    found.sum().backward()
    assert weight.grad.dtype == dtype
    exact = _value("mutual_information", weight.detach().double(), [[1.0], [2.0]])
    torch.testing.assert_close(found.double(), exact, rtol=1e-7, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_neighbours_far_from_the_origin(scale: float) -> None:
    """An offset of 10^6 gaps, and any scale, change values by rounding of the weights only."""
    near = torch.tensor([[0.0, 0], [1, 0], [0, 1], [3, 2]], dtype=torch.float64) * 2.0**-20
    for name in NAMES:
        plain = _value(name, near, 2.0**41)
        moved = _value(name, scale * (near + 1), 2.0**41 / scale**2)
        if name == "mmse":
            moved = moved / scale**2
        torch.testing.assert_close(moved, plain, rtol=1e-8, atol=0)


def test_ends() -> None:
    """Pure noise, hardly any noise, equal tokens and a single one, with finite gradients."""
    for snr in (0.0, 1e-300, 1e-12, 1e12, 1e300):
        weight = torch.tensor([[0.0, 1], [0, 1], [2, 0]], dtype=torch.float64, requires_grad=True)
        found = tk.torch.profile(weight, snr, NAMES, [0.5, 0.25, 0.25], key=0)
        torch.stack([one.value for one in found.values()]).sum().backward()
        assert torch.isfinite(weight.grad).all()
        assert all(torch.isfinite(one.value) for one in found.values())
        if snr >= 1e12:
            share = found["error_probability"].estimate
            low, high, _ = share.confidence_interval(1 - ALARM)
            assert low <= 0.25 <= high
        if snr == 0:
            np.testing.assert_allclose(found["mutual_information"].value.item(), 0, atol=1e-15)
            np.testing.assert_allclose(found["accuracy"].value.item(), 0.5)
    one = tk.torch.profile(torch.ones(1, 2), [0.0, 1.0], key=0)
    assert [float(q.value.abs().sum()) for q in one.values()] == [2.0, 0, 0, 0, 0]
    assert tk.torch.mmse(torch.ones(2, 2), [], key=0).shape == (0,)


def test_rare_errors_keep_their_digits() -> None:
    """Two tokens 16 apart in noise units: an error of 6e-16, which 1 - accuracy would not show."""
    pair = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    found = tk.torch.profile(pair, 64.0, ["error_probability"], key=0, n_samples=2**14)
    value, estimate = found["error_probability"]
    assert value.item() > 0
    low, high, _ = estimate.confidence_interval(1 - ALARM)
    assert low <= float(tk.error_probability(tk.FSQ((2,)), 64.0)) <= high
    assert not estimate.interval_supported


@pytest.mark.slow
def test_intervals_hold_where_the_answer_is_known() -> None:
    """Skewed and nearly certain priors, errors down to 1e-289, one-hot tokens."""
    known = [one for one in (*product_problems(), *onehot_problems()) if one.codebook.K <= 100]
    level = 1 - ALARM / sum(len(one.answers) for one in known)
    for problem in known:
        book = problem.codebook
        prior = None if book.has_equal_priors else book.prior
        found = tk.torch.profile(torch.tensor(book.points), problem.snr, NAMES, prior, key=0)
        for name, answer in problem.answers.items():
            low, high, _ = found[name].estimate.confidence_interval(level)
            assert low <= answer <= high, (problem.label, name)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["equal", "zipf"])
def test_intervals_cover(law: str) -> None:
    """95 % intervals on a rotated grid, at three SNRs, against the exact values."""
    prior = None if law == "equal" else [np.array([0.7, 0.2, 0.1])] * 2
    grid = tk.ProductCodebook([np.array([-1.0, 0.2, 1.0])] * 2, prior)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((2, 2)))[0]
    weight, snr, runs = torch.tensor(grid.points @ turn), np.array([0.1, 2.0, 15.0]), 250
    exact = tk.profile(grid, snr, NAMES)
    covered = {name: np.zeros(snr.size) for name in NAMES}
    for key in range(runs):
        given = None if prior is None else grid.prior
        found = tk.torch.profile(weight, snr, NAMES, given, key=key, n_samples=512)
        for name, one in found.items():
            low, high, _ = one.estimate.confidence_interval()
            covered[name] += (low <= exact[name].value) & (exact[name].value <= high)
    fewest = stats.binom.ppf(ALARM / 18, runs, 0.93)  # 512 samples are few: 2 % are allowed for
    for name, counts in covered.items():
        assert (counts >= fewest).all(), (name, counts / runs)


def test_what_no_sample_sees_is_not_vouched_for() -> None:
    """Two clusters whose mistakes are too rare for the sample: the interval says so, and holds."""
    inside = 1e-4 * np.random.default_rng(0).standard_normal((20, 2))
    points = np.concatenate([inside, inside + np.array([1.0, 0.0])])
    snr = 8.6**2
    exact = tk.conditional_entropy(tk.PointCodebook(points), snr, key=0)
    found = tk.torch.profile(torch.tensor(points), snr, ["conditional_entropy"], key=0)
    estimate = found["conditional_entropy"].estimate
    assert not estimate.interval_supported
    low, high, _ = estimate.confidence_interval()
    assert low <= float(exact) <= high


def test_training_separates_tokens() -> None:
    """Ascent on the information at fixed power reaches what the best four points have."""
    torch.manual_seed(0)
    tokens = torch.nn.Embedding(4, 2)
    optimiser = torch.optim.Adam(tokens.parameters(), lr=0.05)
    for step in range(150):
        centred = tokens.weight - tokens.weight.mean(0)
        weight = centred / centred.square().sum(1).mean().sqrt()
        optimiser.zero_grad()
        (-tk.torch.mutual_information(weight, 4.0, key=step, n_samples=512)).backward()
        optimiser.step()
    book = tk.PointCodebook(weight)
    square = tk.PointCodebook([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    method = tk.MonteCarlo(n_samples=2**14)
    reached, best = (
        tk.mutual_information(one, 4.0, key=0, method=method) for one in (book, square)
    )
    assert float(reached) > float(best) - 0.02


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weight": torch.tensor([[0.0], [torch.nan]])}, "weight must be finite.*holding nan"),
        ({"weight": torch.tensor([[0.0], [torch.inf]])}, "weight must be finite.*holding inf"),
        ({"weight": torch.ones(3)}, r"weight must be a \(K, n\) tensor.*shape \(3,\)"),
        ({"weight": torch.ones(0, 3)}, r"weight must be .*shape \(0, 3\)"),
        ({"weight": torch.ones(2, 3, dtype=torch.int64)}, "weight must be .*torch.int64"),
        ({"weight": [[0.0], [1.0]]}, "weight must be a"),
        ({"prior": [0.5, 0.4]}, "prior must be a probability vector.*0.9"),
        ({"prior": torch.tensor([1.0, 0.0])}, "prior must be strictly positive"),
        ({"prior": torch.ones(3) / 3}, "prior must be of length K = 2"),
        ({"prior": torch.tensor([0.5, 0.4], requires_grad=True)}, "prior must be a probability"),
        ({"snr": -1.0}, "snr must be at least 0"),
        ({"snr": torch.tensor([1.0, torch.nan])}, "snr must be finite"),
        ({"snr": torch.tensor([0.0, 1.0], requires_grad=True)}, "snr must be above 0 everywhere"),
        ({"key": -1}, "key must be"),
        ({"key": None}, "key must be"),
        ({"n_samples": 1}, "n_samples must be a whole number, at least 2"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    known = {"weight": torch.tensor([[0.0], [1.0]]), "snr": 1.0, "prior": None, "key": 0}
    for name in ("mutual_information", "mmse"):
        with pytest.raises(ValueError, match=message):
            getattr(tk.torch, name)(**{**known, **given})
    if "n_samples" not in given:
        with pytest.raises(ValueError, match="quantities must be one of"):
            tk.torch.profile(torch.ones(1, 1), 1.0, ["capacity"], key=0)


def test_parameters_are_points() -> None:
    """Wherever arrays are taken: with a gradient, and in bfloat16."""
    weight = torch.nn.Embedding(5, 2).weight
    for given in (weight, weight.bfloat16(), torch.nn.Parameter(weight.half())):
        codebook = tk.PointCodebook(given, torch.full((5,), 0.2))
        np.testing.assert_array_equal(codebook.points, given.detach().double().numpy())
        snr = torch.tensor([1.0, 2.0])
        method = tk.MonteCarlo(n_samples=64)
        found = tk.profile(codebook, snr, key=0, method=method)
        assert found["mmse"].value.shape == (2,)
    assert tk.FSQ((3, 3)).nearest(torch.tensor([[0.9, -0.2]])).tolist() == [7]
    assert tk.ResidualCodebook([weight, 0.1 * weight]).K == 25
