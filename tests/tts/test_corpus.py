"""The synthetic corpus: splits, determinism, alignment, and the cache under interruption."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenkl.tts import espeak
from tokenkl.tts.audio import PAUSE, SAMPLE_RATE, Alignment
from tokenkl.tts.corpus import (
    FADE,
    FORMAT,
    SHARD,
    SPLITS,
    Corpus,
    CorpusConfig,
    Sentence,
    _load_shard,
    _with_pauses,
    cache_folder,
    held_out_combinations,
    held_out_in,
    load_corpus,
    make_sentences,
)
from tokenkl.tts.grammar import DIGITS, TEMPLATES, VOCABULARY, parse
from tokenkl.tts.voice import Voice

DEFAULT = CorpusConfig()


@pytest.fixture(scope="module")
def sentences() -> dict[str, list[Sentence]]:
    return make_sentences(DEFAULT)


def test_sizes_and_shares(sentences: dict[str, list[Sentence]]) -> None:
    for split in SPLITS:
        assert len(sentences[split]) == DEFAULT.size(split)
        about_objects = sum(s.domain == "objects" for s in sentences[split])
        assert about_objects == DEFAULT.size(split) // 2


def test_no_sentence_occurs_twice(sentences: dict[str, list[Sentence]]) -> None:
    every = [s.text for split in SPLITS for s in sentences[split]]
    assert len(set(every)) == len(every)


def test_held_out_combinations_are_in_their_split_only(
    sentences: dict[str, list[Sentence]],
) -> None:
    held = held_out_combinations(DEFAULT)
    for split in SPLITS:
        for sentence in sentences[split]:
            template, words = parse(sentence.text)
            unseen = template.combinations(words) & held[sentence.domain]
            assert bool(unseen) == (split == "combinations"), sentence


def test_held_out_combinations_in_other_sentences(sentences: dict[str, list[Sentence]]) -> None:
    """None in our own training split; in another one, as a search of its texts finds them."""
    assert held_out_in(DEFAULT, sentences["train"]) == 0
    other = make_sentences(CorpusConfig(seed=1, train=300, valid=0, test=0, combinations=0))
    texts = [f" {one.text} " for one in other["train"]]
    between = {"objects": " ", "dates": " of ", "digits": " "}
    expected = 0
    for domain, pairs in held_out_combinations(DEFAULT).items():
        digits = [t for t in texts if all(word in DIGITS for word in t.split())]
        for first, second in pairs:
            where = digits if domain == "digits" else texts
            expected += any(f" {first}{between[domain]}{second} " in text for text in where)
    assert 0 < expected < sum(map(len, held_out_combinations(DEFAULT).values()))
    assert held_out_in(DEFAULT, other["train"]) == expected
    assert held_out_in(DEFAULT, []) == 0


def test_what_the_included_voice_has_heard_of_them() -> None:
    """The numbers of docs/tts.md."""
    own = CorpusConfig(**Voice.load("characters").record["sentences"])
    assert held_out_in(DEFAULT, make_sentences(own)["train"]) == 40
    assert sum(map(len, held_out_combinations(DEFAULT).values())) == 44


def test_every_word_is_in_training(sentences: dict[str, list[Sentence]]) -> None:
    assert {word for s in sentences["train"] for word in s.words} == set(VOCABULARY)


def test_jitter_changes_prosody_and_not_sentences(sentences: dict[str, list[Sentence]]) -> None:
    jittered = make_sentences(CorpusConfig.jittered())
    for split in SPLITS:
        assert [s.text for s in jittered[split]] == [s.text for s in sentences[split]]
    rates = np.array([s.rate for s in jittered["train"]])
    pitches = np.array([s.pitch for s in jittered["train"]])
    assert {s.rate for s in sentences["train"]} == {150}
    assert (rates.min(), rates.max()) == (113, 187)  # 150 -+ 25 %, nearly reached by 1200 draws
    assert (pitches.min(), pitches.max()) == (30, 70)


def test_pauses_are_drawn_between_words() -> None:
    paused = make_sentences(CorpusConfig.paused())["train"]
    assert {word for one in paused for word in one.words} == set(DIGITS)
    assert all(len(one.pauses) == len(one.words) - 1 for one in paused)
    pauses = np.concatenate([one.pauses for one in paused])
    assert (pauses >= 0).all()
    assert (pauses <= 0.5).all()
    # Their mean, to five standard errors of a uniform draw.
    assert abs(pauses.mean() - 0.25) < 5 * 0.5 / np.sqrt(12 * pauses.size)


def test_corpora_without_pauses_keep_their_names(sentences: dict[str, list[Sentence]]) -> None:
    """The folder of a corpus is named as before there were any pauses."""
    config = dataclasses.asdict(DEFAULT)
    assert config.pop("pause") == 0
    record = {
        "config": config, "format": FORMAT, "shard": SHARD, "espeakng_loader": espeak.version(),
        "templates": repr(TEMPLATES),
    }  # fmt: skip
    plain = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    assert DEFAULT.digest() == plain
    assert dataclasses.replace(DEFAULT, pause=0.1).digest() != plain
    assert all(one.pauses == () for one in sentences["train"])


def test_silence_between_words_and_the_sound_as_it_was() -> None:
    names = ("a", "b", PAUSE, "c", "d", PAUSE)
    edges = np.array([0, 300, 900, 1000, 1200, 2000, 2100])
    words = np.array([0, 1, -1, 2, 2, -1])
    sound = np.random.default_rng(0).uniform(0.1, 1, 2100).astype(np.float32)
    found = _with_pauses(espeak.Speech(sound, Alignment(names, edges, words)), (0.25, 0.5))
    first, second = SAMPLE_RATE // 4, SAMPLE_RATE // 2
    assert found.alignment.phonemes == ("a", PAUSE, "b", PAUSE, PAUSE, "c", "d", PAUSE)
    assert found.alignment.words.tolist() == [0, -1, 1, -1, -1, 2, 2, -1]
    lengths = [300, first, 600, 100, second, 200, 800, 100]
    assert np.diff(found.alignment.edges).tolist() == lengths
    parts = np.split(found.audio, np.cumsum([300, first, 700, second]))
    assert found.audio.size == 2100 + first + second
    assert found.audio.dtype == np.float32
    assert not parts[1].any()
    assert not parts[3].any()
    kept = np.concatenate([parts[0], parts[2], parts[4]]) / sound
    near = np.abs(np.arange(2100)[:, None] - [299.5, 999.5]).min(axis=1) < FADE
    assert (kept[~near] == 1).all()  # which are all samples that lie further from a pause
    assert (kept[near] <= 1).all()
    assert kept[[299, 300, 999, 1000]].max() < 1e-3
    same = _with_pauses(espeak.Speech(sound, Alignment(names, edges, words)), ())
    assert (same.audio == sound).all()
    assert same.alignment.phonemes == names


def test_every_voice_speaks() -> None:
    voices = ("en-us+klatt4", "en-gb+klatt2")
    drawn = make_sentences(dataclasses.replace(DEFAULT, voices=voices))["train"]
    assert 450 < sum(s.voice == voices[1] for s in drawn) < 750


def test_seed_changes_everything() -> None:
    small = CorpusConfig(train=10, valid=0, test=0, combinations=0)
    other = dataclasses.replace(small, seed=1)
    assert make_sentences(small)["train"] != make_sentences(other)["train"]
    assert small.digest() != other.digest()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shares": (0.5, 0.5, 0.5)}, "shares must be three shares"),
        ({"held_out": 0}, "held_out must be above 0 and below 1; got 0"),
        ({"rate": 90, "rate_jitter": 0.25}, "rate must be in 80 to 450"),
        ({"pitch": 90, "pitch_jitter": 20}, "pitch must be in 0 to 100"),
        ({"pause": -0.1}, "pause must be in 0 to 10; got -0.1"),
        ({"train": -1}, "train must be a whole number, at least 0"),
        ({"voices": "en-us"}, "voices must be a tuple"),
    ],
)
def test_configuration_errors(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CorpusConfig(**changes)


def test_a_domain_too_small() -> None:
    config = CorpusConfig(train=50, shares=(0, 0, 1), held_out=0.99)
    with pytest.raises(ValueError, match="small enough for the domain"):
        make_sentences(config)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tokenkl"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "tokenkl"


# ---- Speech --------------------------------------------------------------------------------------


def test_splits_hold_what_was_planned(corpus: Corpus) -> None:
    for split in corpus:
        utterances = corpus.split(split)
        assert [u.text for u in utterances] == [s.text for s in corpus.sentences[split]]
        for u in utterances:
            assert 0.8 < u.seconds < 6
            assert u.audio.dtype == np.float32
            assert 0.05 < np.abs(u.audio).max() <= 1


def test_alignments_cover_the_audio_and_every_word(corpus: Corpus) -> None:
    for split in corpus:
        for u in corpus.split(split):
            a = u.alignment
            assert a is not None
            assert a.edges[0] == 0
            assert a.edges[-1] == u.audio.shape[0]
            assert (np.diff(a.edges) >= 0).all()
            assert len(a.phonemes) == a.words.size == a.edges.size - 1
            assert set(a.words) - {-1} == set(range(len(u.text.split())))
            assert [w == -1 for w in a.words] == [p == PAUSE for p in a.phonemes]


def test_boundaries_are_where_the_sound_changes(corpus: Corpus) -> None:
    """Fricatives cross zero far more often than vowels, and the last pause is nearly silent."""
    crossings: dict[str, list[float]] = {"s": [], "'eI": []}
    for u in corpus.split("train"):
        a = u.alignment
        assert a is not None
        for phoneme, start, stop in zip(a.phonemes, a.edges[:-1], a.edges[1:], strict=True):
            if phoneme in crossings and stop - start > 400:
                signs = np.sign(u.audio[start:stop])
                crossings[phoneme].append((np.diff(signs) != 0).mean())
        last = u.audio[a.edges[-2] :]
        assert a.phonemes[-1] == PAUSE
        assert np.sqrt(np.mean(last**2)) < 0.05 * np.sqrt(np.mean(u.audio**2))
    assert min(len(values) for values in crossings.values()) >= 5
    assert np.mean(crossings["s"]) > 3 * np.mean(crossings["'eI"])


def test_interrupted_and_damaged_files_are_made_anew_with_the_same_bytes(
    corpus: Corpus, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop_after_two(done: float, total: float) -> None:
        if done >= 24:
            raise Stop

    with pytest.raises(Stop):
        load_corpus(corpus.config, folder=tmp_path, progress=stop_after_two)
    folder = tmp_path / corpus.folder.name
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.json", "train-00000.npz", "valid-00000.npz"]
    whole = (folder / "train-00000.npz").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    (folder / "train-00000.npz").write_bytes(damaged)
    before = (folder / "valid-00000.npz").stat().st_mtime_ns
    reported = []
    load_corpus(
        corpus.config, folder=tmp_path, progress=lambda done, total: reported.append((done, total))
    )
    assert reported[0] == (4, 38)  # the damaged file counts as missing
    assert reported[-1] == (38, 38)
    assert (folder / "valid-00000.npz").stat().st_mtime_ns == before
    for path in sorted(corpus.folder.iterdir()):
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("audio", lambda a: a[:-1], "audio must be as many as audio_ends says"),
        ("words", lambda a: np.append(a, 0), "words must be as many as phoneme_ends says"),
        ("edges", lambda a: a[1:], "edges must be as many as phoneme_ends says"),
        (
            "audio_ends",
            lambda a: a[::-1],
            "audio_ends must be 4 whole numbers that do not decrease",
        ),
        ("audio_ends", lambda a: a[1:], "audio_ends must be 4 whole numbers"),
        ("texts", lambda a: a[1:], "texts must be 4, one for each name"),
        ("rates", lambda a: a.astype(float), "rates must be one row of its kind"),
        ("names", lambda a: a[None], "names must be one row of its kind"),
        ("voices", None, "the arrays must be with one named 'voices'"),
    ],
)
def test_parts_whose_arrays_do_not_fit_are_refused(
    name: str, change: Callable[..., Any] | None, message: str, corpus: Corpus, tmp_path: Path
) -> None:
    path = tmp_path / "valid-00000.npz"
    with np.load(corpus.folder / path.name) as file:
        arrays = dict(file)
    value = arrays.pop(name)
    if change is not None:
        arrays[name] = change(value)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=f"^{path} must be a part of a corpus; in it, {message}"):
        _load_shard(path)


def test_a_second_look_makes_nothing(corpus: Corpus) -> None:
    def never(done: float, total: float) -> None:
        pytest.fail("something was made")

    load_corpus(corpus.config, folder=corpus.folder.parent, progress=never)


def test_unknown_split(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="split must be one of 'train', 'valid', 'test'"):
        corpus.split("dev")


def test_unknown_voice() -> None:
    with pytest.raises(ValueError, match="voice must be one that espeak-ng has; got nobody"):
        espeak.speak([espeak.Request("one", voice="nobody")])


def test_rate_and_pitch_do_what_they_say() -> None:
    from tokenkl.tts.judge import f0_statistics

    text = "one nine zero nine one"
    slow, fast, high = (
        speech.audio
        for speech in espeak.speak(
            [
                espeak.Request(text, rate=113),
                espeak.Request(text, rate=187),
                espeak.Request(text, pitch=70),
            ]
        )
    )
    assert slow.size > 1.3 * fast.size
    assert f0_statistics(high).mean > 1.1 * f0_statistics(slow).mean
