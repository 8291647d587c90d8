"""`contextual_profile` against quadrature, listings of all sequences, and counts of coverage."""

from typing import Any

import numpy as np
import pytest
from intervals import Intervals
from scipy import special
from sequences import QUANTITIES, pair_by_quadrature

import tokenkl as tk
from tokenkl.context.averages import STATISTICS
from tokenkl.context.joint import Sequences
from tokenkl.context.profiles import Case, Context
from tokenkl.information.problem import Problem
from tokenkl.sources import Contexts, Given, HiddenMarkov, Independent, Joint, Markov, Source

#: Two-sided normal quantile of a false-alarm probability of 2e-5, over what a test looks at.
Z = float(special.ndtri(1 - 1e-5))


def _pair(seed: int = 3, zeros: bool = True) -> Joint:
    law = np.random.default_rng(seed).dirichlet(np.full(9, 0.5)).reshape(3, 3)
    if zeros:
        law[0, 2] = 0
    return Joint(law / law.sum())


LINE = tk.PointCodebook([[-1.0], [0.2], [1.5]])


def _assert_within(found: tk.Estimate, answer: Any, looks: int) -> None:
    z = float(special.ndtri(1 - 1e-5 / looks))
    error = np.abs(found.value - answer)
    allowed = z * np.asarray(found.standard_error) + found.numerical_error + 1e-12
    assert (error <= allowed).all(), (found, answer)


# ---- Exact ----------------------------------------------------------------------------------


def test_clean_contexts_on_a_line_are_exact() -> None:
    """The average over all contexts of exact single-token profiles, by listing the sequences."""
    chain = Markov(np.random.default_rng(0).dirichlet(np.full(3, 0.4), 3), 3)
    snr = np.array([0.0, 0.5, 4.0, 60.0])
    sequences = np.array(list(np.ndindex(3, 3, 3)))
    chance = np.exp(chain.log_prob(sequences))
    cases: tuple[tuple[Context, Given], ...] = (("left-clean", "left"), ("others-clean", "others"))
    for context, given in cases:
        found = tk.contextual_profile(LINE, chain, snr, context=context)
        laws = np.exp(chain.conditional(sequences, given))
        answers = {name: np.zeros(4) for name in QUANTITIES}
        for p, rows in zip(chance, laws, strict=True):
            for law in rows:
                book = tk.PointCodebook(LINE.points[law > 0], law[law > 0])
                one = tk.profile(book, snr)
                for name in QUANTITIES:
                    answers[name] += p / 3 * one[name].value
        entropy = chain.token_entropy()
        assert entropy is not None
        answers["mutual_information"] = entropy - answers["conditional_entropy"]
        for name in QUANTITIES:
            assert np.allclose(found[name].value, answers[name], rtol=0, atol=1e-12), name
            assert not found[name].is_sampled


@pytest.mark.slow
@pytest.mark.parametrize("context", ["left-clean", "others-clean"])
@pytest.mark.parametrize("sure", [0.0, 0.9, 0.999])
def test_sampled_clean_contexts_are_within_their_errors(context: Context, sure: float) -> None:
    """Of every quantity, mutual information by whichever route: what is exact on a line."""
    rows = np.random.default_rng(1).dirichlet(np.full(3, 0.5), 3)
    chain = Markov((1 - sure) * rows + sure * np.eye(3), 3)
    snr = np.array([0.0, 0.003, 0.1, 1.0, 8.0, 60.0])
    exact = tk.contextual_profile(LINE, chain, snr, context=context)
    for key in range(4):
        given: dict[str, Any] = {"key": key, "method": tk.MonteCarlo(4096)}
        found = tk.contextual_profile(LINE, chain, snr, context=context, **given)
        for name in QUANTITIES:
            assert found[name].is_sampled
            _assert_within(found[name], exact[name].value, 6 * 6 * 4 * snr.size * len(QUANTITIES))


@pytest.mark.parametrize("offset", [0.0, 1e-7])
def test_noise_so_far_off_that_nothing_is_seen_overflows_nothing(offset: float) -> None:
    """At an SNR where no float holds a chance of error, and laws that are nearly certain."""
    chain = Markov([[1 - 7e-7, 7e-7], [0.3, 0.7]], 3)
    points = tk.PointCodebook([[0.0, 0.0], [-2.2, offset]])
    for snr in (1e5, 1.3e6, 1e12, 1e200):
        given: dict[str, Any] = {"key": 0, "method": tk.MonteCarlo(2048)}
        found = tk.contextual_profile(points, chain, snr, context="others-clean", **given)
        for name in ("error_probability", "conditional_entropy", "mmse"):
            assert found[name].value == found[name].standard_error == 0
        assert found["mutual_information"].value == pytest.approx(float(chain.token_entropy() or 0))


def test_without_context_is_the_profile_of_the_codebook() -> None:
    """Exactly so for a stationary law; of grids with equal marginals to the last bit."""
    chain = Markov(np.roll(np.eye(9), 1, axis=1) * 0.9 + 0.1 / 9, 5)
    book = tk.FSQ((3, 3))
    found = tk.contextual_profile(book, chain, [0.3, 5.0], context="none")
    expected = tk.profile(book, [0.3, 5.0])
    for name in QUANTITIES:
        assert np.array_equal(found[name].value, expected[name].value)
    law = Independent([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]])
    mixed = tk.contextual_profile(LINE, law, 2.0, "mmse", context="none")["mmse"]
    parts = [
        tk.mmse(tk.PointCodebook(LINE.points[: len(row)], row), 2.0).value
        for row in ([0.2, 0.3, 0.5], [0.6, 0.4])
    ]
    assert abs(mixed.value - np.mean(parts)) < 1e-13


@pytest.mark.parametrize("context", ["none", "left-clean", "others-clean", "joint"])
def test_of_independent_tokens_all_contexts_are_equal(context: Any) -> None:
    """The noisy context, too, which is sampled: its control leaves nothing to chance."""
    law = Independent([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]])
    found = tk.contextual_profile(LINE, law, [0.1, 3.0], context=context, key=0)
    expected = tk.contextual_profile(LINE, law, [0.1, 3.0], context="none")
    for name in QUANTITIES:
        assert np.allclose(found[name].value, expected[name].value, rtol=1e-12, atol=1e-13)
        assert (np.asarray(found[name].standard_error) < 1e-13).all()


# ---- The noisy context ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["joint", "markov", "hidden"])
def test_statistics_of_a_sequence_are_those_of_its_listing(kind: str) -> None:
    """The same observations, and the posterior from the densities of all K^L sequences."""
    rng = np.random.default_rng(4)
    rows = rng.dirichlet(np.full(3, 0.5), 3)
    source: Source = {
        "joint": Joint(rng.dirichlet(np.full(27, 0.3)).reshape(3, 3, 3)),
        "markov": Markov(rows, 3, [0.0, 0.5, 0.5]),
        "hidden": HiddenMarkov(rows[:2, :2] / rows[:2, :2].sum(1, keepdims=True), rows[:2], 3),
    }[kind]
    points = rng.standard_normal((3, 2)) + 100
    problem = Problem(tk.PointCodebook(points), np.array([0.0, 0.7, 9.0, 400.0]))
    found, own = Sequences(problem, source, [0, 1, 2], 5, None).values(np.arange(4), 30, 0)
    stream = np.random.default_rng(np.random.SeedSequence([5], spawn_key=(0,)))
    tokens = source.sample(30, key=int(stream.integers(2**62)))
    noise = stream.standard_normal((30, 3, 2))
    every = np.array(list(np.ndindex(3, 3, 3)))
    log_law, centred = source.log_prob(every), points - points.mean(axis=0)
    marginals = source.marginals()
    unit = 4.0**problem.exponent
    for level, h in enumerate(problem.root):
        seen = h * centred[tokens] + noise
        density = -((seen[:, None] - h * centred[every]) ** 2).sum(axis=(2, 3)) / 2 + log_law
        whole = np.exp(density - special.logsumexp(density, axis=1, keepdims=True))
        answers = np.zeros((4, 30))
        for i in range(3):
            p = np.stack([whole[:, every[:, i] == k].sum(axis=1) for k in range(3)], axis=1)
            mean = p @ centred
            spread = p @ (centred**2).sum(axis=1) - (mean**2).sum(axis=1)
            prior = special.entr(marginals[i]).sum()
            with np.errstate(divide="ignore", invalid="ignore"):
                divergence = np.where(p > 0, p * np.log(p / marginals[i]), 0.0).sum(axis=1)
            answers += np.array(
                [1 - p.max(axis=1), special.entr(p).sum(axis=1), spread / unit, divergence - prior]
            )
        assert np.allclose(found[level, :4], answers / 3, rtol=1e-9, atol=1e-11)
        assert np.allclose(found[level, 4], own[level, 1] - found[level, 1], atol=1e-14)


@pytest.mark.parametrize("seed", [0, 1])
def test_noisy_contexts_against_quadrature(seed: int) -> None:
    source, snr = _pair(seed), np.array([0.2, 2.0, 12.0])
    found = tk.contextual_profile(LINE, source, snr, key=seed)
    for level, one in enumerate(snr):
        answer = pair_by_quadrature(source.law, LINE.points.ravel(), one)
        for name in QUANTITIES:
            _assert_within(found[name][level], answer[name], 30)
    position = tk.contextual_profile(LINE, source, snr, "mmse", position=1, key=seed)
    other = tk.contextual_profile(LINE, source, snr, "mmse", position=0, key=seed + 10)
    both = (position["mmse"] + other["mmse"]) / 2
    answers = [pair_by_quadrature(source.law, LINE.points.ravel(), g)["mmse"] for g in snr]
    _assert_within(both, answers, 6)


def test_the_same_key_gives_the_same_numbers_and_targets_are_met() -> None:
    source = _pair()
    how: dict[str, Any] = {"method": tk.MonteCarlo(rtol=0.01), "key": 3}
    first, second = (tk.contextual_profile(LINE, source, [1.0, 3.0], "mmse", **how) for _ in "ab")
    assert np.array_equal(first["mmse"].value, second["mmse"].value)
    assert (first["mmse"].standard_error <= 0.01 * first["mmse"].value).all()


# ---- Sampled clean contexts -----------------------------------------------------------------


def _hostile(name: str) -> tuple[tk.Codebook, np.ndarray, float]:
    """A codebook on a line, laws, and an SNR at which some mistakes are rare."""
    rng = np.random.default_rng(len(name))
    if name == "near-certain":  # tokens that the law hardly expects make most mistakes
        laws = np.full((40, 4), 1e-4)
        laws[np.arange(40), rng.integers(4, size=40)] = 1 - 3e-4
        return tk.PointCodebook(np.arange(4.0)[:, None]), laws, 4.0
    if name == "clusters":  # pairs of near tokens, far from each other
        points = np.array([0.0, 0.01, 30.0, 30.01])[:, None]
        return tk.PointCodebook(points), rng.dirichlet(np.full(4, 0.3), 40), 4.0
    if name == "offset":
        points = 1e5 + np.array([0.0, 1.0, 2.5])[:, None]
        return tk.PointCodebook(points), rng.dirichlet(np.full(3, 0.5), 40), 6.0
    scaled = tk.PointCodebook(1e-150 * np.array([0.0, 1.0, 2.5])[:, None])
    return scaled, rng.dirichlet(np.full(3, 0.5), 40), 3e300


@pytest.mark.parametrize("exhaustive", [True, False])
@pytest.mark.slow
def test_intervals_cover_in_hostile_cases(exhaustive: bool) -> None:
    """Of eight runs of every case, and of 32 together.

    A sample of contexts is one of a law that has all: an interval covers its average.
    """
    runs, cases = 8, ("near-certain", "clusters", "offset", "scale")
    intervals = Intervals(len(cases), 0.9, wide=False)
    for number, name in enumerate(cases):
        book, laws, snr = _hostile(name)
        weights = np.random.default_rng(9).dirichlet(np.full(len(laws), 0.7))
        whole = Contexts(np.log(laws), weights, exhaustive=True)
        answers = tk.contextual_profile(book, whole, snr, method=tk.Exact())
        for key in range(runs * number, runs * (number + 1)):
            contexts = whole
            if not exhaustive:
                chosen = np.random.default_rng(key).choice(len(laws), 120, p=weights)
                contexts = Contexts(np.log(laws[chosen]), entropy=whole.entropy)
            method = tk.MonteCarlo(n_samples=240)
            found = tk.contextual_profile(book, contexts, snr, method=method, key=key)
            every = [found[quantity] for quantity in QUANTITIES]
            intervals.add(number, every, [answers[quantity].value for quantity in QUANTITIES])
    intervals.check()


def test_rare_mistakes() -> None:
    """Errors down to 1e-12 in the mean, where plain draws would meet none, with their errors."""
    rng = np.random.default_rng(8)
    laws = rng.dirichlet(np.full(4, 0.2), 100) + 1e-9
    laws /= laws.sum(axis=1, keepdims=True)
    book = tk.PointCodebook(np.array([0.0, 1.0, 2.2, 4.0])[:, None])
    contexts, snr = Contexts(np.log(laws), exhaustive=True), np.array([10.0, 50.0, 200.0])
    names = ("error_probability", "conditional_entropy", "mmse")
    exact = tk.contextual_profile(book, contexts, snr, names, method=tk.Exact())
    method = tk.MonteCarlo(n_samples=1600)
    found = tk.contextual_profile(book, contexts, snr, names, method=method, key=0)
    assert exact["error_probability"].value[2] < 1e-11
    for name in names:
        _assert_within(found[name], exact[name].value, 9)
        assert (found[name].standard_error < 0.3 * exact[name].value).all(), name


def test_replicates_are_groups() -> None:
    """Contexts of a group that are all the same count once: the error is that of few sequences."""
    rng = np.random.default_rng(0)
    laws = np.log(rng.dirichlet(np.full(3, 0.3), 30))
    repeated = np.repeat(laws, 9, axis=0)
    groups = np.repeat(np.arange(30), 9)
    how: dict[str, Any] = {"method": tk.Exact()}
    once = tk.contextual_profile(LINE, Contexts(laws), 2.0, "mmse", **how)["mmse"]
    grouped = Contexts(repeated, groups=groups)
    again = tk.contextual_profile(LINE, grouped, 2.0, "mmse", **how)["mmse"]
    naive = tk.contextual_profile(LINE, Contexts(repeated), 2.0, "mmse", **how)["mmse"]
    assert np.isclose(again.value, once.value)
    assert np.isclose(again.standard_error, once.standard_error)
    assert naive.standard_error < 0.4 * once.standard_error
    assert again.n_samples == 30


def test_large_tables_and_targets() -> None:
    """Exhaustive and sampled contexts of a grid, against a grid of independent coordinates."""
    rng = np.random.default_rng(2)
    rows = rng.dirichlet(np.full(3, 0.5), (12, 2))
    laws = np.einsum("ci,cj->cij", rows[:, 0], rows[:, 1]).reshape(12, 9)
    book, snr = tk.FSQ((3, 3)), np.array([0.3, 3.0])
    exact = [tk.profile(tk.ProductCodebook([(-1, 0, 1)] * 2, list(two)), snr) for two in rows]
    method = tk.MonteCarlo(rtol=0.01)
    contexts = Contexts(np.log(laws), exhaustive=True)
    found = tk.contextual_profile(book, contexts, snr, method=method, key=0)
    for name in ("error_probability", "conditional_entropy", "mmse"):
        answer = np.mean([one[name].value for one in exact], axis=0)
        _assert_within(found[name], answer, 6)
        assert (found[name].standard_error <= 0.01 * found[name].value).all()


def test_the_rest_of_stored_laws_is_bounded() -> None:
    """Whatever the rest may be: laws that agree on what is stored, exact on both sides."""
    rng = np.random.default_rng(1)
    points = np.sort(rng.standard_normal(8))[:, None] * 2
    book, snr = tk.PointCodebook(points), np.array([0.1, 1.0, 20.0])
    for concentration in (0.05, 0.3, 3.0):
        laws = rng.dirichlet(np.full(8, concentration), 6) + 1e-12
        laws /= laws.sum(axis=1, keepdims=True)
        ids = np.argsort(-laws, axis=1)[:, :3]
        logs = np.log(np.take_along_axis(laws, ids, axis=1))
        stored = Contexts.from_top(ids, logs, 8, exhaustive=True, entropy=2.0)
        whole = Contexts(np.log(laws), exhaustive=True, entropy=2.0)
        found, answer = (tk.contextual_profile(book, one, snr) for one in (stored, whole))
        for name in QUANTITIES:
            gap = np.abs(found[name].value - answer[name].value)
            assert (gap <= found[name].numerical_error + 1e-12).all(), name
            assert (found[name].numerical_error > 0).all()


# ---- Refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"context": "right"}, "context must be one of"),
        ({"position": 2}, "position must be None or a position from 0 to 1"),
        ({"position": np.array([0, 1])}, r"position must be None or a position .* got \[0 1\]"),
        ({"key": None}, "key must be an integer seed"),
        ({"method": tk.Exact()}, "must be sampled"),
        ({"method": tk.RareEvents()}, "method must be"),
        ({"method": tk.MonteCarlo(precision="single")}, "not in single precision"),
        ({"sequences": 5}, "None where no clean contexts are sampled"),
        ({"quantities": "sampling_error"}, "quantities must be one of"),
    ],
)
def test_arguments_out_of_range(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tk.contextual_profile(LINE, _pair(), 1.0, **{"key": 0, **given})


def test_laws_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="law must be of 2, as the codebook; got one of 3 tokens"):
        tk.contextual_profile(tk.FSQ((2,)), _pair(), 1.0, key=0)
    with pytest.raises(ValueError, match="law must be a Source or Contexts"):
        tk.contextual_profile(LINE, np.eye(3), 1.0, key=0)  # type: ignore[arg-type]
    sample = Contexts(np.log(np.full((4, 3), 1 / 3)))
    with pytest.raises(ValueError, match="entropy of a token without context is not known"):
        tk.contextual_profile(LINE, sample, 1.0, "mutual_information", key=0)
    assert "mutual_information" not in tk.contextual_profile(LINE, sample, 1.0, key=0).estimates
    with pytest.raises(ValueError, match="which have it in them"):
        tk.contextual_profile(LINE, sample, 1.0, context="joint", key=0)


def test_known_statistics_are_in_the_units_of_the_problem() -> None:
    case = Case(tk.PointCodebook(8 * LINE.points), np.array([0.05]), None, 0)
    known = case.alone(_pair(), None)
    assert known is not None
    assert known.values.shape == (1, len(STATISTICS))
    expected = tk.contextual_profile(case.codebook, _pair(), 0.05, "mmse", context="none")["mmse"]
    assert np.isclose(known.values[0, 2] * 4.0**case.problem.exponent, expected.value)
