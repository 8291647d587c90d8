"""Laws of one token in contexts: all of them, samples, models, files, the most likely tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tokenkl.sources import (
    GIVEN,
    Contexts,
    FromMasked,
    FromModel,
    Given,
    Independent,
    Joint,
    Markov,
    load_contexts,
)

K, LENGTH = 3, 4


def _chain(seed: int = 0) -> Markov:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(K, 0.4), K)
    rows[0] = [0.0, 1.0, 0.0]
    return Markov(rows, LENGTH, rng.dirichlet(np.ones(K)))


def _model(chain: Markov) -> FromModel:
    calls = []

    def log_probs(prefixes: np.ndarray) -> np.ndarray:
        calls.append(prefixes.shape)
        law = chain.initial[None].repeat(len(prefixes), 0)
        if prefixes.shape[1]:
            law = chain.transition.rows(prefixes[:, -1])
        with np.errstate(divide="ignore"):
            return np.log(law).astype(np.float32)

    return FromModel(log_probs, K, LENGTH)


def _by_listing(source: Any, given: Given, positions: list[int]) -> dict[tuple[float, ...], float]:
    """Weights of rounded laws, from every sequence."""
    sequences = np.array(list(np.ndindex(*(source.K,) * source.length)))
    chance = np.exp(source.log_prob(sequences))
    there = chance > 0
    laws = np.exp(source.conditional(sequences[there], given))
    found: dict[tuple[float, ...], float] = {}
    for law, p in zip(laws, chance[there], strict=True):
        for i in positions:
            key = tuple(np.round(law[i], 9) + 0.0)
            found[key] = found.get(key, 0.0) + p / len(positions)
    return found


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("position", [None, 0, 1, 3])
@pytest.mark.parametrize("kind", ["markov", "joint", "independent", "model"])
def test_all_contexts_and_their_probabilities(
    given: Given, position: int | None, kind: str
) -> None:
    chain = _chain()
    kinds = {
        "markov": chain,
        "joint": Joint(chain.joint()),
        "independent": Independent(chain.marginals()),
        "model": _model(chain),
    }
    source = kinds[kind]
    contexts = source.contexts(given, position=position)
    expected = _by_listing(source, given, source.positions(position))
    found: dict[tuple[float, ...], float] = {}
    for law, weight in zip(contexts.laws, contexts.weights, strict=True):
        near = min(expected, key=lambda one: float(np.abs(np.subtract(one, law)).max()))
        assert np.abs(np.subtract(near, law)).max() < 2e-7  # of single precision, in the model
        found[near] = found.get(near, 0.0) + weight
    assert contexts.exhaustive
    assert all(abs(found[key] - weight) < 1e-7 for key, weight in expected.items())
    marginals = source.marginals()[source.positions(position)]
    entropy = -np.sum(marginals * np.log(np.maximum(marginals, 1e-300)), axis=1).mean()
    assert contexts.entropy is not None
    assert abs(contexts.entropy - entropy) < 1e-12


def test_sampled_contexts_are_those_of_their_sequences() -> None:
    chain = _chain()
    contexts = chain.contexts("left", 500, position=2, key=1)
    tokens = chain.sample(500, key=1)
    laws = np.exp(chain.conditional(tokens, "left")[:, 2])
    assert np.allclose(contexts.laws, laws, rtol=1e-14, atol=0)
    assert contexts.draws == ((1,),)
    given = chain.contexts("left", tokens=tokens)
    assert given.groups.tolist() == np.repeat(np.arange(500), LENGTH).tolist()
    assert not given.exhaustive


def test_a_model_is_a_source() -> None:
    """Of the chain that it was made from: to the single precision of its answers."""
    chain, model = _chain(), _model(_chain())
    assert np.allclose(model.joint(), chain.joint(), atol=1e-7)
    tokens = model.sample(4000, key=2)
    assert (np.exp(chain.log_prob(tokens)) > 0).all()
    counts = np.bincount(tokens[:, -1], minlength=K) / 4000
    assert (abs(counts - chain.marginals()[-1]) < 4.3 * 0.5 / np.sqrt(4000)).all()
    for given in GIVEN:
        ours, theirs = model.conditional(tokens[:50], given), chain.conditional(tokens[:50], given)
        assert np.allclose(np.exp(ours), np.exp(theirs), atol=1e-6)


def test_a_model_too_large_to_try_is_refused() -> None:
    model = FromModel(lambda prefixes: np.full((len(prefixes), 300), -np.log(300)), 300, 5)
    assert model.token_entropy() is None
    assert model.contexts("left", 7, key=0).entropy is None
    with pytest.raises(ValueError, match="'others' would try each"):
        model.contexts("others", 7, key=0)
    with pytest.raises(ValueError, match="a number of sequences to sample"):
        model.contexts("left")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda prefixes: np.zeros((len(prefixes), 2)), "logarithms of laws"),
        (lambda prefixes: np.full((len(prefixes), 2), np.nan), "logarithms of laws"),
        (lambda prefixes: np.zeros((len(prefixes), 3)), r"of shape \(1, 2\)"),
    ],
)
def test_a_model_that_gives_no_laws(answer: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FromModel(answer, 2, 3).log_prob(np.zeros((1, 3), int))


def test_a_masked_model() -> None:
    chain = _chain()
    tokens = chain.sample(20, key=0)
    masked = FromMasked(lambda ids: chain.conditional(ids, "others"), K)
    found, expected = masked.contexts(tokens), chain.contexts("others", tokens=tokens)
    assert np.allclose(found.laws, expected.laws)
    assert found.groups.tolist() == expected.groups.tolist()


def test_the_most_likely_tokens() -> None:
    rng = np.random.default_rng(0)
    laws = rng.dirichlet(np.full(20, 0.3), 5)
    ids = np.argsort(-laws, axis=1)[:, :6]
    top = Contexts.from_top(ids, np.log(np.take_along_axis(laws, ids, axis=1)), 20)
    kept = np.take_along_axis(laws, ids, axis=1)
    assert np.allclose(top.rest, 1 - kept.sum(axis=1))
    expected = np.zeros_like(laws)
    np.put_along_axis(expected, ids, kept / kept.sum(axis=1, keepdims=True), axis=1)
    assert np.allclose(top.laws, expected)
    whole = Contexts.from_top(np.tile(np.arange(20), (5, 1)), np.log(laws), 20)
    assert not whole.rest.any()
    assert np.allclose(whole.laws, laws)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(1)
    laws = rng.dirichlet(np.ones(5), 4)
    path = tmp_path / f"laws{suffix}"

    def write(**arrays: Any) -> None:
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        if suffix == ".npz":
            np.savez(path, **arrays)
        else:
            save_file(arrays, path)

    write(log_probs=np.log(laws), groups=np.array([0, 0, 1, 1]), entropy=np.array([1.5]))
    found = load_contexts(path)
    assert np.allclose(found.laws, laws)
    assert found.groups.tolist() == [0, 0, 1, 1]
    assert found.entropy == 1.5
    ids = np.argsort(-laws, axis=1)[:, :2]
    top = np.log(np.take_along_axis(laws, ids, axis=1))
    write(log_probs=top, ids=ids, K=np.array([5]))
    assert np.allclose(load_contexts(path).rest, 1 - np.exp(top).sum(axis=1))
    write(log_probs=top, ids=ids)
    assert load_contexts(path, K=9).K == 9
    for arrays, words in [
        ({"log_probs": top, "ids": ids}, "does not say the number of tokens"),
        ({"log_probs": top, "ids": ids, "K": np.array([10**12])}, "few enough for"),
        ({"log_probs": np.log(laws), "weights": np.ones(3)}, r"weights have the shape \(3,\)"),
        ({"other": top}, "no array log_probs"),
        ({"log_probs": np.zeros((2, 3))}, "probabilities sum to 1"),
    ]:
        write(**arrays)
        with pytest.raises(ValueError, match=words):
            load_contexts(path)
    with pytest.raises(ValueError, match="its name ends otherwise"):
        load_contexts(tmp_path / "laws.pkl")
    with pytest.raises(ValueError, match="there is no such file"):
        load_contexts(tmp_path / f"none{suffix}")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weights": [1.0, -1.0]}, "at least 0"),
        ({"weights": [1.0]}, "one a context"),
        ({"groups": [1, 2, 3]}, "one a context"),
        ({"rest": [0.5, 1.0]}, "below 1"),
    ],
)
def test_numbers_out_of_range(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Contexts(np.log([[0.5, 0.5], [0.5, 0.5]]), **given)


def test_rows_that_are_no_laws() -> None:
    with pytest.raises(ValueError, match="probabilities sum to 1"):
        Contexts([[0.0, 0.0]])
    with pytest.raises(ValueError, match="nan or inf"):
        Contexts([[np.nan, 0.0]])
    with pytest.raises(ValueError, match="different tokens"):
        Contexts.from_top([[1, 1]], np.log([[0.5, 0.5]]), 3)
    with pytest.raises(ValueError, match="at most 1"):
        Contexts.from_top([[1, 2]], np.log([[0.9, 0.5]]), 3)


def test_sums_beyond_all_numbers(tmp_path: Path) -> None:
    """Found by `benchmarks.fuzz_readers`: the sentence itself did not fit into a float."""
    path = tmp_path / "laws.npz"
    ids: dict[str, Any] = {"ids": np.array([[0, 1]]), "K": np.array(2)}
    cases: list[tuple[float, str, dict[str, Any]]] = [
        (1e148, r"exp\(1e\+148\)", {}),
        (-1e148, r"exp\(-1e\+148\)", {}),
        (1e148, r"exp\(1e\+148\)", ids),
    ]
    for value, shown, more in cases:
        np.savez(path, log_probs=np.array([[value, -np.inf]]), **more)
        with pytest.raises(ValueError, match=f"a sum of {shown} in row 0"):
            load_contexts(path)


@pytest.mark.parametrize("entropy", [-5.0, -1e-6, np.log(3) + 1e-6, 50.0])
def test_an_entropy_that_no_token_has_is_refused(entropy: float) -> None:
    with pytest.raises(ValueError, match="entropy must be from 0 to log K"):
        Contexts(np.log(np.full((2, 3), 1 / 3)), entropy=entropy)


def test_an_entropy_is_one_number() -> None:
    laws = np.log(np.full((2, 3), 1 / 3))
    with pytest.raises(ValueError, match="entropy must be an array with 0 axes"):
        Contexts(laws, entropy=[1.0, 0.5])  # type: ignore[arg-type]
    assert Contexts(laws, entropy=float(np.log(3))).entropy == np.log(3)


def test_weights_whose_sum_overflows() -> None:
    found = Contexts(np.log(np.full((3, 3), 1 / 3)), [1e308, 1e308, 5e307]).weights
    np.testing.assert_allclose(found, [0.4, 0.4, 0.2], rtol=1e-15)
