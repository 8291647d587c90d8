"""Ids and digits of tokens are never taken for each other, and give the prior that they say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import commands

import tokenkl as tk
from tokenkl._formats import FileError
from tokenkl.cli.commands import app
from tokenkl.codebooks.files import load_counts, load_sequences, load_token_array, load_tokens
from tokenkl.codebooks.streams import read_stream

RNG = np.random.default_rng(5)
LAW = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
STAGES = tk.ResidualCodebook([RNG.standard_normal((5, 3)) / 2**i for i in range(3)])
CODES = RNG.choice(5, size=(3, 4000), p=LAW)
FSQ = tk.FSQ((8, 5, 5))
_, succeed, fail = commands(app)


def joint(codes: np.ndarray, shape: tuple[int, ...], smoothing: float = 0.5) -> np.ndarray:
    """Frequencies of digits, counted by NumPy alone."""
    counts = np.zeros(shape)
    np.add.at(counts, tuple(codes), 1)
    return ((counts + smoothing) / (counts.sum() + smoothing * counts.size)).ravel()


def test_one_hot_rows_are_no_ids() -> None:
    """Zeros and ones are ids, too: 45 of them, nearly all of token 0."""
    ids = np.arange(9).repeat(5)
    with pytest.raises(ValueError, match=r"must be ids, not one-hot rows, .*argmax\(-1\)"):
        read_stream(tk.FSQ((3, 3)), np.eye(9)[ids].reshape(5, 9, 9))
    rows = np.eye(9)[ids]
    rows[0] = 1  # of ids 0 and 1
    assert read_stream(tk.FSQ((3, 3)), rows).size == rows.size
    digits = np.eye(2)[[0, 1, 1]]
    assert read_stream(tk.FSQ((2, 2)), digits).digits is not None


def test_lists_of_different_lengths(tmp_path: Path) -> None:
    """As a codec of several rates gives them."""
    (tmp_path / "codes.json").write_text("[[1, 2], [1, 2, 3, 4]]")
    with pytest.raises(FileError, match="its lists have from 2 to 4 entries"):
        load_token_array(tmp_path / "codes.json")


@pytest.mark.parametrize("codes", [CODES, CODES.T, CODES[None], CODES.T[:, None], CODES * 1.0])
def test_digits_in_any_place(codes: np.ndarray) -> None:
    stream = read_stream(STAGES, codes)
    np.testing.assert_array_equal(stream.digits, CODES.T)
    assert "4,000 tokens of 3 digits each, along axis" in stream.how
    found = tk.with_token_prior(STAGES, codes)
    np.testing.assert_allclose(found.prior, joint(CODES, (5, 5, 5)), rtol=1e-13)


def test_a_law_of_all_tokens_takes_as_many_as_there_are() -> None:
    grid, digits = tk.FSQ((2, 2)), np.array([[0, 0], [0, 0], [1, 1], [1, 1]])
    assert tk.with_token_prior(grid, digits).factors is None
    assert tk.with_token_prior(grid, digits[1:]).factors is not None


def test_more_tokens_than_were_counted() -> None:
    told: list[str] = []
    few = CODES[:, :100]
    found = tk.with_token_prior(STAGES, few, tell=told.append)
    assert isinstance(found, tk.ResidualCodebook)
    assert found.stage_priors is not None
    for prior, column in zip(found.stage_priors, few, strict=True):
        np.testing.assert_allclose(np.asarray(prior), tk.prior_from_tokens(column, 5))
    assert told == [
        "100 tokens of 3 digits each, along axis 0: one prior for each digit, as if they were "
        "independent"
    ]
    used = tk.with_token_prior(STAGES, few, used_only=True)
    rows, counts = np.unique(few.T, axis=0, return_counts=True)
    np.testing.assert_array_equal(used.points, STAGES.points_of(rows))
    np.testing.assert_allclose(used.prior, counts / 100)


def ids_of(codebook: tk.Codebook, array: Any, padding: int | None = None) -> list[int]:
    ids = read_stream(codebook, array, padding).ids
    assert ids is not None
    return ids.tolist()


def test_ids_whatever_their_shape() -> None:
    ids = RNG.integers(100, 200, size=(3, 50))  # as many rows as digits, but none of them are
    assert read_stream(FSQ, ids).how == "150 token ids"
    for array in (ids, ids[..., None], ids * 1.0, ids.ravel()):
        found = tk.with_token_prior(FSQ, array)
        np.testing.assert_allclose(found.prior, tk.prior_from_tokens(ids, 200), rtol=1e-13)
    assert ids_of(tk.OneHot(7), [[0, 1], [1, 0]]) == [0, 1, 1, 0]
    assert ids_of(STAGES, [124, 3]) == [124, 3]
    assert ids_of(STAGES, [[124], [3]]) == [124, 3]


def test_negative_ids_say_that_padding_leaves_them_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"from 0 to 199, unless padding=-1 leaves .* got -1\."):
        read_stream(FSQ, np.array([3, -1]))
    np.save(tmp_path / "ids.npy", [[3, -100]])
    with pytest.raises(ValueError, match=r"it holds -100, which padding=-100 leaves out\."):
        load_sequences(tmp_path / "ids.npy")


def test_padding_stands_for_no_token() -> None:
    ids = np.array([3, 4, -1, 4])
    assert ids_of(FSQ, ids, -1) == [3, 4, 4]
    codes = CODES.copy()
    codes[1, 7] = codes[0, 9] = -1
    expected = np.delete(CODES.T, [7, 9], axis=0)
    np.testing.assert_array_equal(read_stream(STAGES, codes, -1).digits, expected)


@pytest.mark.parametrize(
    ("codebook", "tokens", "message"),
    [
        (STAGES, CODES + 5, r"^tokens must be flat ids, or digits along an axis of 3 with values"),
        (STAGES, CODES[:, :3] * 0, r"^tokens must be of shape \(N, 3\), so that it is clear"),
        (STAGES, [[1, 2], [3, 4]], "flat ids, or digits"),
        (FSQ, [200], "tokens must be"),
        (FSQ, [-1], "tokens must be"),
        (FSQ, [0.5], r"^tokens must be whole numbers; got 0.5\.$"),
        (FSQ, [np.nan], "whole numbers"),
        (tk.FSQ((10,) * 40), [2.0**60], "whole numbers; got an array of float64"),
        (FSQ, ["a"], "whole numbers"),
        (FSQ, [], "at least one token"),
        (FSQ, [True], "whole numbers"),
        (FSQ, [[0], [1, 2]], r"^tokens must be whole numbers; got an array of object\.$"),
    ],
)
def test_what_is_refused(codebook: tk.Codebook, tokens: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_stream(codebook, tokens)


def test_unused_tokens_are_left_out_on_request() -> None:
    ids, points = np.arange(8).repeat(10), RNG.standard_normal((64, 4))
    codebook = tk.PointCodebook(points)
    for found in (
        tk.with_token_prior(codebook, ids, used_only=True),
        tk.with_token_prior(codebook, ids, smoothing=0),
        tk.with_counts(codebook, np.bincount(ids, minlength=64), used_only=True),
        tk.with_counts(codebook, np.bincount(ids, minlength=64), 0),
    ):
        np.testing.assert_array_equal(found.points, points[:8])
        assert found.has_equal_priors
    told: list[str] = []
    smooth = tk.with_token_prior(codebook, ids, 1.0, used_only=True, tell=told.append)
    assert smooth.K == 8
    assert told == ["80 token ids: 56 of 64 tokens never occur, and are left out"]
    assert tk.with_token_prior(codebook, np.arange(64), used_only=True).K == 64


def test_counts_need_not_be_whole() -> None:
    sizes = RNG.exponential(size=200)
    np.testing.assert_allclose(tk.with_counts(FSQ, sizes, 0).prior, sizes / sizes.sum())
    smooth = (sizes + 0.5) / (sizes + 0.5).sum()
    np.testing.assert_allclose(tk.with_counts(FSQ, sizes).prior, smooth)
    for wrong in (sizes[:-1], -sizes, 0 * sizes):
        with pytest.raises(ValueError, match=r"^counts must be 200 numbers, at least 0"):
            tk.with_counts(FSQ, wrong)
    with pytest.raises(ValueError, match="smoothing must be at least 0"):
        tk.with_counts(FSQ, sizes, -1.0)


@pytest.mark.parametrize("kind", ["bfloat16", "float32", "int32"])
def test_tensors_are_arrays_of_tokens(kind: str) -> None:
    torch = pytest.importorskip("torch")
    ids = torch.tensor([0, 3, 3, 199 - 64], dtype=getattr(torch, kind))
    ids.requires_grad_(kind == "float32")
    found = read_stream(FSQ, ids).ids
    assert found is not None
    assert found.tolist() == [0, 3, 3, 135]


def test_ids_of_more_tokens_than_a_law_can_list() -> None:
    large = tk.FSQ((10,) * 12)
    with pytest.raises(ValueError, match=r"ids of at most 67,108,864 tokens, or read with used_on"):
        tk.with_token_prior(large, [0, 1, 1])
    for how in ({"used_only": True}, {"smoothing": 0}):
        found = tk.with_token_prior(large, [0, 1, 1], **how)
        np.testing.assert_allclose(found.prior, [1 / 3, 2 / 3], rtol=1e-15)


@pytest.mark.parametrize("counts", [[1e308, 1.5e308, 1e308], [2e-308, 3e-308, 2e-308]])
@pytest.mark.parametrize("smoothing", [0.0, None])
def test_counts_as_large_and_small_as_float64(counts: list[float], smoothing: Any) -> None:
    found = tk.with_counts(tk.FSQ((3,)), counts, smoothing)
    law = np.array([2, 3, 2]) / 7 if smoothing == 0 or counts[0] > 1 else np.full(3, 1 / 3)
    np.testing.assert_allclose(found.prior, law, rtol=1e-14)


def test_files_of_ids(tmp_path: Path) -> None:
    ids = np.array([[3, 4, 5], [0, 7, 2]])
    (tmp_path / "a.json").write_text(json.dumps(ids.tolist()))
    (tmp_path / "a.csv").write_text("3,4,5\n0,7,2\n")
    np.save(tmp_path / "a.npy", ids.astype(np.float32))
    np.savez(tmp_path / "a.npz", tokens=ids, other=ids)
    for name in ("a.json", "a.csv", "a.npy", "a.npz"):
        np.testing.assert_array_equal(load_token_array(tmp_path / name), ids)
        np.testing.assert_array_equal(load_tokens(tmp_path / name), ids.ravel())
    (tmp_path / "b.txt").write_text("3 4\n5 -1\n")
    assert load_token_array(tmp_path / "b.txt").tolist() == [3, 4, 5, -1]
    (tmp_path / "last.csv").write_text("3,4,5\n0, 7,2,\n")  # a comma at the end leaves none out
    np.testing.assert_array_equal(load_token_array(tmp_path / "last.csv"), ids)
    for endless in (np.nan, np.inf, -np.inf):
        np.save(tmp_path / "endless.npy", [1, endless])
        with pytest.raises(FileError, match=f"it holds {endless}"):
            load_token_array(tmp_path / "endless.npy")
    for name, text, why in (
        ("ragged.csv", "1,2\n3\n", "its lines have from 1 to 2 numbers"),
        ("empty.csv", "1,,2\n3,4,5\n", "nothing between two commas, or before the first"),
        ("first.csv", ",1\n2,3\n", "nothing between two commas, or before the first"),
        ("nan.json", "[1, NaN]", "it holds nan"),
        ("words.csv", "a,b\n1,2\n", "'a' in it is not such a number"),
        ("ragged.json", "[[1, 2], [3]]", "ragged.json"),
        ("words.json", '["a"]', "numbers of type <U1"),
        ("half.json", "[0.5]", "it holds 0.5"),
        ("none.json", "[]", "it holds no token"),
        ("large.json", "[1e300]", "it holds 1e"),
        ("deep.json", "[" * 100_000, "deep.json"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(FileError, match=why):
            load_token_array(tmp_path / name)
    with pytest.raises(ValueError, match="it holds -1"):
        load_tokens(tmp_path / "b.txt")


def test_files_of_counts(tmp_path: Path) -> None:
    np.savez(tmp_path / "ema.npz", cluster_size=[0.5, 2.0], embed_avg=np.eye(2))
    assert load_counts(tmp_path / "ema.npz").tolist() == [0.5, 2.0]
    (tmp_path / "c.json").write_text("[0, 3, 1]")
    assert load_counts(tmp_path / "c.json").tolist() == [0, 3, 1]
    (tmp_path / "d.json").write_text("[0, -3]")
    with pytest.raises(ValueError, match="negative"):
        load_counts(tmp_path / "d.json")


def test_order_of_the_rounding_grid(tmp_path: Path) -> None:
    """The ids of the library that rounds count with its first coordinate fastest."""
    weights = [np.array([5, 4, 3, 2, 1, 1, 1, 1]), np.array([4, 2, 1, 1, 1]), np.ones(5, int)]
    law = np.einsum("a,b,c->abc", *weights)
    ids = np.arange(200).repeat(law.ravel(order="F"))
    np.save(tmp_path / "ids.npy", ids)
    exact = tk.FSQ((8, 5, 5), grid="rounding", priors=[one / one.sum() for one in weights])
    right = float(tk.mutual_information(exact, 10.0).value)
    options = ["--tokens", str(tmp_path / "ids.npy"), "--smoothing", "0", "--snr", "10"]
    found, shown_notes = {}, {}
    for spec in ("fsq:8,5,5:rounding", "fsq:8,5,5:rounding:F", "fsq:8,5,5:rounding:C"):
        shown = succeed("profile", spec, *options, "--json", "-")
        record = json.loads(shown.stdout)["quantities"]["mutual_information"]
        found[spec[-1]], shown_notes[spec[-1]] = record["value"][0], shown.stderr
    assert found["g"] == found["F"] == pytest.approx(right, rel=1e-9)
    assert "token ids, the first digit fastest" in shown_notes["g"]
    assert found["C"] != pytest.approx(right, rel=1e-3)


def test_weights_on_the_command_line(tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", RNG.integers(0, 3, size=(2, 500)))
    np.save(tmp_path / "pad.npy", np.array([0, 8, -1]))
    (tmp_path / "counts.csv").write_text("5\n" * 8 + "0\n")
    codes, pad, counts = (str(tmp_path / name) for name in ("codes.npy", "pad.npy", "counts.csv"))
    shown = succeed("profile", "fsq:3x3", "--tokens", codes, "--quantities", "accuracy")
    assert "500 tokens of 2 digits each, along axis 0" in shown.output
    assert "never occur" in succeed("info", "fsq:3x3", "--counts", counts, "--used-only").output
    succeed("info", "fsq:3x3", "--tokens", pad, "--padding=-1")
    both = succeed(
        "compare", "fsq:3x3", "onehot:9", "--counts", counts, "--snr", "1", "--json", "-"
    )
    first, second = json.loads(both.stdout)["codebooks"]
    assert first["K"] == second["K"] == 9
    for arguments, message in (
        (["--tokens", pad], "--tokens: tokens must be"),
        (["--tokens", pad, "--counts", counts], "left out where --tokens gives the prior"),
        (["--used-only"], "--used-only must be given together with --counts or --tokens"),
        (["--counts", counts, "--padding=-1"], "--padding must be given together with --tokens"),
        (["--counts", pad], "--counts: "),
    ):
        assert message in fail("info", "fsq:3x3", *arguments)
