"""Sound to features and back on one time grid; characters, phonemes and durations."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tokenkl.tts.audio import SAMPLE_RATE, Alignment, Utterance, read_wav, resample, write_wav
from tokenkl.tts.corpus import Corpus
from tokenkl.tts.frontend import (
    CHARACTERS,
    Lexicon,
    MelConfig,
    MelFrontend,
    PhonemeTable,
    decode_characters,
    durations,
    encode_characters,
    expand,
    log_mel_of,
    mel_filters,
)


@pytest.fixture(scope="module")
def frontend() -> MelFrontend:
    return MelFrontend()


@pytest.fixture(scope="module")
def speech(corpus: Corpus) -> torch.Tensor:
    return torch.from_numpy(corpus.split("test")[0].audio)


# ---- Sound ---------------------------------------------------------------------------------------


def test_filters_have_equal_area_and_slaney_centres() -> None:
    config = MelConfig(n_fft=65536)  # bins so fine that sums are integrals
    filters = mel_filters(config)
    width = config.sample_rate / config.n_fft
    np.testing.assert_allclose(filters.sum(axis=1) * width, 1, rtol=1e-3)
    centres = filters.argmax(axis=1) * width
    # 81 equal steps from 0 to mel(8000 Hz) = 15 + 27 log 8 / log 6.4, where mel(1000 Hz) = 15.
    step = (15 + 27 * math.log(8) / math.log(6.4)) / 81
    below = [i for i in range(80) if (i + 1) * step < 15]
    np.testing.assert_allclose(centres[below], [(i + 1) * step * 200 / 3 for i in below], atol=0.5)
    last = 1000 * math.exp((80 * step - 15) * math.log(6.4) / 27)
    assert centres[-1] == pytest.approx(last, abs=0.5)


@pytest.mark.parametrize("hertz", [200.0, 440.0, 1000.0, 3000.0])
def test_a_tone_is_loudest_in_its_own_band(frontend: MelFrontend, hertz: float) -> None:
    tone = torch.sin(2 * math.pi * hertz * torch.arange(16000) / SAMPLE_RATE)
    features = frontend(tone)
    assert features.shape == (50, 80)
    bins = np.linspace(0, 8000, 513)
    response = mel_filters(frontend.config)[:, np.abs(bins - hertz).argmin()]
    assert abs(int(features[25].argmax()) - int(response.argmax())) <= 1


def test_frames_are_centred_on_their_samples(frontend: MelFrontend) -> None:
    for frame in (0, 7, 19):
        audio = torch.zeros(6400)
        audio[frame * 320 + 160] = 1.0
        energy = frontend(audio).exp().sum(dim=1)
        assert int(energy.argmax()) == frame


@pytest.mark.parametrize(("samples", "frames"), [(0, 2), (1, 2), (640, 2), (641, 4), (16000, 50)])
def test_audio_is_padded_to_whole_tokens(frontend: MelFrontend, samples: int, frames: int) -> None:
    assert frontend(torch.zeros(3, samples)).shape == (3, frames, 80)


def test_silence_is_the_floor(frontend: MelFrontend) -> None:
    assert (frontend(torch.zeros(640)) == math.log(1e-4)).all()


def test_inverse_transform(frontend: MelFrontend, speech: torch.Tensor) -> None:
    padded = frontend.pad(speech)
    torch.testing.assert_close(
        frontend.istft(frontend.stft(padded)), padded, atol=1e-6, rtol=0, msg="stft, istft"
    )


def test_magnitudes_are_not_negative_and_approach_the_mel_spectrum(
    frontend: MelFrontend, speech: torch.Tensor
) -> None:
    features = frontend(speech)
    mel, errors = features.exp(), []
    for iterations in (0, 3, 30, 100):
        magnitude = frontend.magnitudes(features, iterations)
        assert (magnitude >= 0).all()
        errors.append(float((magnitude @ frontend.filters.T - mel).norm() / mel.norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.01


def test_griffin_lim_gives_back_the_features(frontend: MelFrontend, speech: torch.Tensor) -> None:
    features = frontend(speech)
    error = {}
    for iterations in (0, 24):
        audio = frontend.griffin_lim(features, iterations=iterations, key=1)
        assert audio.shape == frontend.pad(speech).shape
        error[iterations] = float((frontend(audio) - features).abs().mean())
    assert error[24] < 0.25 < error[0]


def test_griffin_lim_depends_on_the_key_alone(frontend: MelFrontend, speech: torch.Tensor) -> None:
    features = frontend(speech)[:40]
    first, again = (frontend.griffin_lim(features, iterations=2, key=4) for _ in range(2))
    other = frontend.griffin_lim(features, iterations=2, key=5)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_numpy_in_and_out(frontend: MelFrontend, speech: torch.Tensor) -> None:
    np.testing.assert_array_equal(log_mel_of(speech.numpy()), frontend(speech).numpy())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hop": 321}, "hop must be at most n_fft = 1024, with an even n_fft - hop; got 321"),
        ({"high": 9000.0}, "low, high must be 0 <= low < high <= half the rate"),
        ({"n_mels": 0}, "n_mels must be a whole number, at least 1"),
        ({"floor": 0.0}, "floor must be above 0"),
    ],
)
def test_mel_configuration_errors(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MelConfig(**changes)


def test_griffin_lim_errors(frontend: MelFrontend) -> None:
    with pytest.raises(ValueError, match=r"log_mel must be 80 mels last; got shape \(4, 79\)"):
        frontend.griffin_lim(torch.zeros(4, 79))
    with pytest.raises(ValueError, match="momentum must be at least 0 and below 1"):
        frontend.griffin_lim(torch.zeros(4, 80), momentum=1)


def test_wav_round_trip(tmp_path: Path) -> None:
    audio = np.linspace(-1, 1, 1001)
    write_wav(tmp_path / "a.wav", audio)
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav"), audio, atol=1.01 / 32768)


def test_resampling_keeps_a_tone() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    found = resample(tone, 22050)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert found.shape == (16000,)
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=2e-3)


# ---- Text ----------------------------------------------------------------------------------------


def test_characters() -> None:
    assert len(CHARACTERS) == 34
    text = "it's one, two: three; four? five! six."
    assert decode_characters(encode_characters(text)) == text
    assert encode_characters(" A\n  b ").tolist() == [0, 33, 1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("caf\u00e9", "text must be written in the 34 characters .* got '\u00e9' at position 3"),
        ("route 66", "got '6' at position 6"),
        ("  ", "text must be at least one character"),
    ],
)
def test_characters_outside_the_alphabet(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        encode_characters(text)


def test_phoneme_table(corpus: Corpus) -> None:
    table = PhonemeTable.from_utterances(corpus.split("train"))
    assert table.names[0] == "_"
    alignment = corpus.split("train")[0].alignment
    assert alignment is not None
    said = alignment.phonemes
    assert table.decode(table.encode(said)) == list(said)
    with pytest.raises(ValueError, match="phonemes must be among the"):
        table.encode(["nope"])


def test_durations_by_hand() -> None:
    alignment = Alignment(("_", "a", "b", "_"), np.array([0, 100, 900, 1700, 2000]), np.zeros(4))
    assert durations(alignment, 4).tolist() == [0, 1, 2, 1]  # edges at 0, 0.16, 1.4, 2.7 tokens
    assert durations(alignment, 2).tolist() == [0, 1, 1, 0]
    assert expand(np.array([5, 6, 7, 8]), durations(alignment, 4)).tolist() == [6, 7, 7, 8]
    with pytest.raises(ValueError, match="count must be a whole number, at least 1"):
        durations(alignment, 0)


def test_durations_of_the_corpus(corpus: Corpus, frontend: MelFrontend) -> None:
    for u in corpus.split("train"):
        tokens = frontend.pad(torch.from_numpy(u.audio)).shape[0] // 640
        assert u.alignment is not None
        lengths = durations(u.alignment, tokens)
        assert lengths.min() >= 0
        assert lengths.sum() == tokens
        moved = np.cumsum(lengths)[:-1] - u.alignment.edges[1:-1] / 640
        assert np.abs(moved).max() <= 0.5


def test_lexicon_reads_as_the_corpus_speaks(corpus: Corpus, tmp_path: Path) -> None:
    every = [u for split in corpus for u in corpus.split(split)]
    made = Lexicon.from_utterances(every)
    made.save(tmp_path / "lexicon.json")
    lexicon = Lexicon.load(tmp_path / "lexicon.json")
    for u in every:
        assert u.alignment is not None
        said = [p for p in u.alignment.phonemes if p != "_"]
        assert lexicon.pronounce(u.text) == [*said, "_"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "the record must be a table of names; got a list of 0"),
        ('{"entries": {}}', "got none called 'before'"),
        ('{"entries": {"a": "b"}, "before": {}}', r"\.entries\['a'\] must be a list; got 'b'"),
        ('{"entries": {}, "before": {"a": [1]}}', r"\.before\['a'\] must be a table of names"),
        ("{", "it is damaged"),
        (None, "there is no such file"),
    ],
)
def test_files_that_are_no_lexicon(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "lexicon.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(
        ValueError, match=f"^{path} must be a lexicon that tokenkl wrote; .*{message}"
    ):
        Lexicon.load(path)


def test_lexicon_by_hand() -> None:
    """The commonest phonemes of a word, and others where the next word asks for them."""

    def said(text: str, *words: list[str]) -> Utterance:
        phonemes = tuple(p for word in words for p in word)
        index = np.array([i for i, word in enumerate(words) for _ in word])
        edges = np.arange(len(phonemes) + 1)
        return Utterance(text, text, np.zeros(9), "", Alignment(phonemes, edges, index))

    lexicon = Lexicon.from_utterances(
        [
            said("the box", ["D", "@"], ["b"]),
            said("the boat", ["D", "@"], ["o"]),
            said("the ox", ["D", "i"], ["a"]),
        ]
    )
    assert lexicon.entries["the"] == ("D", "@")
    assert lexicon.before == {"the": {"ox": ("D", "i")}}
    assert lexicon.pronounce("the ox the box") == ["D", "i", "a", "D", "@", "b", "_"]


def test_words_outside_the_lexicon() -> None:
    lexicon = Lexicon({"one": ["w", "V", "n"]})
    with pytest.raises(ValueError, match=r"the word 'onee' \(near it: one\)"):
        lexicon.pronounce("one onee")


def test_an_utterance_without_alignment(corpus: Corpus) -> None:
    import dataclasses

    bare = dataclasses.replace(corpus.split("train")[0], alignment=None)
    with pytest.raises(ValueError, match="utterance must be one with an alignment of phonemes"):
        PhonemeTable.from_utterances([bare])
