"""Corpora on disk, made here in their true layouts, with every kind of damage."""

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from tokenkl.tts.audio import SAMPLE_RATE, read_wav
from tokenkl.tts.frontend import decode_characters, encode_characters
from tokenkl.tts.loaders import load_cdcd, load_libritts, load_ljspeech


def _tone(rate: int, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 330 * np.arange(round(rate * seconds)) / rate)


def _write_24_bit(path: Path, audio: np.ndarray, rate: int) -> None:
    values = np.round(audio * (2**23 - 1)).astype("<i4")
    data = values.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16,
                         1, 1, rate, rate * 3, 3, 24, b"data", len(data))  # fmt: skip
    path.write_bytes(header + data)


# ---- WAV files -----------------------------------------------------------------------------------


def test_sample_formats(tmp_path):
    rate, audio = 22050, _tone(22050)
    expected = 0.5 * np.sin(2 * np.pi * 330 * np.arange(8000) / SAMPLE_RATE)
    wavfile.write(tmp_path / "int16.wav", rate, np.round(audio * 32767).astype(np.int16))
    wavfile.write(tmp_path / "int32.wav", rate, np.round(audio * (2**31 - 1)).astype(np.int32))
    wavfile.write(tmp_path / "uint8.wav", rate, np.round(audio * 127 + 128).astype(np.uint8))
    wavfile.write(tmp_path / "float.wav", rate, audio.astype(np.float32))
    stereo = np.stack([audio * 1.5, audio * 0.5], axis=1).astype(np.float32)
    wavfile.write(tmp_path / "stereo.wav", rate, stereo)
    _write_24_bit(tmp_path / "int24.wav", audio, rate)
    for path in sorted(tmp_path.iterdir()):
        found = read_wav(path)
        assert found.dtype == np.float32, path
        assert found.shape == (8000,), path
        np.testing.assert_allclose(
            found[300:-300], expected[300:-300], atol=0.01, err_msg=str(path)
        )


# ---- LJSpeech ------------------------------------------------------------------------------------


@pytest.fixture
def ljspeech(tmp_path):
    """metadata.csv as LJSpeech has it: no header, no quoting, three fields."""
    root = tmp_path / "LJSpeech-1.1"
    (root / "wavs").mkdir(parents=True)
    lines = []
    for index in range(1, 5):
        name = f"LJ001-{index:04d}"
        audio = np.round(_tone(22050, 0.3 + 0.1 * index) * 32767).astype(np.int16)
        wavfile.write(root / "wavs" / f"{name}.wav", 22050, audio)
        lines.append(f'{name}|He said "No. {index}|he said "number {index}')
    (root / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_ljspeech(ljspeech):
    reported = []
    recordings = load_ljspeech(ljspeech, progress=lambda done, total: reported.append(done))
    assert len(recordings) == 4
    assert recordings.seconds == pytest.approx(0.4 + 0.5 + 0.6 + 0.7, abs=1e-3)
    utterances = list(recordings)
    assert [u.name for u in utterances] == [f"LJ001-{i:04d}" for i in range(1, 5)]
    assert utterances[1].text == 'he said "number 2'
    assert utterances[1].audio.shape == (8000,)
    assert recordings.bad == []
    assert reported == [1, 2, 3, 4]


def test_ljspeech_with_every_kind_of_damage(ljspeech):
    wavs = ljspeech / "wavs"
    (wavs / "LJ001-0002.wav").write_bytes(b"not a wav file at all")
    whole = (wavs / "LJ001-0003.wav").read_bytes()
    (wavs / "LJ001-0003.wav").write_bytes(whole[: len(whole) // 2])
    wavfile.write(wavs / "empty.wav", 22050, np.zeros(0, np.int16))
    with open(ljspeech / "metadata.csv", "a", encoding="utf-8") as file:
        file.write("LJ001-0009|missing|missing\nLJ001-0001|again|again\nbroken line\n")
        file.write("../secret|x|x\nLJ001-0004||\nempty|text|text\n")
    with pytest.warns(UserWarning, match="Skipped 8 bad files: .*and 3 more, see .bad"):
        recordings = load_ljspeech(ljspeech, on_bad="skip")
    reasons = [one.reason for one in recordings.bad]
    for part in (
        "readable WAV file",
        "there is no such file",
        "repeats the id LJ001-0001",
        "has 1 fields, not id|text|normalised",
        "names a file outside wavs: ../secret",
        "it has no samples",
    ):
        assert any(part in reason for reason in reasons), (part, reasons)
    assert {entry.name for entry in recordings.entries} == {"LJ001-0001", "LJ001-0004"}
    assert [u.name for u in recordings] == ["LJ001-0001", "LJ001-0004"]
    with pytest.raises(ValueError, match=r'LJ001-0002\.wav: .*Use on_bad="skip" to go on'):
        load_ljspeech(ljspeech)


def test_damage_that_only_reading_shows(ljspeech):
    path = ljspeech / "wavs" / "LJ001-0002.wav"
    wavfile.write(path, 22050, np.full(5000, np.nan, np.float32))
    refusing = load_ljspeech(ljspeech)
    with pytest.raises(ValueError, match=r"LJ001-0002\.wav: .*samples are not finite"):
        list(refusing)
    skipping = load_ljspeech(ljspeech, on_bad="skip")
    with pytest.warns(UserWarning, match=r"Skipped 1 bad files: .*LJ001-0002\.wav"):
        assert len(list(skipping)) == 3
    assert len(list(skipping)) == 3  # named once, skipped every time
    assert [one.path for one in skipping.bad] == [path]


def test_ljspeech_folder_errors(tmp_path):
    with pytest.raises(ValueError, match=r"folder must be an LJSpeech-style folder"):
        load_ljspeech(tmp_path)
    (tmp_path / "metadata.csv").write_text("")
    with pytest.raises(ValueError, match="folder must be a folder with at least one usable"):
        load_ljspeech(tmp_path)
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe|x")
    with pytest.raises(ValueError, match="must be UTF-8 text"):
        load_ljspeech(tmp_path)
    with pytest.raises(ValueError, match="on_bad must be one of 'skip', 'refuse'; got ignore"):
        load_ljspeech(tmp_path, on_bad="ignore")


# ---- LibriTTS ------------------------------------------------------------------------------------


@pytest.fixture
def libritts(tmp_path):
    root = tmp_path / "LibriTTS"
    for name in ("84_121123_000007_000000", "84_121123_000008_000001", "174_50561_000001_000000"):
        speaker, chapter = name.split("_")[:2]
        folder = root / "dev-clean" / speaker / chapter
        folder.mkdir(parents=True, exist_ok=True)
        wavfile.write(folder / f"{name}.wav", 24000, np.round(_tone(24000) * 9999).astype(np.int16))
        (folder / f"{name}.normalized.txt").write_text(f"Text of {name}.\n", encoding="utf-8")
        (folder / f"{name}.original.txt").write_text("Original.", encoding="utf-8")
    return root


def test_libritts(libritts):
    for folder, count in ((libritts, 3), (libritts / "dev-clean" / "84", 2)):
        recordings = load_libritts(folder)
        assert len(recordings) == count
        assert all(u.audio.shape == (8000,) for u in recordings)
    first = load_libritts(libritts).entries[0]
    assert (first.name, first.speaker) == ("174_50561_000001_000000", "174")
    assert first.text == "Text of 174_50561_000001_000000."


def test_libritts_bad_files(libritts):
    chapter = libritts / "dev-clean" / "84" / "121123"
    (chapter / "84_121123_000007_000000.normalized.txt").unlink()
    (chapter / "84_121123_000008_000001.normalized.txt").write_bytes(b"\xff\xff")
    copy = libritts / "test-clean" / "174" / "50561"
    copy.mkdir(parents=True)
    source = libritts / "dev-clean" / "174" / "50561" / "174_50561_000001_000000.wav"
    (copy / source.name).write_bytes(source.read_bytes())
    with pytest.warns(UserWarning, match="Skipped 3 bad files"):
        recordings = load_libritts(libritts, on_bad="skip")
    assert len(recordings) == 1
    reasons = " ".join(one.reason for one in recordings.bad)
    for part in ("there is no such file", "it is damaged", "repeats the name of"):
        assert part in reasons
    with pytest.raises(
        ValueError, match=r"84_121123_000007_000000\.normalized\.txt: must be the transcript"
    ):
        load_libritts(libritts)


def test_libritts_folder_errors(tmp_path):
    with pytest.raises(ValueError, match="folder must be a folder that exists"):
        load_libritts(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="at least one usable recording"):
        load_libritts(tmp_path)


# ---- CDCD-TTS ------------------------------------------------------------------------------------

SECONDS = (4.89, 7.46, 10.03)
TEXTS = ("it's a test.", "and: another one, longer", "why not?")


def _speech(seed: int, seconds: float) -> np.ndarray:
    return np.random.default_rng(seed).integers(6561, size=round(25 * seconds)).astype(np.int16)


@pytest.fixture
def cdcd(tmp_path):
    """Two triplets in one folder, as the repository has them: int16 ids, arr_0, arr_1, ..."""
    for name, offset in (("data_1", 0), ("data_2", 10)):
        speech = [_speech(offset + i, s) for i, s in enumerate(SECONDS)]
        text = [encode_characters(t).astype(np.int16) for t in TEXTS]
        np.savez(tmp_path / f"{name}_speech.npz", *speech)
        np.savez(tmp_path / f"{name}_text.npz", *text)
        lines = [f"{s:.2f}|{808 + offset + i}" for i, s in enumerate(SECONDS)]
        (tmp_path / f"{name}_info.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_cdcd(cdcd):
    data = load_cdcd(cdcd)
    assert len(data) == 6
    assert [one.name for one in data.sequences] == ["808", "809", "810", "818", "819", "820"]
    assert data.seconds == pytest.approx(2 * sum(SECONDS))
    np.testing.assert_array_equal(data[4].speech, _speech(11, SECONDS[1]))
    assert [decode_characters(one.text) for one in data.sequences[:3]] == list(TEXTS)
    assert data[0].speech.dtype == data[0].text.dtype == np.int64


def test_cdcd_drops_characters_outside_the_alphabet(cdcd):
    text = [np.array([0, 34, 1, 99], np.int16)] * 3
    np.savez(cdcd / "data_1_text.npz", *text)
    assert load_cdcd(cdcd)[0].text.tolist() == [0, 1]


def test_cdcd_token_ids_are_points_of_fsq(cdcd):
    """The repository's rule: base-3 digits, least significant first, digit - 1 = coordinate."""
    from tokenkl import FSQ

    ids = load_cdcd(cdcd)[0].speech
    points = FSQ((3,) * 8, order="F").points_at(ids)
    digits = [[int(d) for d in reversed(np.base_repr(i, 3).rjust(8, "0"))] for i in ids]
    np.testing.assert_array_equal(points, np.array(digits) - 1)


def _rewrite_speech(folder, arrays):
    np.savez(folder / "data_1_speech.npz", *arrays)


GOOD = [_speech(i, s) for i, s in enumerate(SECONDS)]


@pytest.mark.parametrize(
    ("damage", "kept", "reason"),
    [
        (lambda f: (f / "data_1_text.npz").unlink(), 3, "there is no such file"),
        (lambda f: (f / "data_1_text.npz").write_bytes(b"PK\x03\x04junk"), 3, "it is damaged"),
        (lambda f: _rewrite_speech(f, GOOD[:2]), 3, "has 2 arrays, not the 3 of"),
        (
            lambda f: _rewrite_speech(f, [GOOD[0], GOOD[1] + np.int16(6561), GOOD[2]]),
            5,
            "809 (arr_1) has the speech id",
        ),
        (lambda f: _rewrite_speech(f, [GOOD[0], GOOD[1], GOOD[2][:99]]), 5, "has 99 tokens in"),
        (lambda f: _rewrite_speech(f, [GOOD[0] - 9999, *GOOD[1:]]), 5, "no row of whole numbers"),
        (lambda f: _rewrite_speech(f, [GOOD[0] / 2, *GOOD[1:]]), 5, "no row of whole numbers"),
        (lambda f: _rewrite_speech(f, [GOOD[0][:0], *GOOD[1:]]), 5, "has no text or no speech"),
        (
            lambda f: (f / "data_1_info.txt").write_text("4.89|808\n7.46 809\n10.03|810\n"),
            5,
            "line 2 is not seconds|id",
        ),
        (lambda f: (f / "data_1_info.txt").write_bytes(b"\xff\xfe"), 3, "must be UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_cdcd_damage(cdcd, damage, kept, reason):
    damage(cdcd)
    with pytest.warns(UserWarning, match="Skipped 1 bad files"):
        data = load_cdcd(cdcd, on_bad="skip")
    assert len(data) == kept
    assert reason in data.bad[0].reason
    assert data.bad[0].path.name.startswith("data_1_")
    with pytest.raises(ValueError, match='Use on_bad="skip"'):
        load_cdcd(cdcd)


def test_cdcd_never_opens_a_pickle(cdcd):
    objects = np.empty(3, object)
    objects[:] = GOOD
    np.savez(cdcd / "data_1_speech.npz", arr_0=objects, arr_1=objects, arr_2=objects)
    with pytest.raises(ValueError, match="a pickle or a PyTorch file is never opened"):
        load_cdcd(cdcd)


def test_cdcd_folder_errors(tmp_path):
    with pytest.raises(ValueError, match=r"folder must be a folder with files NAME_info[.]txt"):
        load_cdcd(tmp_path)
