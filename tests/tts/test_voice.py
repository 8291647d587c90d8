"""Geometries, and voices from text to audio and through files."""

import base64
import io
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.io import wavfile
from torch import Tensor
from tts.small import SMALL

import tokenkl.tts
from tokenkl import FSQ, PointCodebook, mean_nn_distance
from tokenkl._random import generator
from tokenkl.codebooks import average_power, e8_codebook
from tokenkl.tts.audio import Speech, to_int16
from tokenkl.tts.cdcd import CDCD, RANGE
from tokenkl.tts.codec import own_tokenizer
from tokenkl.tts.corpus import Corpus, CorpusConfig, make_sentences
from tokenkl.tts.data import Example, TextEncoder, make_batch
from tokenkl.tts.geometry import GEOMETRIES, Geometry, place_tokens
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import RECIPES, Recipe, new_model
from tokenkl.tts.speaking import nats, say_all
from tokenkl.tts.stored import write_network
from tokenkl.tts.tokenizers import TOKENIZERS, Tokenizer
from tokenkl.tts.voice import Prompt, Voice, new_cdcd

OWN = FSQ((3,) * 8, grid="rounding", order="F")
#: Words that even the smallest corpus has.
LONG = "one two three four"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TOKENIZERS["fsq-3^8"]).eval()


@pytest.fixture(scope="module")
def voice(tokenizer: Tokenizer, corpus: Corpus) -> Voice:
    utterances = corpus.split("train")
    encoder = TextEncoder.phonemes(utterances)
    model = new_cdcd(tokenizer, encoder, head="factorised", **SMALL).eval()
    made = Voice(tokenizer, encoder, Lengths({}, (1.0,)), "aligned", model, {"made": "by a test"})
    made.lengths = Lengths.fit(made.examples(utterances))
    return made


@pytest.mark.slow
def test_the_included_characters_expect_what_they_never_heard(corpus: Corpus) -> None:
    """Of sentences that are in no training: fewer than 2.3 nats a token, of ln 6561 = 8.8."""
    voice = Voice.load("characters")
    learned = make_sentences(CorpusConfig(**voice.record["sentences"]))["train"]
    texts = {one.text for one in learned}
    examples = voice.examples([one for one in corpus.split("test") if one.text not in texts])
    assert len(examples) > 5
    assert nats(voice, examples, draws=8).sum() < 2.3 * sum(one.tokens.size for one in examples)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_geometries(geometry: Geometry) -> None:
    placed = place_tokens(geometry, OWN, key=0)
    assert placed.K == 6561
    again = place_tokens(geometry, OWN, key=0)
    if geometry != "one-hot":
        np.testing.assert_array_equal(np.asarray(placed.points), np.asarray(again.points))


def test_permuted_tokens_keep_all_but_their_names() -> None:
    placed = place_tokens("permuted", OWN, key=0)
    assert mean_nn_distance(placed) == pytest.approx(1)
    ours, theirs = np.asarray(placed.points), np.asarray(OWN.points)
    assert (ours != theirs).any(axis=1).mean() > 0.99
    np.testing.assert_array_equal(np.unique(ours, axis=0), np.unique(theirs, axis=0))


def test_e8_moves_no_token_far() -> None:
    placed = np.asarray(place_tokens("e8", OWN, view="box", key=0).points)
    cut = np.asarray(e8_codebook().points)
    np.testing.assert_allclose(np.unique(placed.round(9), axis=0), np.unique(cut.round(9), axis=0))
    assert np.abs(placed - 0.8 * np.asarray(OWN.points)).max() <= 0.2 + 1e-9
    with pytest.raises(ValueError, match="FSQ 3"):
        place_tokens("e8", FSQ((3, 3)), key=0)
    moved = PointCodebook(np.asarray(OWN.points) + 1e-3 * np.eye(1, 6561).T)
    with pytest.raises(ValueError, match="FSQ 3"):
        place_tokens("e8", moved, key=0)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_power_is_that_of_the_grid(geometry: Geometry) -> None:
    placed = place_tokens(geometry, OWN, key=0)
    assert average_power(placed) / placed.n == pytest.approx(2 / 3, rel=1e-9)


@pytest.mark.parametrize("geometry", ["perturbed", "e8", "spherical"])
def test_the_box_is_that_of_the_grid(geometry: Geometry) -> None:
    placed = np.asarray(place_tokens(geometry, OWN, view="box", key=0).points)
    raw = np.asarray(place_tokens(geometry, OWN, view="raw", key=0).points)
    np.testing.assert_array_equal(placed, raw.clip(-1, 1))


def test_views_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="'power' for one-hot tokens"):
        place_tokens("one-hot", OWN, view="box", key=0)
    with pytest.raises(ValueError, match="view"):
        place_tokens("e8", OWN, view="size", key=0)  # type: ignore[arg-type]


def test_new_models_have_an_output_prior_where_they_can(tokenizer: Tokenizer) -> None:
    def has(**options: Any) -> bool:
        return new_cdcd(tokenizer, TextEncoder(), **{**SMALL, **options}).config.output_prior

    assert has(head="factorised")
    assert has(head="joint", geometry="permuted")
    assert not has(head="factorised", geometry="permuted")  # no coordinate for each digit
    assert not has(head="joint", output_prior=False)


def test_new_models_start_from_the_frequencies_of_tokens(tokenizer: Tokenizer) -> None:
    ids = np.array([7, 7, 7, 0])
    example = Example("", "", ids, np.array([1]))
    made = [
        new_model(
            Recipe(text="characters", changes=(*SMALL.items(), ("output_prior", prior))),
            tokenizer, TextEncoder(), train=[example], key=0,
        ).state_dict()["logits.bias"]
        for prior in (True, False)
    ]  # fmt: skip
    share = np.bincount(ids, minlength=6561) + 0.5
    torch.testing.assert_close(made[0].exp().double(), torch.from_numpy(share / share.sum()))
    assert not made[1].any()


def test_points_of_ones_own(tokenizer: Tokenizer) -> None:
    points = np.random.default_rng(0).standard_normal((6561, 3))
    model = new_cdcd(tokenizer, TextEncoder(), geometry=PointCodebook(points), **SMALL)
    np.testing.assert_array_equal(model.points.numpy(), points.astype(np.float32))
    with pytest.raises(ValueError, match="geometry must be one of 6561"):
        new_cdcd(tokenizer, TextEncoder(), geometry=FSQ((3, 3)), **SMALL)


def test_evidence_of_a_voice_is_that_of_its_sampler(voice: Voice, corpus: Corpus) -> None:
    """By hand from the network's own words, on the same noise."""
    examples = voice.examples(corpus.split("train")[:2])
    found = voice.evidence(examples, steps=3, n_noise=2, key=5)
    assert found.lengths.tolist() == [e.tokens.size for e in examples]
    model, batch = voice.model, make_batch(examples, voice.layout)
    assert isinstance(model, CDCD)
    snr = np.exp(np.clip(model.log_snr(np.array([1, 2 / 3, 1 / 3])), *RANGE))
    mask = batch.token_mask
    with torch.no_grad():
        text, e = model.encode_text(batch.frames, mask), model.points_of(batch.tokens)
        total = snr[0] / 2 * (e.square().sum(-1) * mask).sum(1).double().numpy()
        for i, level in enumerate(snr):
            noise = torch.from_numpy(generator(5, 0, i).standard_normal(e.shape)).float()
            x = (np.sqrt(level) * e + noise) / np.sqrt(1 + level)
            said = model(x, torch.full((2,), float(np.log(level))), text, mask)
            if i < 2:
                lost = (e - model.mean_point(said)).square().sum(-1) * (snr[i + 1] - level) / 2
            else:
                lost = model.cross_entropy(said, batch.tokens)
            total = total + (lost * mask).sum(1).double().numpy()
    np.testing.assert_allclose(found.values[0], total, rtol=1e-4)


def test_levels_of_ones_own(voice: Voice, corpus: Corpus) -> None:
    """Equal steps of the model's time, given as levels, are its own grid; others are another."""
    examples = voice.examples(corpus.split("train")[:2])
    levels = voice._sampling_levels("uniform", 3)
    for method in (voice.tokens_of, lambda *args, **words: voice.evidence(*args, **words).values):
        own, given, other = (
            method(examples, steps=3, grid=grid, key=1)
            for grid in ("uniform", levels, np.add(levels, [0.0, 1.0, 2.0]))
        )
        assert all(np.array_equal(a, b) for a, b in zip(own, given, strict=True))
        assert any(not np.array_equal(a, b) for a, b in zip(own, other, strict=True))
    for wrong in (levels[:2], levels[::-1], [0.0, np.nan, 1.0]):
        with pytest.raises(ValueError, match=r"grid|ascending"):
            voice.tokens_of(examples, steps=3, grid=wrong)


def test_all_that_is_said_is_counted(voice: Voice) -> None:
    seen: list[tuple[float, float]] = []
    said = say_all(
        voice, ["nine", "two"], (3, 5), progress=lambda *how: seen.append(how[:2]), steps=1
    )
    assert {seed: len(found) for seed, found in said.items()} == {3: 2, 5: 2}
    assert [how for how in seen if how[0]][:4] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_voice_speaks(voice: Voice) -> None:
    [one, two] = voice.tokens([LONG, "nine"], steps=2, key=1)
    assert one.size > two.size > 1
    assert min(one.min(), two.min()) >= 0
    assert max(one.max(), two.max()) < 6561
    speech = voice.say("nine", steps=2, key=1)
    assert speech.samples.size == two.size * 640
    assert np.isfinite(speech).all()
    assert (speech.text, speech.rate, speech.seconds) == ("nine", 16000, two.size * 0.04)
    [half] = voice.tokens(["nine"], counts=[round(two.size / 2)], steps=2, key=1)
    assert voice.say("nine", steps=2, key=1, rate=2.0).samples.size == half.size * 640
    [longer] = voice.tokens(["nine"], counts=[40], steps=2)
    assert abs(longer.size - 40) <= 1
    for grid in ("optimal", "log-snr"):
        assert voice.tokens(["nine"], steps=3, grid=grid)[0].size == two.size


def test_words_outside_the_domain_are_named(voice: Voice) -> None:
    with pytest.raises(ValueError, match="zebra"):
        voice.tokens(["on zebra"])
    with pytest.raises(ValueError, match="zebra"):
        voice.say("zebra")
    known = voice.say("nine", steps=1)
    message = r"^Left out what this voice cannot say: 'zebra', 'nin' \(near it: nine.*\), '漢'\.$"
    with pytest.warns(UserWarning, match=message):
        speech = voice.say("Zebra nine, nin zebra 漢!", steps=1)
    np.testing.assert_array_equal(speech.samples, known.samples)


def test_digits_are_read() -> None:
    """By the words of the vocabulary."""
    voice = tokenkl.tts.load()
    assert voice.read("5 5 5 0 1 2 3!")[0] == "five five five zero one two three"
    assert voice.read("on monday the 3rd of may at 9:30")[0] == (
        "on monday the third of may at nine thirty"
    )
    assert voice.read("call 23") == ("twenty three", ["call"])


def test_a_voice_survives_its_file(voice: Voice, tmp_path: Path) -> None:
    voice.tokenizer.save(tmp_path / "tokenizer.safetensors")
    voice.save(tmp_path / "voice.safetensors", "tokenizer.safetensors")
    again = Voice.load(tmp_path / "voice.safetensors")
    assert again.record == {"made": "by a test"}
    assert again.layout == "aligned"
    texts = [LONG, "nine"]
    for ours, theirs in zip(voice.tokens(texts), again.tokens(texts), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    voice.save(tmp_path / "half.safetensors", "tokenizer.safetensors", half=True)
    smaller = (tmp_path / "half.safetensors").stat().st_size
    assert smaller < (tmp_path / "voice.safetensors").stat().st_size - 10_000
    assert Voice.load(tmp_path / "half.safetensors").codebook() is not None


def test_another_tokenizer_is_noticed(voice: Voice, tmp_path: Path) -> None:
    voice.tokenizer.save(tmp_path / "tokenizer.safetensors")
    voice.save(tmp_path / "voice.safetensors", "tokenizer.safetensors")
    own_tokenizer(voice.tokenizer).save(tmp_path / "tokenizer.safetensors", record={"another": 1})
    with pytest.raises(ValueError, match="tokenizer"):
        Voice.load(tmp_path / "voice.safetensors")
    with pytest.raises(ValueError, match="name of a file in"):
        voice.save(tmp_path / "voice.safetensors", "../tokenizer.safetensors")


@pytest.mark.slow
def test_loading_imports_no_compiler() -> None:
    """PyTorch's takes seconds, and a careless sketch of a network asks for it."""
    code = (
        "import sys; from tokenkl.tts.voice import Voice; Voice.load(); "
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("content", [None, b"", b"nonsense that is no voice", b"\x00" * 64])
def test_files_that_are_no_voice(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="a voice that tokenkl wrote"):
        Voice.load(path)


def _change(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], object]) -> None:
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["tokenkl"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, tensors)
    write_network(path, tensors, header)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: h.pop("layout"), "its header must be a table .*; got none called 'layout'"),
        (lambda h, t: h.update(layout="up"), "its header.layout must be 'aligned' or"),
        (lambda h, t: h.update(format=2), "its header.format must be 1; got 2"),
        (lambda h, t: h.update(kind="x"), "its header.kind must be 'cdcd' or 'ar'"),
        (lambda h, t: h.update(tokenizer="../t"), "its tokenizer must be a file in .*; got ../t"),
        (lambda h, t: h.update(tokenizer="x" * 300), "beside it, .*File name too long"),
        (lambda h, t: h.update(tokenizer="no"), "beside it, .*there is no such file"),
        (lambda h, t: h["config"].update(depth=10**6), "of fewer layers than weights"),
        (lambda h, t: h["config"].update(depth=10**9), "depth must be a whole number, at most"),
        (lambda h, t: h["config"].update(depth=2), "the tensor blocks.1.modulation.weight"),
        (lambda h, t: h["config"].update(width=2**20), r"must be of shape \(1048576, 8\); got of"),
        (lambda h, t: h["config"].update(width="x"), "config.width must be a whole number of 64"),
        (lambda h, t: h["config"].update(shape=[1] * 99), "shape must be at most 32; got 99"),
        (lambda h, t: h["config"].update(shape=[-81, -81]), "every entry of shape must be a whole"),
        (lambda h, t: h["config"].update(tall=1), "config must be without unknown fields; got the"),
        (lambda h, t: h["config"].pop("K"), "config must be a table .*; got none called 'K'"),
        (lambda h, t: h["config"].update(symbols=7), "the symbols of its model must be"),
        (lambda h, t: h["config"].update(K=81, shape=[3] * 4, dim=4), "model must be 6561"),
        (lambda h, t: h["text"].update(symbols="?"), "text.symbols must be 'characters' or"),
        (lambda h, t: h["text"].update(names=["a"]), "phonemes must be among the 2 of the table"),
        (lambda h, t: h["text"].pop("entries"), "text must be a table .* none called 'entries'"),
        (lambda h, t: h["lengths"].update(means=[]), "lengths.means must be with one, as a last"),
        (lambda h, t: h["lengths"].update(means=[[-1, -1, -1, 1e9]]), "of tokens from 0 to 1000"),
        (lambda h, t: h["lengths"].update(means=[[1, 2]]), r"lengths.means\[0\] must be a list"),
        (lambda h, t: h["lengths"].update(rates=[0.0]), "lengths.rates must be numbers near 1"),
        (lambda h, t: h.update(record={"recipe": 1}), "its header.record.recipe must be a table"),
        (lambda h, t: t.pop("enter.bias"), r"enter.bias must be of shape \(16,\); got missing"),
        (lambda h, t: t.update(more=torch.zeros(2)), "the tensor more must be missing; got"),
        (lambda h, t: t.update(points=t["points"].long()), "points must be of type torch.float32"),
        (lambda h, t: t["points"].fill_(torch.inf), "the tensor points must be finite everywhere"),
    ],
)  # fmt: skip
def test_files_that_are_no_voice_any_more(
    change: Callable[[dict[str, Any], dict[str, Tensor]], object],
    message: str,
    voice: Voice,
    tmp_path: Path,
) -> None:
    """Refused by name, and before anything is built that no machine could hold."""
    voice.tokenizer.save(tmp_path / "tokenizer.safetensors")
    voice.save(tmp_path / "voice.safetensors", "tokenizer.safetensors")
    _change(tmp_path / "voice.safetensors", change)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/voice.safetensors must be .*{message}"):
        Voice.load(tmp_path / "voice.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["config"].update(blocks=[2, 10**6]), "of fewer layers than weights"),
        (lambda h: h["config"].update(blocks=[2]), "config.blocks must be a list of 2"),
        (lambda h: h["config"].update(levels=[7] * 8), "levels must be of at most 1048576 tokens"),
        (
            lambda h: h["config"].update(levels=[3] * 7),
            r"must be of shape \(7, 128\); got of shape",
        ),
        (lambda h: h["config"].update(channels=10**9), "channels must be a whole number, at most"),
        (lambda h: h["config"]["mel"].update(sample_rate=10**9), "sample_rate must be a whole"),
        (lambda h: h["config"]["mel"].update(n_mels=200, n_fft=2**16), "n_mels, n_fft must be of"),
        (lambda h: h["config"].pop("mel"), None),
        (lambda h: h.pop("record"), "got none called 'record'"),
    ],
)
def test_files_that_are_no_tokenizer_any_more(
    change: Callable[[dict[str, Any]], object],
    message: str | None,
    tokenizer: Tokenizer,
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.safetensors"
    tokenizer.save(path)
    _change(path, lambda header, _: change(header))
    if message is None:  # there are defaults
        assert Tokenizer.load(path).config == tokenizer.config
        return
    with pytest.raises(ValueError, match=f"^{path} must be a tokenizer .*{message}"):
        Tokenizer.load(path)


@pytest.mark.parametrize("model", ["cdcd", "ar"])
def test_both_models_make_voices(model: str, tokenizer: Tokenizer, corpus: Corpus) -> None:
    changes = SMALL if model == "cdcd" else {"width": 16, "heads": 2, "depth": 1}
    recipe = Recipe(text="characters", model=model, changes=tuple(changes.items()))
    made = new_model(recipe, tokenizer, TextEncoder(), key=0).eval()
    voice = Voice(tokenizer, TextEncoder(), Lengths({(-1, -1, -1): 2.0}, (1.0,)), "stretch", made)
    options: dict[str, Any] = {"steps": 2} if model == "cdcd" else {"max_tokens": 12}
    [ids] = voice.tokens([LONG], **options)
    assert ids.size >= 1
    again = new_model(recipe, tokenizer, TextEncoder(), key=0)
    for ours, theirs in zip(made.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# ---- In three lines ------------------------------------------------------------------------------


def test_three_lines_of_python(tmp_path: Path) -> None:
    """Load, say, save: the words are there for the judge to hear."""
    from tokenkl.tts.audio import read_wav
    from tokenkl.tts.judge import Judge

    speech = tokenkl.tts.load("phonemes").say("5 5 5 0 1 2 3")
    speech.save(tmp_path / "out.wav")
    heard = Judge("unigram").word_errors([read_wav(tmp_path / "out.wav")], [speech.text])
    assert heard.errors.sum() <= 2


@pytest.mark.slow
def test_speaking_imports_little() -> None:
    """Imports are most of the time to the first sound; torch alone takes two seconds."""
    heavy = [
        "jax", "equinox", "numba", "scipy", "pandas", "sklearn", "matplotlib", "num2words",
        "vector_quantize_pytorch", "accelerate", "pocketsphinx", "tokenkl.codebooks",
    ]  # fmt: skip
    code = (
        "import sys, tokenkl.tts; tokenkl.tts.load().say('one two three', steps=1)\n"
        f"print(sorted(set({heavy}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_speech_is_a_player_in_a_notebook() -> None:
    speech = Speech(np.sin(np.arange(800, dtype=np.float32) / 5), "one <two>")
    shown = speech._repr_html_()
    assert "one &lt;two&gt; (0.05 s)" in shown
    [sound] = re.findall(r'<audio controls src="data:audio/wav;base64,([^"]*)">', shown)
    content = io.BytesIO(base64.b64decode(sound))
    rate, samples = wavfile.read(content)
    assert rate == 16000
    np.testing.assert_array_equal(samples, to_int16(speech.samples))


def test_a_voice_without_torch_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import tokenkl.tts\n"
        "try: tokenkl.tts.load()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("a voice needs torch, which is not installed; `"), done.stderr


# ---- Prompts -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["pad", "stretch", "aligned"])
def prompted(request: pytest.FixtureRequest, tokenizer: Tokenizer, corpus: Corpus) -> Voice:
    """An untrained voice with prompts, of characters or of phonemes."""
    utterances = corpus.split("train")
    phonetic = request.param == "aligned"
    encoder = TextEncoder.phonemes(utterances) if phonetic else TextEncoder()
    model = new_cdcd(tokenizer, encoder, head="factorised", prompt=0.7, **SMALL).eval()
    torch.manual_seed(1)
    with torch.no_grad():  # as after some training: the prompt is heard
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    made = Voice(tokenizer, encoder, Lengths({}, (1.0,)), request.param, model, {})
    made.lengths = Lengths.fit(made.examples(utterances))
    return made


def test_speech_goes_on_from_a_prompt(prompted: Voice, corpus: Corpus) -> None:
    """Its tokens stand first and are cut off; text and length are those of both together."""
    said = corpus.split("train")[0]
    prompt = prompted.prompt(said.audio[: 640 * 10], said.text.split()[0])
    assert prompt.tokens.size == 10
    seen: list[tuple[Any, Any]] = []

    def watch(examples: Any, **options: Any) -> Any:
        found = Voice.tokens_of(prompted, examples, **options)
        seen.append((examples[0], found[0]))
        return found

    prompted.tokens_of = watch  # type: ignore[method-assign]
    try:
        speech = prompted.say(LONG, steps=2, key=3, prompt=prompt, rate=1.0)
        other = prompted.say(LONG, steps=2, key=3, prompt=Prompt(prompt.tokens[::-1], prompt.text))
    finally:
        del prompted.tokens_of
    example, ids = seen[0]
    np.testing.assert_array_equal(ids[:10], prompt.tokens)
    both = f"{prompt.text} {LONG}"
    if prompted.encoder.is_phonetic:
        parts = [prompted.encoder.encode(part) for part in (prompt.text, LONG)]
        np.testing.assert_array_equal(example.symbols, np.concatenate(parts))
        assert example.lengths[: parts[0].size].sum() == 10
    else:
        np.testing.assert_array_equal(example.symbols, prompted.encoder.encode(both))
    assert speech.samples.size == (ids.size - 10) * 640
    assert speech.text == LONG
    whole = own_tokenizer(prompted.tokenizer).synthesise(ids, key=3)
    np.testing.assert_array_equal(speech.samples, whole[6400:])
    assert not np.array_equal(other.samples, speech.samples)


@pytest.mark.slow
def test_the_prompt_sets_the_rate(prompted: Voice, corpus: Corpus) -> None:
    """Within the rates of the training examples, unless another is asked for."""
    prompted.lengths = Lengths(prompted.lengths.means, (0.5, 1.0, 2.0))
    usual = prompted.lengths.expected(prompted.encoder.encode("one two")).sum()
    sizes = []
    for slowness in (1.0, 1.5, 100.0):
        count = round(float(usual) * slowness)
        prompt = Prompt(np.zeros(count, np.int64), "one two")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a long prompt
            sizes.append(prompted.say(LONG, steps=1, prompt=prompt).samples.size)
    assert sizes[1] == pytest.approx(1.5 * sizes[0], abs=1300)
    assert sizes[2] == pytest.approx(2.0 * sizes[0], abs=1300)
    with pytest.warns(UserWarning, match=r"^The prompt is 9\d% of .* at most 30%\.$"):
        prompted.say("one", steps=1, prompt=Prompt(np.zeros(500, np.int64), "one"))


def test_prompts_are_refused_by_voices_without(voice: Voice, prompted: Voice) -> None:
    message = r"^prompt must be left out for a voice that was trained without prompts; got given\.$"
    with pytest.raises(ValueError, match=message):
        voice.prompt(np.zeros(6400, np.float32), "one")
    with pytest.raises(ValueError, match=message):
        voice.say("one", prompt=Prompt(np.zeros(3, np.int64), "one"))
    with pytest.raises(ValueError, match=r"the text of the prompt must be without .* '漢'"):
        prompted.prompt(np.zeros(6400, np.float32), "one 漢")


def test_the_preset_with_prompts_also_learns_without() -> None:
    assert 0 < dict(RECIPES["paper"].changes)["prompt"] < 1
