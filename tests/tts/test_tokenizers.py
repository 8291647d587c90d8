"""Tokenizers: ids are points of the codebook, training is deterministic, files are exact."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tokenkl import FSQ, e8_codebook
from tokenkl._random import generator
from tokenkl.tts.corpus import Corpus
from tokenkl.tts.quantizers import E8Quantizer, FSQQuantizer
from tokenkl.tts.tokenizers import (
    TOKENIZERS,
    Tokenizer,
    TokenizerConfig,
    TrainingConfig,
    evaluate_tokenizer,
    features_of,
    train_tokenizer,
)


def quiet(done: float, total: float) -> None:
    """No bar."""


#: The five kinds, narrow enough for tests.
NARROW = {
    name: dataclasses.replace(config, channels=24, blocks=(1, 1))
    for name, config in TOKENIZERS.items()
}
BRIEF = TrainingConfig(steps=3, batch=4, frames=64)


@pytest.fixture(scope="module")
def features(corpus: Corpus) -> list[np.ndarray]:
    return features_of(corpus.split("train"), progress=quiet)


@pytest.fixture(scope="module", params=sorted(NARROW))
def trained(request: pytest.FixtureRequest, features: list[np.ndarray]) -> Tokenizer:
    return train_tokenizer(features, NARROW[request.param], BRIEF, key=7, progress=quiet)


@pytest.mark.parametrize("levels", [(3,) * 8, (8, 5, 5, 5), (2, 4), (7, 6, 1, 3)])
def test_the_points_of_an_fsq_are_those_of_its_codebook(levels: tuple[int, ...]) -> None:
    quantizer = FSQQuantizer(levels)
    points = torch.from_numpy(np.array(quantizer.codebook().points)).float()
    assert torch.equal(quantizer.table, points)


def test_published_sizes() -> None:
    for name, K in (("fsq-3^8", 6561), ("fsq-3^5", 243), ("fsq-8x5x5x5", 1000), ("e8-6561", 6561),
                    ("vq-6561", 6561), ("rvq-81x81", 6561)):  # fmt: skip
        tokenizer = Tokenizer(TOKENIZERS[name])
        assert tokenizer.K == tokenizer.codebook().K == K
        count = sum(p.numel() for p in tokenizer.parameters())
        assert 1.3e6 < count < 1.5e6


# ---- The E8 cut ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_e8_search_against_all_distances(spread: float) -> None:
    """Exact, inside the cube and outside of it."""
    x = spread * generator(1).standard_normal((200, 8))
    points = e8_codebook().points
    found = E8Quantizer().nearest(torch.from_numpy(x)).numpy()
    distances = ((x[:, None] - points[None]) ** 2).sum(axis=-1)
    chosen = distances[np.arange(200), found]
    np.testing.assert_allclose(chosen, distances.min(axis=1), rtol=1e-12)
    assert (found == distances.argmin(axis=1)).all()  # ties have probability 0


def test_e8_codes_are_tokens_to_the_bit() -> None:
    """The straight-through gradient leaves no rounding error."""
    z = torch.randn(4, 50, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    layer = E8Quantizer()
    points, ids, _ = layer(z)
    assert torch.equal(points, layer.points_at(ids))
    (slope,) = torch.autograd.grad(points.sum(), z)
    torch.testing.assert_close(slope, 1 - z.detach().tanh() ** 2)


def test_e8_tokens_are_their_own_nearest() -> None:
    points = torch.from_numpy(e8_codebook().points)
    assert torch.equal(E8Quantizer().nearest(points), torch.arange(6561))


# ---- All kinds -----------------------------------------------------------------------------------


def test_ids_are_points_of_the_codebook(trained: Tokenizer, features: list[np.ndarray]) -> None:
    mel = torch.from_numpy(features[0])[None]
    ids = trained.encode(mel)
    assert ids.shape == (1, mel.shape[1] // 2)
    with torch.no_grad():
        quantized = trained.quantizer(trained.latent(mel))
        points = trained.points_at(ids)
    np.testing.assert_allclose(quantized.points, points, atol=1e-6)
    np.testing.assert_allclose(trained.codebook().points_at(ids.numpy()), points, atol=1e-6)


def test_every_token_has_the_point_of_the_codebook(trained: Tokenizer) -> None:
    ids = np.arange(trained.K)
    with torch.no_grad():
        points = trained.points_at(torch.from_numpy(ids)).numpy()
    np.testing.assert_allclose(trained.codebook().points_at(ids), points, atol=1e-6)


@pytest.mark.parametrize("trained", ["fsq-3^8", "fsq-3^5", "e8-6561", "vq-6561"], indirect=True)
def test_the_nearest_token_is_chosen(trained: Tokenizer, features: list[np.ndarray]) -> None:
    """FSQ with odd levels and E8 round tanh of the latent, VQ the latent itself.

    A residual quantizer is greedy, and FSQ shifts even levels, so both may choose another token.
    """
    mel = torch.from_numpy(features[1])[None]
    with torch.no_grad():
        latent = trained.latent(mel)[0]
        target = latent if trained.config.kind == "vq" else torch.tanh(latent)
    distances = ((target.numpy()[:, None] - trained.codebook().points[None]) ** 2).sum(axis=-1)
    chosen = distances[np.arange(len(distances)), trained.encode(mel)[0].numpy()]
    # FSQ scales tanh by 1.001 before it rounds, and sums of squares are in single precision.
    np.testing.assert_allclose(chosen, distances.min(axis=1), atol=4e-3)


def test_gradients_reach_the_encoder(trained: Tokenizer, features: list[np.ndarray]) -> None:
    rebuilt, quantized = trained(torch.from_numpy(features[0])[None])
    (rebuilt.abs().mean() + quantized.loss).backward()
    gradient = trained.enter.weight.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0
    trained.zero_grad()


def test_files_are_exact(trained: Tokenizer, features: list[np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    trained.save(path, record={"steps": 3})
    again = Tokenizer.load(path)
    assert again.config == trained.config
    for name, value in trained.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    mel = torch.from_numpy(features[0])[None]
    assert torch.equal(again.encode(mel), trained.encode(mel))


def test_half_precision_files_keep_the_codebook(trained: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    trained.save(path, half=True)
    again = Tokenizer.load(path)
    ids = torch.arange(trained.K)
    assert torch.equal(again.points_at(ids), trained.points_at(ids))
    for name, value in trained.named_parameters():
        torch.testing.assert_close(dict(again.named_parameters())[name], value, atol=2e-3, rtol=0)


def test_audio_to_ids_to_audio(trained: Tokenizer, corpus: Corpus) -> None:
    audio = corpus.split("test")[0].audio
    ids = trained.tokenize(audio)
    assert ids.shape == (-(-audio.size // 640),)
    spoken = trained.synthesise(ids, key=1)
    assert spoken.shape == (ids.size * 640,)
    points = trained.codebook().points_at(ids)
    np.testing.assert_allclose(trained.synthesise(points=points, key=1), spoken, atol=1e-3)


# ---- Training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fsq-3^8", "vq-6561", "rvq-81x81"])
def test_same_key_same_weights(features: list[np.ndarray], name: str) -> None:
    """And PyTorch's own generator is left as it was."""
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (
        train_tokenizer(features, NARROW[name], BRIEF, key=key, progress=quiet).state_dict()
        for key in (3, 3, 4)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["enter.weight"], other["enter.weight"])


@pytest.mark.slow
def test_training_lowers_the_error_of_unseen_speech(
    features: list[np.ndarray], corpus: Corpus
) -> None:
    """Against the best constant, the mean of every mel: the tokens carry something."""
    training = TrainingConfig(steps=120, batch=8, frames=64, learning_rate=4e-3)
    logged: list[dict[str, Any]] = []
    tokenizer = train_tokenizer(
        features, NARROW["fsq-3^8"], training, key=0, progress=quiet, log=logged.append
    )
    assert [record["step"] for record in logged] == [0, 50, 100, 119]
    assert logged[-1]["loss"] < 0.7 * logged[0]["loss"]
    unseen = corpus.split("test")
    report = evaluate_tokenizer(tokenizer, unseen, grammars=(), progress=quiet)
    every = np.concatenate(features_of(unseen, progress=quiet))
    constant = np.abs(every - np.median(np.concatenate(features), axis=0)).mean()
    assert report.mel_l1 < 0.75 * constant
    assert report.usage.used > 10
    assert report.to_json()["wer"] == {}


def test_global_settings_of_a_tokenizer_are_those_of_fsq() -> None:
    codebook = Tokenizer(TOKENIZERS["fsq-3^8"]).codebook()
    assert isinstance(codebook, FSQ)
    np.testing.assert_array_equal(codebook.points_at(1), [0, -1, -1, -1, -1, -1, -1, -1])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: TokenizerConfig(cast(Any, "lattice")),
            "kind must be one of 'fsq', 'vq', 'rvq', 'e8'",
        ),
        (lambda: TokenizerConfig("e8", (3, 3)), "levels must be as many entries as e8 takes"),
        (lambda: TokenizerConfig("vq", (3, 3)), "levels must be as many entries as vq takes"),
        (lambda: TokenizerConfig("fsq", (2, 3)), "every entry of levels must be a whole number"),
        (lambda: TrainingConfig(frames=63), "frames must be even; got 63"),
        (lambda: TrainingConfig(learning_rate=0), "learning_rate must be above 0"),
        (
            lambda: train_tokenizer([np.zeros((4, 79), np.float32)], key=0),
            "features must be a list of arrays of shape",
        ),
        (lambda: Tokenizer.load("nowhere.safetensors"), "there is no such file"),
    ],
)
def test_errors(make: Callable[..., Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_errors_of_a_tokenizer(trained: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"log_mel must be \(batch, even, 80\); got shape"):
        trained.encode(torch.zeros(1, 3, 80))
    with pytest.raises(ValueError, match="ids must be whole numbers from 0 to"):
        trained.synthesise([trained.K])
    with pytest.raises(ValueError, match="ids, points must be one of the two; got neither"):
        trained.synthesise()
    path = tmp_path / "t.safetensors"
    trained.save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"garbage" * 100):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match="must be a tokenizer that tokenkl wrote; it is damaged"
        ):
            Tokenizer.load(path)
