"""Voices on another device, simulated where there is none: nothing is left behind on the host."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from tts.elsewhere import ELSEWHERE, Elsewhere, Mixed, bring, elsewhere
from tts.small import SMALL

from tokenkl._random import generator
from tokenkl.tts import cdcd, tokenizers
from tokenkl.tts.data import Example, TextEncoder, make_batch
from tokenkl.tts.devices import as_device
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.noise import Noise, normal_like, uniform_like
from tokenkl.tts.recipes import Recipe, new_model
from tokenkl.tts.speaking import nats
from tokenkl.tts.tokenizers import Tokenizer, TokenizerConfig, TrainingConfig, train_tokenizer
from tokenkl.tts.voice import Voice

WIDE = {"width": 16, "heads": 2, "depth": 1}
KINDS = {
    "fsq": TokenizerConfig("fsq", (3, 3), channels=8, blocks=(1, 1)),
    "e8": TokenizerConfig("e8", (), channels=8, blocks=(1, 1)),
    "vq": TokenizerConfig("vq", (20,), 2, channels=8, blocks=(1, 1)),
    "rvq": TokenizerConfig("rvq", (4, 5), 2, channels=8, blocks=(1, 1)),
}
TEXT = "one two"


def voice_of(model: str, kind: str = "fsq", speakers: int = 0, **changes: Any) -> Voice:
    torch.manual_seed(0)
    tokenizer = Tokenizer(KINDS[kind]).eval()
    sizes = SMALL if model == "cdcd" else WIDE
    recipe = Recipe(text="characters", model=model, changes=tuple({**sizes, **changes}.items()))
    made = new_model(recipe, tokenizer, TextEncoder(), speakers=speakers, key=0).eval()
    lengths = Lengths({(-1, -1, -1): 2.0}, (0.5, 1.0, 2.0))
    names = tuple(f"s{i}" for i in range(speakers))
    record: dict[str, Any] = {"recipe": {"data": {}}}
    return Voice(tokenizer, TextEncoder(), lengths, "stretch", made, record, None, names)


def moved(one: Voice) -> Voice:
    assert isinstance(one.tokenizer, Tokenizer)
    bring(one.model)
    bring(one.tokenizer)
    return one


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("cdcd", {"head": "factorised"}, {"steps": 3}),
    ("cdcd", {"head": "joint"}, {"steps": 3, "sampler": "ancestral", "decision": "sample"}),
    ("cdcd", {"head": "factorised", "output_prior": False}, {"steps": 2, "decision": "nearest"}),
    ("cdcd", {"kind": "rvq", "head": "factorised"}, {"steps": 2, "guidance": 0.0}),
    ("cdcd", {"kind": "e8", "self_conditioning": 0.5}, {"steps": 2}),
    ("cdcd", {"kind": "vq", "speakers": 3}, {"steps": 2, "speaker": "s2"}),
    ("ar", {}, {}),
    ("ar", {"speakers": 2}, {"temperature": 0.0, "speaker": "s1"}),
]
cases = pytest.mark.parametrize(("model", "changes", "options"), CASES)


@cases
def test_a_voice_speaks_elsewhere(
    model: str, changes: dict[str, Any], options: dict[str, Any]
) -> None:
    one = voice_of(model, **changes)
    here = one.say(TEXT, key=3, **options)
    with elsewhere() as mode:
        assert moved(one).device == ELSEWHERE
        there = one.say(TEXT, key=3, **options)
    assert there.samples.shape == here.samples.shape or model == "ar"
    assert np.isfinite(there.samples).all()
    # Ids go over, and the draws of an autoregressive model; the noise of diffusion does not.
    largest = max(int(np.prod(shape)) for shape in mode.carried)
    assert largest <= (400 if model == "ar" else 2 * here.samples.size // 640)


def test_a_prompt_elsewhere() -> None:
    one = voice_of("cdcd", head="factorised", prompt=0.5)
    audio = 0.1 * np.sin(np.arange(6400) / 5)
    with elsewhere():
        prompt = moved(one).prompt(audio, "one")
        assert one.say(TEXT, prompt=prompt, steps=2).samples.size > 0


@pytest.mark.parametrize("model", ["cdcd", "ar"])
def test_likelihoods_elsewhere(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the noise of the host they are the same."""
    one = voice_of(model)
    ids = [np.arange(5) % 9, np.arange(8) % 9]
    examples = [Example("", "ab", row, np.array([1, 2])) for row in ids]
    here = nats(one, examples, draws=4)

    def of_the_host(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.randn(x.shape, generator=rng).to(x)

    monkeypatch.setattr(cdcd, "normal_like", of_the_host)
    with elsewhere():
        there = nats(moved(one), examples, draws=4)
    np.testing.assert_allclose(there, here, rtol=1e-5)


def test_evidence_elsewhere() -> None:
    one = voice_of("cdcd", head="factorised")
    examples = [Example("", "ab", np.arange(5) % 9, np.array([1, 2]))]
    here = one.evidence(examples, steps=4)
    with elsewhere():
        there = moved(one).evidence(examples, steps=4)
    np.testing.assert_allclose(there.values, here.values, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("cdcd", {"dropout": 0.1, "token_dropout": 0.1, "prompt": 0.5, "self_conditioning": 0.5}),
        ("cdcd", {"head": "factorised", "speakers": 2}),
        ("ar", {"dropout": 0.1, "token_dropout": 0.1, "speakers": 2}),
    ],
)
def test_losses_elsewhere(model: str, changes: dict[str, Any]) -> None:
    one = voice_of(model, **changes)
    ids = [np.arange(5) % 9, np.arange(8) % 9]
    batch = make_batch([Example("", "ab", row, np.array([1, 2])) for row in ids], "stretch")
    with elsewhere() as mode:
        network = bring(one.model.train())
        loss, _ = network.loss(batch.to(ELSEWHERE), torch.Generator().manual_seed(0))  # type: ignore[operator]
        loss.backward()
    assert bool(loss.isfinite())
    assert max(int(np.prod(shape)) for shape in mode.carried) <= 16


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_is_trained_elsewhere(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(40, 80)).astype("f") for _ in range(4)]
    training = TrainingConfig(steps=3, batch=2, frames=16)
    here = train_tokenizer(features, KINDS[kind], training, key=3, progress=lambda *_: None)
    monkeypatch.setattr(tokenizers, "as_device", lambda device: torch.device(device))
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: contextlib.nullcontext())
    carried: list[tuple[int, ...]] = []
    monkeypatch.setattr(Tokenizer, "to", lambda self, device: bring(self))
    monkeypatch.setattr(Tokenizer, "cpu", lambda self: _back(self))
    with elsewhere() as mode:
        there = train_tokenizer(
            features, KINDS[kind], training, key=3, device=ELSEWHERE, progress=lambda *_: None
        )
        carried += mode.carried
    assert max(int(np.prod(shape)) for shape in carried) == 2 * 16 * 80  # a batch of features
    for name, value in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[name], value)


def _back(tokenizer: Tokenizer) -> Tokenizer:
    for tensor in [*tokenizer.parameters(), *tokenizer.buffers()]:
        tensor.is_elsewhere = False  # type: ignore[attr-defined]
    return tokenizer


def test_noise_is_drawn_where_it_is_needed() -> None:
    """On the host by NumPy, bit for bit as it always was; elsewhere by the device, once a key."""
    here = torch.device("cpu")
    expected = [generator(5, row).standard_normal((3, 2), np.float32) for row in range(2)]
    np.testing.assert_array_equal(Noise(5, 2, here).normal((3, 2)).numpy(), np.stack(expected))
    gumbels = [generator(5, row).gumbel(size=(4,)) for row in range(2)]
    np.testing.assert_array_equal(Noise(5, 2, here).gumbel((4,)).numpy(), np.stack(gumbels))
    x = torch.zeros(3, 4)
    rng = torch.Generator().manual_seed(2)
    torch.testing.assert_close(normal_like(x, rng), torch.randn(3, 4, generator=rng.manual_seed(2)))
    np.testing.assert_array_equal(
        uniform_like(x, 7).numpy(), generator(7).random((3, 4), dtype=np.float32)
    )
    with elsewhere() as mode:
        drawn = [Noise(key, 2, ELSEWHERE).normal((500,)) for key in (5, 5, 6)]
        gumbel = Noise(5, 2, ELSEWHERE).gumbel((20000,)).cpu()
        there = x.to(ELSEWHERE)
        uniform, normal = uniform_like(there, 7), normal_like(there, torch.Generator())
        assert uniform.device == normal.device == drawn[0].device == ELSEWHERE
        assert mode.carried == [(3, 4)]
        rows = [one.cpu().numpy() for one in drawn]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
    assert not np.array_equal(rows[0][0], rows[0][1])
    assert float(gumbel.mean()) == pytest.approx(np.euler_gamma, abs=0.04)  # 6 standard errors
    assert float(gumbel.var()) == pytest.approx(np.pi**2 / 6, abs=0.1)


def test_the_simulation_refuses_what_a_gpu_refuses() -> None:
    with Elsewhere():
        there, here = torch.zeros(2, device=ELSEWHERE), torch.zeros(2)
        assert (there.device, here.device) == (ELSEWHERE, torch.device("cpu"))
        for wrong in (
            lambda: there + here,
            lambda: there.numpy(),
            lambda: torch.stack([there, torch.from_numpy(np.zeros(2))]),
            lambda: there + torch.arange(2),
        ):
            with pytest.raises(Mixed):
                wrong()
        assert (there + here.to(there)).device == ELSEWHERE
        assert there.cpu().device == torch.device("cpu")
        assert (2 * there[torch.tensor([0])] + torch.tensor(1.0)).device == ELSEWHERE


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", "", "cpu:x"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(ValueError, match="device must be one"):
        as_device(name)
    with pytest.raises(ValueError, match="--device must be one"):
        as_device(name, "--device")


def test_a_voice_on_the_cpu_is_what_it_was() -> None:
    one = voice_of("cdcd", head="factorised")
    before = one.say(TEXT, key=1, steps=2).samples
    assert one.to("cpu") is one
    np.testing.assert_array_equal(one.say(TEXT, key=1, steps=2).samples, before)
    with pytest.raises(ValueError, match="device must be one"):
        one.to("cuda:99")
