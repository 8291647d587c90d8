"""Corpora on disk, made here in their true layouts, with every kind of damage."""

import os
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from scipy.io import wavfile

from tokenkl.tts.audio import SAMPLE_RATE, probe_wav, read_wav
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


def test_sample_formats(tmp_path: Path) -> None:
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


def _chunks(order: str, start: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A WAV file of these chunks, each padded to an even length."""
    body = b"".join(
        name + struct.pack(f"{order}I", len(content)) + content + b"\0" * (len(content) % 2)
        for name, content in chunks
    )
    return start + struct.pack(f"{order}I", 4 + len(body)) + b"WAVE" + body


def _form(
    order: str, code: int, channels: int, width: int, bits: int = 0, rate: int = 16_000
) -> bytes:
    block = channels * width
    return struct.pack(
        f"{order}HHIIHH", code, channels, rate, rate * block, block, bits or 8 * width
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("code", "width", "bits"),
    [
        (1, 1, 8),
        (1, 2, 16),
        (1, 2, 12),
        (1, 3, 24),
        (1, 3, 20),
        (1, 4, 32),
        (1, 8, 64),
        (3, 4, 32),
        (3, 8, 64),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_every_format_is_read_as_scipy_reads_it(
    order: str, code: int, width: int, bits: int, channels: int, tmp_path: Path
) -> None:
    """Bit for bit, with chunks of odd length in between, and a description that says more."""
    rng = np.random.default_rng(width)
    count = 50 * channels
    if code == 3:
        data = rng.uniform(-1, 1, count).astype(f"{order}f{width}").tobytes()
    else:
        data = rng.bytes(count * width)
    form = _form(order, code, channels, width, bits)
    path = tmp_path / "a.wav"
    start = b"RIFF" if order == "<" else b"RIFX"
    chunks = [(b"LIST", b"odd"), (b"fmt ", form), (b"fact", b"1234"), (b"data", data)]
    path.write_bytes(_chunks(order, start, *chunks))
    _, samples = wavfile.read(path)
    expected = samples.astype(np.float32)
    if samples.dtype == np.uint8:
        expected = (expected - 128) / 128
    elif samples.dtype.kind == "i":
        expected /= 2.0 ** (8 * samples.dtype.itemsize - 1)
    expected = expected.mean(axis=1) if channels > 1 else expected
    np.testing.assert_array_equal(read_wav(path), expected.astype(np.float32))
    assert probe_wav(path) == 50 / 16_000


def test_extensible_and_long_files(tmp_path: Path) -> None:
    data = np.arange(-20, 20, dtype="<i2").tobytes()
    guid = (
        struct.pack("<HHIH", 22, 16, 0, 1)
        + bytes.fromhex("0000000010008000")
        + b"\xaa\x00\x38\x9b\x71"
    )
    form = _form("<", 0xFFFE, 1, 2) + guid
    path = tmp_path / "a.wav"
    path.write_bytes(_chunks("<", b"RIFF", (b"fmt ", form), (b"data", data)))
    np.testing.assert_array_equal(read_wav(path) * 32768, np.arange(-20, 20))
    long = struct.pack("<QQQI", 0, len(data), 40, 0)
    content = _chunks("<", b"RF64", (b"ds64", long), (b"fmt ", form), (b"data", data))
    at = content.index(b"data") + 4
    path.write_bytes(content[:at] + b"\xff" * 4 + content[at + 4 :])
    np.testing.assert_array_equal(read_wav(path) * 32768, np.arange(-20, 20))


FORM = {"code": 1, "channels": 1, "width": 2}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (_form("<", **FORM, rate=0), "sampling rate is 0, not 1000 to 200000 Hz"),
        (_form("<", **FORM, rate=1), "sampling rate is 1,"),
        (_form("<", **FORM, rate=999), "sampling rate is 999,"),
        (_form("<", **FORM, rate=200_001), "sampling rate is 200001,"),
        (struct.pack("<HHIIHH", 1, 1, 2**31 - 1, 0, 2, 16), "sampling rate is 2147483647,"),
        (struct.pack("<HHIIHH", 1, 0, 16_000, 32_000, 2, 16), "16 bits, 2 bytes for 0 channels"),
        (struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 0, 16), "0 bytes for 1 channels"),
        (struct.pack("<HHIIHH", 1, 2, 16_000, 32_000, 3, 16), "3 bytes for 2 channels"),
        (_form("<", 1, 1, 2, 17), "17 bits"),
        (_form("<", 3, 1, 8, 32), r"code 3, 32 bits"),
        (_form("<", 6, 1, 1), r"not PCM or floating point \(code 6"),
        (_form("<", 1, 1, 5), "40 bits"),
        (_form("<", 1, 65535, 1), "is cut short"),
        (b"short", "does not say what its samples are"),
    ],
)
def test_headers_that_make_no_sense(form: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(_chunks("<", b"RIFF", (b"fmt ", form), (b"data", bytes(90))))
    for read in (probe_wav, read_wav):
        with pytest.raises(ValueError, match=rf"a\.wav must be a readable WAV file; .*{message}"):
            read(path)


def test_rates_at_the_ends_of_their_range(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for rate in (1000, 200_000):
        path.write_bytes(
            _chunks("<", b"RIFF", (b"fmt ", _form("<", **FORM, rate=rate)), (b"data", bytes(800)))
        )
        assert read_wav(path).size == probe_wav(path) * SAMPLE_RATE == 400 * 16_000 / rate


def test_samples_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    form = (b"fmt ", _form("<", **FORM))
    whole = _chunks("<", b"RIFF", form, (b"data", bytes(90)))
    for content, message in (
        (whole[:-1], "it is cut short"),
        (_chunks("<", b"RIFF", form, (b"data", bytes(89))), "it is cut short"),
        (_chunks("<", b"RIFF", form, (b"data", b"")), "it has no samples"),
        (_chunks("<", b"RIFF", form), "it has no samples, or is cut short"),
        (_chunks("<", b"RIFF", *[(b"junk", b"")] * 2000, form), "it has no samples, or is cut"),
        (b"RIFF\0\0\0\0AVI LIST", "does not begin like one"),
        (whole[:40] + b"\xff" * 4 + whole[44:], "it is cut short"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            probe_wav(path)
    with path.open("wb") as file:  # of mostly nothing: two hours and a second
        size = 2 * 16_000 * 7201
        file.write(whole[:40] + struct.pack("<I", size))
        file.truncate(44 + size)
    with pytest.raises(ValueError, match="it is longer than 7200 s"):
        probe_wav(path)


def test_samples_that_overflow(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for value in (np.nan, np.inf, 1e300, 2.0**32):
        wavfile.write(path, 16_000, np.array([0.0, value]))
        with pytest.raises(ValueError, match="its samples are not finite, or far from -1 to 1"):
            read_wav(path)


# ---- LJSpeech ------------------------------------------------------------------------------------


@pytest.fixture
def ljspeech(tmp_path: Path) -> Path:
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


def test_ljspeech(ljspeech: Path) -> None:
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


def test_ljspeech_with_every_kind_of_damage(ljspeech: Path) -> None:
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


def test_damage_that_only_reading_shows(ljspeech: Path) -> None:
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


def test_ljspeech_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder must be an LJSpeech-style folder"):
        load_ljspeech(tmp_path)
    (tmp_path / "metadata.csv").write_text("")
    with pytest.raises(ValueError, match="folder must be a folder with at least one usable"):
        load_ljspeech(tmp_path)
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe|x")
    with pytest.raises(ValueError, match="must be UTF-8 text"):
        load_ljspeech(tmp_path)
    with pytest.raises(ValueError, match="on_bad must be one of 'skip', 'refuse'; got ignore"):
        load_ljspeech(tmp_path, on_bad=cast(Any, "ignore"))


def test_names_that_no_disk_takes(ljspeech: Path) -> None:
    """Neither a name that is too long, nor one that is no name, ends the corpus."""
    with open(ljspeech / "metadata.csv", "a", encoding="utf-8") as file:
        for name in ("x" * 300, "a\0b", "\x1b[31mred", "y" * 100_000):
            file.write(f"{name}|t|t\n")
    with pytest.warns(UserWarning, match="Skipped 4 bad files") as caught:
        recordings = load_ljspeech(ljspeech, on_bad="skip")
    assert len(list(recordings)) == 4
    assert str(caught[0].message).isprintable()
    assert len(str(caught[0].message)) < 5000
    assert "too long" in recordings.bad[0].reason
    with pytest.raises(ValueError, match=r"must be a readable WAV file; File name too long\. Use"):
        load_ljspeech(ljspeech)


# ---- LibriTTS ------------------------------------------------------------------------------------


@pytest.fixture
def libritts(tmp_path: Path) -> Path:
    root = tmp_path / "LibriTTS"
    for name in ("84_121123_000007_000000", "84_121123_000008_000001", "174_50561_000001_000000"):
        speaker, chapter = name.split("_")[:2]
        folder = root / "dev-clean" / speaker / chapter
        folder.mkdir(parents=True, exist_ok=True)
        wavfile.write(folder / f"{name}.wav", 24000, np.round(_tone(24000) * 9999).astype(np.int16))
        (folder / f"{name}.normalized.txt").write_text(f"Text of {name}.\n", encoding="utf-8")
        (folder / f"{name}.original.txt").write_text("Original.", encoding="utf-8")
    return root


def test_libritts(libritts: Path) -> None:
    for folder, count in ((libritts, 3), (libritts / "dev-clean" / "84", 2)):
        recordings = load_libritts(folder)
        assert len(recordings) == count
        assert all(u.audio.shape == (8000,) for u in recordings)
    first = load_libritts(libritts).entries[0]
    assert (first.name, first.speaker) == ("174_50561_000001_000000", "174")
    assert first.text == "Text of 174_50561_000001_000000."


def test_libritts_bad_files(libritts: Path) -> None:
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


def test_libritts_files_that_cannot_be_opened(libritts: Path) -> None:
    """A name that leaves no room for that of its transcript; pipes and devices; a long text."""
    chapter = libritts / "dev-clean" / "84" / "121123"
    source = chapter / "84_121123_000007_000000.wav"
    for name in ("z" * 250, "pipe", "device", "long"):
        (chapter / f"{name}.wav").write_bytes(source.read_bytes())
    os.mkfifo(chapter / "pipe.normalized.txt")
    (chapter / "device.normalized.txt").symlink_to("/dev/zero")
    (chapter / "long.normalized.txt").write_bytes(b"x" * (2**20 + 1))
    (chapter / "none.wav").symlink_to("/dev/zero")
    (chapter / "none.normalized.txt").write_text("none")
    with pytest.warns(UserWarning, match="Skipped 5 bad files"):
        recordings = load_libritts(libritts, on_bad="skip")
    assert len(recordings) == 3
    reasons = " ".join(one.reason for one in recordings.bad)
    for part in ("File name too long", "a device or a pipe", "more than 1,048,576 bytes"):
        assert part in reasons


def test_libritts_folder_errors(tmp_path: Path) -> None:
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
def cdcd(tmp_path: Path) -> Path:
    """Two triplets in one folder, as the repository has them: int16 ids, arr_0, arr_1, ..."""
    for name, offset in (("data_1", 0), ("data_2", 10)):
        speech = [_speech(offset + i, s) for i, s in enumerate(SECONDS)]
        text = [encode_characters(t).astype(np.int16) for t in TEXTS]
        np.savez(tmp_path / f"{name}_speech.npz", *speech)
        np.savez(tmp_path / f"{name}_text.npz", *text)
        lines = [f"{s:.2f}|{808 + offset + i}" for i, s in enumerate(SECONDS)]
        (tmp_path / f"{name}_info.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_cdcd(cdcd: Path) -> None:
    data = load_cdcd(cdcd)
    assert len(data) == 6
    assert [one.name for one in data.sequences] == ["808", "809", "810", "818", "819", "820"]
    assert data.seconds == pytest.approx(2 * sum(SECONDS))
    np.testing.assert_array_equal(data[4].speech, _speech(11, SECONDS[1]))
    assert [decode_characters(one.text) for one in data.sequences[:3]] == list(TEXTS)
    assert data[0].speech.dtype == data[0].text.dtype == np.int64


def test_cdcd_drops_characters_outside_the_alphabet(cdcd: Path) -> None:
    text = [np.array([0, 34, 1, 99], np.int16)] * 3
    np.savez(cdcd / "data_1_text.npz", *text)
    assert load_cdcd(cdcd)[0].text.tolist() == [0, 1]


def test_cdcd_token_ids_are_points_of_fsq(cdcd: Path) -> None:
    """The repository's rule: base-3 digits, least significant first, digit - 1 = coordinate."""
    from tokenkl import FSQ

    ids = load_cdcd(cdcd)[0].speech
    points = FSQ((3,) * 8, order="F").points_at(ids)
    digits = [[int(d) for d in reversed(np.base_repr(i, 3).rjust(8, "0"))] for i in ids]
    np.testing.assert_array_equal(points, np.array(digits) - 1)


def _rewrite_speech(folder: Path, arrays: Any) -> None:
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
def test_cdcd_damage(cdcd: Path, damage: Callable[..., Any], kept: int, reason: str) -> None:
    damage(cdcd)
    with pytest.warns(UserWarning, match="Skipped 1 bad files"):
        data = load_cdcd(cdcd, on_bad="skip")
    assert len(data) == kept
    assert reason in data.bad[0].reason
    assert data.bad[0].path.name.startswith("data_1_")
    with pytest.raises(ValueError, match='Use on_bad="skip"'):
        load_cdcd(cdcd)


@pytest.mark.parametrize("filling", [" ", "\t", "a ", "1", ".", "|"])
def test_lines_of_a_million_characters_take_no_time(filling: str, cdcd: Path) -> None:
    """Twice as long takes twice as long, not four times."""
    info = cdcd / "data_1_info.txt"
    long = (filling * 10**6)[: 10**6]
    lines = [f"4.89|{long}x", f"{long}|809", f"10.03|8{long}"]
    info.write_text("\n".join(lines) + "\n")
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        data = load_cdcd(cdcd, on_bad="skip")
    assert time.monotonic() - began < 3
    assert len(data) >= 5 - (filling in "1.|\t ")
    assert all(len(one.reason) < 1000 for one in data.bad)


def test_cdcd_damaged_archives(cdcd: Path) -> None:
    """An encrypted member, an unknown method, numbers beyond int64, and zeros without end."""
    path = cdcd / "data_1_speech.npz"
    whole = path.read_bytes()
    at = whole.index(b"PK\x01\x02")
    for place, value in ((at + 8, 1), (at + 10, 99), (at + 10, 12)):
        changed = bytearray(whole)
        changed[place] = changed[place - at + 6 - 8 if place == at + 8 else 8] = value
        path.write_bytes(changed)
        with pytest.warns(UserWarning, match="Skipped 1 bad files"):
            assert len(load_cdcd(cdcd, on_bad="skip")) == 3
    _rewrite_speech(cdcd, [np.full(122, 2**64 - 1, np.uint64), *GOOD[1:]])
    with pytest.warns(UserWarning, match="808 .arr_0. is no row of whole numbers"):
        assert len(load_cdcd(cdcd, on_bad="skip")) == 5
    np.savez_compressed(path, np.zeros(9 * 10**6, np.int8), np.zeros(9 * 10**6, np.int8), GOOD[2])
    with pytest.warns(UserWarning, match="unpack to 9,000,000 numbers, too many for its size"):
        assert len(load_cdcd(cdcd, on_bad="skip")) == 3  # each would do, but not both
    np.savez_compressed(path, *GOOD[:2], np.zeros(2**25, np.int8))
    with pytest.warns(UserWarning, match="unpack to 33,554,432 numbers, too many for its size"):
        assert len(load_cdcd(cdcd, on_bad="skip")) == 3


def test_cdcd_never_opens_a_pickle(cdcd: Path) -> None:
    objects = np.empty(3, object)
    objects[:] = GOOD
    np.savez(cdcd / "data_1_speech.npz", arr_0=objects, arr_1=objects, arr_2=objects)
    with pytest.raises(ValueError, match="a pickle is never opened, nor a PyTorch file by"):
        load_cdcd(cdcd)


def test_cdcd_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder must be a folder with files NAME_info[.]txt"):
        load_cdcd(tmp_path)
