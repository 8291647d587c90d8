"""The autoregressive twin: who sees what, exact likelihoods, generation that agrees with them."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from tokenkl._random import generator
from tokenkl.tts.ar import AR, AR_SIZES, ARConfig, nucleus, sample
from tokenkl.tts.data import Batch, Example, make_batch

TOY = ARConfig(K=11, symbols=7, width=32, heads=2, depth=3)


def build(config: ARConfig = TOY, seed: int = 0, spread: float = 8.0) -> AR:
    """A model whose weights are large enough for every path to matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AR(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(spread)
    return model


def examples(sizes: list[tuple[int, int]], key: int = 0, config: ARConfig = TOY) -> list[Example]:
    """Random examples of given numbers of symbols and tokens."""
    rng = generator(key)
    return [
        Example(str(i), "", rng.integers(config.K, size=L), rng.integers(1, config.symbols, size=P))
        for i, (P, L) in enumerate(sizes)
    ]


def parts(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return batch.tokens, batch.symbols, batch.symbol_mask


@pytest.fixture(scope="module")
def model() -> AR:
    return build()


@pytest.fixture(scope="module")
def batch() -> Batch:
    return make_batch(examples([(5, 9), (2, 4), (8, 12), (1, 1)]), "pad")


# ---- Configuration -------------------------------------------------------------------------------


def test_config_round_trip_and_refusals() -> None:
    config = AR_SIZES["10x"](6561, 35, pace=2.5, dropout=0.1)
    assert ARConfig.from_json(config.to_json()) == config
    refused: dict[str, Any] = {
        "K": 0, "symbols": 0, "depth": 1.5, "width": 30, "pace": 0.0,
        "dropout": 1.0, "token_dropout": -0.1, "rope_base": -1.0,
    }  # fmt: skip
    for name, bad in refused.items():
        with pytest.raises(ValueError, match=rf"^{name} must be .*\.$"):
            dataclasses.replace(config, heads=8, **{name: bad})


@pytest.mark.parametrize(("size", "count"), [("1x", 3e6), ("10x", 30e6)])
def test_published_sizes(size: str, count: float) -> None:
    config = AR_SIZES[size](K=6561, symbols=35)
    total = sum(p.numel() for p in AR(config).parameters())
    assert abs(total - 6562 * config.width - count) < 0.08 * count


# ---- Who sees what -------------------------------------------------------------------------------


def test_speech_is_causal(model: AR, batch: Batch) -> None:
    tokens, symbols, mask = parts(batch)
    before = model(tokens, symbols, mask)
    for at in (0, 3, 11):
        other = tokens.clone()
        other[:, at] = (other[:, at] + 1) % TOY.K
        after = model(other, symbols, mask)
        assert torch.equal(before[:, : at + 1], after[:, : at + 1])
        changed = (before[:, at + 1 :] - after[:, at + 1 :]).abs().amax(dim=(0, 2))
        assert (changed > 1e-3).all()


def test_text_is_seen_both_ways_and_by_all_speech(model: AR, batch: Batch) -> None:
    _, symbols, mask = parts(batch)
    row = 2  # 8 symbols
    before, _ = model.read(symbols, mask)
    for at in (0, 7):
        other = symbols.clone()
        other[row, at] = 1 + other[row, at] % (TOY.symbols - 1)
        after, _ = model.read(other, mask)
        keys = (before[1][row] - after[1][row]).abs().amax(dim=(0, 2))  # of the second block
        assert (keys > 1e-4).all()
        speech = model(batch.tokens, symbols, mask) - model(batch.tokens, other, mask)
        speech = speech[..., : TOY.K]  # EOS is impossible at first: infinity less infinity
        assert (speech[row].abs().amax(dim=1) > 1e-4).all()
        assert speech[:row].abs().max() == 0


def test_the_end_of_the_text_is_marked(model: AR) -> None:
    """Where a text ends is known although positions are relative and padding is not seen."""
    symbols = torch.ones(2, 6, dtype=torch.int64)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    logits = model(torch.zeros(2, 3, dtype=torch.int64), symbols, mask)
    assert (logits[0] - logits[1])[..., : TOY.K].abs().max() > 1e-2


def test_padding_changes_nothing(model: AR, batch: Batch) -> None:
    alone = [make_batch([one], "pad") for one in examples([(5, 9), (2, 4), (8, 12), (1, 1)])]
    apart = torch.cat([model.nll(one) for one in alone])
    assert torch.allclose(model.nll(batch), apart, rtol=1e-6, atol=1e-5)
    ids = torch.where(batch.token_mask, batch.tokens, 3)
    symbols = torch.where(batch.symbol_mask, batch.symbols, 5)
    filled = batch._replace(tokens=ids, symbols=symbols)
    assert torch.equal(model.nll(batch), model.nll(filled))


# ---- Likelihood ----------------------------------------------------------------------------------


def test_nll_against_a_slow_sum(model: AR, batch: Batch) -> None:
    logits = model(*parts(batch)).double().detach().numpy()
    for row, total in enumerate(model.nll(batch).tolist()):
        targets = [*batch.tokens[row, batch.token_mask[row]].tolist(), TOY.K]
        by_hand = 0.0
        for t, target in enumerate(targets):
            scores = logits[row, t]
            by_hand += np.log(np.exp(scores).sum()) - scores[target]
        assert total == pytest.approx(by_hand, rel=1e-12)


def test_probabilities_of_all_sequences_sum_to_one() -> None:
    """P(length <= 2) + P(no end after 3 tokens) = 1, every term from `nll` or the logits."""
    config = dataclasses.replace(TOY, K=3)
    model, K = build(config), 3
    symbols = np.array([2, 4, 1])

    def nll(sequences: list[tuple[int, ...]]) -> torch.Tensor:
        rows = [Example("", "", np.array(s), symbols) for s in sequences]
        return model.nll(make_batch(rows, "pad"))

    ends = sum(
        float(torch.exp(-nll(list(itertools.product(range(K), repeat=length)))).sum())
        for length in (1, 2)
    )
    goes_on = 0.0
    for sequence in itertools.product(range(K), repeat=3):
        tokens = torch.tensor([sequence])
        logits = model(tokens, torch.from_numpy(symbols)[None], torch.ones(1, 3, dtype=torch.bool))
        steps = logits[0, :3].double().log_softmax(dim=-1)[range(3), sequence]
        goes_on += float(steps.sum().exp().detach())
    assert 0.01 < ends < 0.99
    assert ends + goes_on == pytest.approx(1, abs=1e-6)
    empty = torch.zeros(1, 0, dtype=torch.int64)
    logits = model(empty, torch.from_numpy(symbols)[None], torch.ones(1, 3, dtype=torch.bool))
    assert logits[0, 0, K] == -math.inf


def test_loss_is_the_mean_of_nll(model: AR, batch: Batch) -> None:
    loss, scalars = model.loss(batch, torch.Generator().manual_seed(0))
    tokens, rows = int(batch.token_mask.sum()), len(batch.tokens)
    total = float(model.nll(batch).sum())
    assert loss.item() == pytest.approx(total / (tokens + rows), rel=1e-6)
    assert tokens * scalars["nll"] + rows * scalars["eos"] == pytest.approx(total, rel=1e-6)


def test_accuracy_counts_tokens_alone(batch: Batch) -> None:
    """The first of every row is guessed right, the others as it comes; EOS is none of them."""
    model = build()
    tokens = batch.tokens.clone()
    tokens[:, 0] = model(*parts(batch))[:, 0].argmax(dim=-1)
    batch = batch._replace(tokens=tokens)
    likeliest = model(*parts(batch))[:, :-1].argmax(dim=-1)
    right = (likeliest == tokens)[batch.token_mask].sum().item()
    assert len(tokens) <= right < batch.token_mask.sum()
    _, scalars = model.loss(batch, torch.Generator())
    assert scalars["accuracy"] == pytest.approx(right / int(batch.token_mask.sum()))


def test_dropout_depends_on_its_generator_alone(batch: Batch) -> None:
    model = build(dataclasses.replace(TOY, dropout=0.2, token_dropout=0.3))
    model.train()

    def loss(seed: int) -> float:
        state = torch.get_rng_state()
        value = model.loss(batch, torch.Generator().manual_seed(seed))[0].item()
        assert torch.equal(state, torch.get_rng_state())
        return value

    assert loss(1) == loss(1) != loss(2)
    trained = model.nll(batch)
    assert torch.equal(trained, model.eval().nll(batch))
    assert loss(1) == loss(2)


# ---- Generation ----------------------------------------------------------------------------------


def replay(
    model: AR,
    symbols: torch.Tensor,
    uniforms: np.ndarray,
    temperature: float,
    top_p: float,
) -> list[int]:
    """What generation should give for one text, with everything computed anew for every token."""
    mask = torch.ones(1, len(symbols), dtype=torch.bool)
    said: list[int] = []
    for uniform in uniforms:
        logits = model(torch.tensor([said], dtype=torch.int64), symbols[None], mask)[0, -1]
        scores = logits.detach().double().numpy()
        if temperature == 0:
            token = int(np.argmax(scores))
        else:
            p = np.exp((scores - scores.max()) / temperature)
            p /= p.sum()
            order = sorted(range(len(p)), key=lambda i: -p[i])
            kept, total = set(), 0.0
            for i in order:
                kept.add(i)
                total += p[i]
                if total >= top_p:
                    break
            p = np.array([p[i] if i in kept else 0.0 for i in range(len(p))])
            token = int(np.flatnonzero(np.cumsum(p) > uniform * p.sum())[0])
        if token == model.config.K:
            break
        said.append(token)
    return said


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (0.8, 1.0), (1.3, 0.7)])
def test_generation_against_recomputation(
    model: AR, batch: Batch, temperature: float, top_p: float
) -> None:
    said = model.generate(
        batch.symbols, batch.symbol_mask, temperature=temperature, top_p=top_p, max_tokens=24, key=5
    )
    for row, ids in enumerate(said):
        symbols = batch.symbols[row, batch.symbol_mask[row]]
        uniforms = generator(5, row).random(24)
        assert ids.tolist() == replay(model, symbols, uniforms, temperature, top_p)
    if temperature:
        assert len({len(ids) for ids in said}) > 1  # rows did not all end together


def test_cached_states_equal_recomputed_ones(model: AR, batch: Batch) -> None:
    tokens, symbols, mask = parts(batch)
    memory, text_mask = model.read(symbols, mask)
    full = model.speak(tokens, memory, text_mask)
    length, start = tokens.shape[1], text_mask.shape[1]
    cache = [torch.nn.functional.pad(kv, (0, 0, 0, length + 1)) for kv in memory]
    seen = torch.nn.functional.pad(text_mask, (0, length + 1), value=True)[:, None, None]
    turns = model._turns(length + 1)
    inputs = torch.nn.functional.pad(tokens, (1, 0), value=TOY.K)
    for t in range(length + 1):
        state = model.step(inputs[:, t], cache, start + t, turns[t : t + 1], seen)
        first = torch.full((len(tokens),), t == 0)
        a, b = model.logits(state, first), model.logits(full[:, t], first)
        finite = torch.isfinite(b)
        assert torch.equal(torch.isfinite(a), finite)
        assert (a - b)[finite].abs().max() <= 1e-5 * b[finite].abs().max()


def test_generation_keys_and_companions(model: AR, batch: Batch) -> None:
    def say(rows: list[int], key: int | list[int], **options: Any) -> list[list[int]]:
        chosen = batch.symbols[rows], batch.symbol_mask[rows]
        return [ids.tolist() for ids in model.generate(*chosen, key=key, max_tokens=30, **options)]

    every = say([0, 1, 2, 3], 3)
    assert every == say([0, 1, 2, 3], 3) != say([0, 1, 2, 3], 4)
    assert say([0, 1], 3) == every[:2]  # companions do not matter
    assert say([2, 0], [8, 9]) == say([2], 8) + say([0], 9)
    assert say([2, 2], 3)[0] != say([2, 2], 3)[1]  # rows draw apart
    assert say([0], 3, temperature=0) == say([0], 4, temperature=0)
    assert all(1 <= len(ids) <= 30 and max(ids) < TOY.K for ids in every)


def test_generation_leaves_the_global_generator_alone(model: AR, batch: Batch) -> None:
    state = torch.get_rng_state()
    model.generate(batch.symbols, batch.symbol_mask, max_tokens=3)
    assert torch.equal(state, torch.get_rng_state())


def test_generation_refuses(model: AR, batch: Batch) -> None:
    for name, options in (
        ("temperature", {"temperature": -1.0}),
        ("top_p", {"top_p": 0.0}),
        ("top_p", {"top_p": 1.1}),
        ("max_tokens", {"max_tokens": 0}),
        ("key", {"key": [1, 2]}),
        ("key", {"key": -1}),
    ):
        with pytest.raises(ValueError, match=rf"^{name} must be .*\.$"):
            model.generate(batch.symbols, batch.symbol_mask, **options)


def test_nucleus_against_a_slow_reference() -> None:
    rng = generator(2)
    for trial in range(60):
        size = int(rng.integers(1, 9))
        p = rng.multinomial(12, np.full(size, 1 / size)) / 12  # ties and zeros
        top_p = float(rng.uniform(0.05, 1))
        got = nucleus(torch.from_numpy(p)[None], top_p)[0].numpy()
        order = np.argsort(-p, kind="stable")
        count = next(n for n in range(1, size + 1) if p[order[:n]].sum() >= top_p - 1e-12)
        expected = np.zeros(size)
        expected[order[:count]] = p[order[:count]]
        assert np.array_equal(got, expected), (trial, p, top_p)


def test_samples_have_the_right_distribution() -> None:
    logits = torch.tensor([0.3, -1.0, 2.0, -math.inf, 1.1]).double()
    n = 40_000
    uniforms = torch.from_numpy((np.arange(n) + 0.5) / n)  # stratified: no chance is involved
    for temperature in (0.5, 1.0, 2.0):
        drawn = sample(logits.expand(n, -1), uniforms, temperature, 1.0)
        share = torch.bincount(drawn, minlength=5) / n
        assert torch.allclose(share, (logits / temperature).softmax(dim=0).float(), atol=2 / n)
    edges = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    assert sample(logits.expand(2, -1), edges, 1.0, 1.0).tolist() == [0, 4]


# ---- Learning ------------------------------------------------------------------------------------


def test_overfits_a_tiny_set() -> None:
    config = dataclasses.replace(TOY, K=50, symbols=9, width=48)
    batch = make_batch(examples([(4, 9), (7, 12), (5, 6), (6, 10)], 1, config), "pad")
    model = build(config, 3, 1.0).train()
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(120):
        optimiser.zero_grad()
        loss, scalars = model.loss(batch, rng)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05
    assert scalars["accuracy"] == 1
    said = model.eval().generate(batch.symbols, batch.symbol_mask, temperature=0)
    for row, ids in enumerate(said):
        assert torch.equal(ids, batch.tokens[row, batch.token_mask[row]])
