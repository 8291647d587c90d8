"""Files of other programs that hold arrays: folders, PyTorch, GGUF, word2vec, text."""

import importlib.util
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import tokenkl as tk
from tokenkl import _formats
from tokenkl.codebooks.containers import checkpoint

RNG = np.random.default_rng(9)
POINTS = RNG.normal(size=(6, 4)).astype(np.float32)


def refused(path: Path, match: str, **how: Any) -> str:
    with pytest.raises(ValueError, match=match) as caught:
        tk.load_codebook(path, **how)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


# ---- Folders -----------------------------------------------------------------------------------


def sharded(folder: Path) -> Path:
    """Two files and their index, as transformers saves a large model."""
    save_file({"model.embed_tokens.weight": POINTS}, folder / "model-00001-of-00002.safetensors")
    save_file({"lm_head.weight": 2 * POINTS}, folder / "model-00002-of-00002.safetensors")
    places = {
        "model.embed_tokens.weight": "model-00001-of-00002.safetensors",
        "lm_head.weight": "model-00002-of-00002.safetensors",
    }
    index = {"metadata": {"total_size": 192}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder / "model.safetensors.index.json"


def test_a_model_in_several_files(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    for path in (tmp_path, index):
        told: list[str] = []
        found = tk.load_codebook(path, tell=told.append)
        np.testing.assert_array_equal(found.points, POINTS)
        assert (found.label, told) == (
            "model",
            ["embeddings of a language model: model.embed_tokens.weight"],
        )
    np.testing.assert_array_equal(tk.load_codebook(index, key="lm_head.weight").points, 2 * POINTS)
    assert tk.codebook(f"{tmp_path}:lm_head.weight").K == 6


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"lm_head.weight": "../other.safetensors"},
            "not a .safetensors or .bin file beside",
        ),
        ({"lm_head.weight": "/etc/passwd"}, "it lists '/etc/passwd', not a .safetensors or"),
        ({"lm_head.weight": "none.safetensors"}, "there is no such file"),
        ({"other": "model-00001-of-00002.safetensors"}, "other is not in model-00001-of-00002"),
        ({str(i): f"{i}.safetensors" for i in range(2001)}, "it lists 2,003 files"),
    ],
)
def test_an_index_that_points_elsewhere(change: Any, match: str, tmp_path: Path) -> None:
    index = sharded(tmp_path)
    written = json.loads(index.read_text())
    written["weight_map"] |= change
    index.write_text(json.dumps(written))
    with pytest.raises(ValueError, match=match):
        tk.load_codebook(tmp_path)


def test_a_model_in_several_files_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    places = {"model.embed_tokens.weight": 1, "lm_head.weight": 2}
    names = {name: f"pytorch_model-0000{i}-of-00002.bin" for name, i in places.items()}
    for name, scale in places.items():
        torch.save({name: torch.tensor(POINTS).bfloat16() * scale}, tmp_path / names[name])
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    expected = torch.tensor(POINTS).bfloat16().double().numpy()
    for path in (tmp_path, index):
        found = tk.load_codebook(path)
        assert found.label == "pytorch_model"
        np.testing.assert_array_equal(found.points, expected)
    found = tk.load_codebook(tmp_path, key="lm_head.weight")
    np.testing.assert_array_equal(found.points, 2 * expected)
    shard = tmp_path / names["lm_head.weight"]
    shard.write_bytes(word2vec([b"a", b"b"], POINTS[:2]))
    with pytest.raises(ValueError, match=r"00002-of-00002.bin must be .* damaged"):
        tk.load_codebook(tmp_path)


def test_a_model_in_several_files_is_as_large_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as its index, from whose size no table of millions would be believed."""
    table = RNG.normal(size=(900, 4))
    save_file({"embed_tokens.weight": table}, tmp_path / "s.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"embed_tokens.weight": "s.safetensors"}}))
    monkeypatch.setattr(_formats, "FREE_NUMBERS", 0)
    assert index.stat().st_size * _formats.NUMBERS_PER_BYTE < table.size
    np.testing.assert_array_equal(tk.load_codebook(tmp_path).points, table)


def test_folders_with_none_or_several(tmp_path: Path) -> None:
    refused(tmp_path, "it is a folder with no model.safetensors; name the file")
    save_file({"x": POINTS}, tmp_path / "one.safetensors")
    assert tk.load_codebook(tmp_path).K == 6
    save_file({"x": POINTS}, tmp_path / "two.safetensors")
    refused(tmp_path, "it is a folder with 2 .safetensors files; name the file")
    save_file({"x": POINTS[:3]}, tmp_path / "model.safetensors")
    assert tk.load_codebook(tmp_path).K == 3


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_of_transformers(tied: bool, tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    library.utils.logging.disable_progress_bar()
    config = library.LlamaConfig(
        vocab_size=64, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=tied, pad_token_id=0,
    )  # fmt: skip
    model = library.LlamaForCausalLM(config).bfloat16()
    model.model.embed_tokens.weight.data[-4:] = 0  # padding to a multiple of 8
    model.save_pretrained(tmp_path, max_shard_size="3KB")
    expected = model.model.embed_tokens.weight.detach().double().numpy()
    for found in (
        tk.load_codebook(tmp_path, allow_duplicates=True),
        tk.from_module(model, allow_duplicates=True),
        tk.codebook(str(tmp_path)),
    ):
        np.testing.assert_array_equal(found.points, expected)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("transformer.wte.weight", "transformer.wpe.weight"), 0),
        (
            (
                "bert.embeddings.position_embeddings.weight",
                "bert.embeddings.word_embeddings.weight",
            ),
            1,
        ),
        (("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), 0),
        (("tok_embeddings.weight", "output.weight"), 0),
        (("gpt_neox.embed_in.weight", "embed_out.weight"), 0),
        (("text_model.embeddings.token_embedding.weight", "visual_projection.weight"), 0),
    ],
)
def test_the_table_of_tokens_by_its_name(names: Any, chosen: int, tmp_path: Path) -> None:
    arrays = {name: POINTS + place for place, name in enumerate(names)}
    save_file(arrays, tmp_path / "a.safetensors")
    found = tk.load_codebook(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(found.points, arrays[names[chosen]])


# ---- PyTorch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin"])
def test_files_of_pytorch(suffix: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    stored = torch.tensor(POINTS)
    path = tmp_path / f"a{suffix}"
    for content in (
        stored,
        {"x": stored},
        {"_codebook.embed": stored[None], "_codebook.initted": torch.tensor(True)},
        {"state_dict": {"quantizer._codebook.embed": stored}, "epoch": 3, "hyper": {"a": "b"}},
        {"model": {"embed_tokens.weight": stored}, "optimizer": {"state": {0: {"x": stored}}}},
        {"x": stored, "optimizer": {"state": {0: {"y": stored}}}, "scaler_state": [stored]},
        torch.nn.Embedding.from_pretrained(stored).state_dict(),
    ):
        torch.save(content, path)
        np.testing.assert_array_equal(tk.load_codebook(path).points, POINTS)
    for kind in (torch.bfloat16, torch.float16, torch.float64):
        torch.save({"x": stored.to(kind)}, path)
        expected = stored.to(kind).double().numpy()
        np.testing.assert_array_equal(tk.load_codebook(path).points, expected)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"x": Bomb(tmp_path / "exploded")}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", r"more than tensors, .*torch.save\(module.state_dict\(\), ...\)")
    torch.save(torch.nn.Linear(2, 3), tmp_path / "b.pt")
    refused(tmp_path / "b.pt", "such as a whole module")
    (tmp_path / "c.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    refused(tmp_path / "c.pt", "damaged, or of another kind")
    assert not (tmp_path / "exploded").exists()


def test_files_of_pytorch_that_are_damaged(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pt"
    torch.save({"x": torch.tensor(POINTS)}, path)
    whole = path.read_bytes()
    for length in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, "damaged, or of another kind")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"x" * 1000)
    refused(path, "its members are compressed, as PyTorch does not write them")
    torch.save({"x": torch.tensor(POINTS).to_sparse()}, path)
    refused(path, "more than tensors|sparse or quantized tensor|damaged")


@pytest.mark.parametrize("content", [3, None, "text", {"a": 3}, [1, "b"], {"scaler": [{}]}])
def test_files_of_pytorch_without_a_tensor(content: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(content, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "it holds no array")


def test_tables_in_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to a depth; not one table that stands in others without end."""
    torch = pytest.importorskip("torch")
    path, stored = tmp_path / "a.pt", torch.tensor(POINTS)
    deep: Any = {"x": stored}
    for _ in range(checkpoint.MAX_DEPTH):
        deep = {"a": deep}
    torch.save(deep, path)
    np.testing.assert_array_equal(tk.load_codebook(path).points, POINTS)
    torch.save({"a": deep}, path)
    refused(path, "it holds no array")
    torch.save({"b": [stored, {"d": stored}], "a": stored, "words": [("a", "b")] * 1000}, path)
    refused(path, r"it holds the arrays a \(6, 4\), b.0 \(6, 4\), b.1.d \(6, 4\); choose one")
    table: Any = [stored]
    for _ in range(7):
        table = [table] * 30
    torch.save(table, path)
    monkeypatch.setattr(checkpoint, "MAX_ENTRIES", 1000)
    refused(path, "it holds more than 1,000 tables and tensors in each other")


def test_a_tensor_that_claims_more_than_it_has(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pt"
    torch.save({"x": torch.zeros(1).expand(2**20, 2**10)}, path)
    refused(path, "it would unpack to 1,073,741,824 numbers, too many for its size")


def test_without_pytorch_the_message_converts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it tells, run where PyTorch is, makes a file that is read."""
    torch = pytest.importorskip("torch")
    torch.save({"x": torch.tensor(POINTS)}, tmp_path / "a.pt")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        told = refused(tmp_path / "a.pt", "needs PyTorch, which is not installed")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"torch": torch, "safetensors": pytest.importorskip("safetensors")}
    pytest.importorskip("safetensors.torch")
    exec(told.partition("convert it by ")[2].rstrip("."), namespace)
    np.testing.assert_array_equal(tk.load_codebook(tmp_path / "a.safetensors").points, POINTS)


# ---- Text, and word2vec ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_rows_of_numbers(separator: str, suffix: str, tmp_path: Path) -> None:
    """k-means centres as NumPy and pandas write them."""
    path = tmp_path / f"a{suffix}"
    np.savetxt(path, POINTS.astype(float), delimiter=separator, fmt="%.17g")
    np.testing.assert_array_equal(tk.load_codebook(path).points, POINTS)
    path.write_text(separator.join("abcd") + "\n" + path.read_text().replace("\n", "\r\n"))
    np.testing.assert_array_equal(tk.load_codebook(path).points, POINTS)


@pytest.mark.parametrize("head", ["", "id,x,y\n"])
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("place", [0, 2])
def test_a_column_that_counts_rows(head: str, start: int, place: int, tmp_path: Path) -> None:
    """An index or labels beside the vectors are no coordinate."""
    rows = np.insert(RNG.normal(size=(4, 2)), place, np.arange(4) + start, axis=1)
    path = tmp_path / "a.csv"
    path.write_text(head + "\n".join(",".join(map(str, row)) for row in rows.tolist()))
    refused(path, rf"its {'last' if place else 'first'} column counts its rows; write the vectors")
    grid = np.array([[0, 3], [1, -1], [2, 5]])  # of whole numbers alone
    path.write_text("\n".join(",".join(map(str, row)) for row in grid.tolist()))
    np.testing.assert_array_equal(tk.load_codebook(path).points, grid)


def test_centres_of_scikit_learn_by_pandas(tmp_path: Path) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    pandas = pytest.importorskip("pandas")
    fit = cluster.KMeans(5, n_init=1, random_state=0).fit(RNG.normal(size=(200, 3)))
    centres = fit.cluster_centers_
    frame = pandas.DataFrame(centres)
    path = tmp_path / "a.csv"
    frame.to_csv(path, index=False, header=False)
    np.testing.assert_allclose(tk.load_codebook(path).points, centres, rtol=1e-15)
    frame.to_csv(path)
    refused(path, r"looks like the numbers of its rows, .* alone \(index=False, header=False\)")
    frame.to_csv(path, index=False)
    refused(path, r"counts 0, 1, 2 like the names of columns; write it without \(header=False\)")
    frame.columns = ["x", "y", "z"]
    frame.to_csv(path, index=False)
    np.testing.assert_allclose(tk.load_codebook(path).points, centres, rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1,2\n3\n", "vector 1 in it has 1 numbers, and the first has 2"),
        ("1,2\n3,x\n", "'x' in it is not a number"),
        ("1,x\n3,4\n", "'x' in it is not a number"),
        ("", "it holds no line"),
        ("a,b\n", "it holds no vector"),
        ("1,nan\n3,4\n", "finite everywhere"),
        ("3 2\na 1 2\nb 3 4\n", "its first line says 3 vectors, and 2 follow"),
        ("2 2\na 1 2\nb 3 x\n", "'x' in it is not a number"),
        ("a 1 2\nb 3\n", "vector 1 in it has|is not a number"),
    ],
)
def test_text_that_is_no_table(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    refused(tmp_path / "a.txt", match)


def test_a_grid_of_whole_numbers_may_begin_with_0_1(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,1\n1,0\n2,5\n")
    np.testing.assert_array_equal(
        tk.load_codebook(tmp_path / "a.csv").points, [[0, 1], [1, 0], [2, 5]]
    )


@pytest.mark.parametrize("suffix", [".txt", ".vec"])
def test_words_and_their_vectors(suffix: str, tmp_path: Path) -> None:
    """word2vec and fastText count their lines, GloVe does not; a word may hold spaces."""
    words = ["the", "2", ". . .", "-", "é", "x"]
    lines = [
        f"{w} {' '.join(map(repr, row))}" for w, row in zip(words, POINTS.tolist(), strict=True)
    ]
    path = tmp_path / f"a{suffix}"
    for text in ("6 4\n" + " \n".join(lines) + " \n", "\n".join(lines)):
        path.write_text(text)
        np.testing.assert_array_equal(tk.load_codebook(path).points, POINTS)


def word2vec(words: list[bytes], vectors: np.ndarray, end: bytes = b"") -> bytes:
    """As the original program writes them, which ends vectors with a line; gensim does not."""
    rows = [
        w + b" " + row.astype("<f4").tobytes() + end for w, row in zip(words, vectors, strict=True)
    ]
    return f"{len(vectors)} {vectors.shape[1]}\n".encode() + b"".join(rows)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_binary_vectors_of_words(end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    whole = word2vec([b"w%d" % i for i in range(6)], POINTS, end)
    path.write_bytes(whole)
    np.testing.assert_array_equal(tk.load_codebook(path).points, POINTS)
    path.write_bytes(whole[: -4 - len(end)])
    refused(path, "damaged, or of another kind")
    path.write_bytes(b"999999999 999999\n" + whole)
    refused(path, "it says that it holds 999,999,999 vectors of 999,999 numbers, more than it")
    path.write_bytes(b"\x00" * 100)
    refused(path, "it is neither of PyTorch nor of word2vec")


@pytest.mark.parametrize("binary", [False, True])
def test_vectors_of_gensim(binary: bool, tmp_path: Path) -> None:
    models = pytest.importorskip("gensim.models")
    vectors = models.KeyedVectors(4)
    vectors.add_vectors([f"w{i}" for i in range(6)], POINTS)
    path = tmp_path / ("a.bin" if binary else "a.txt")
    vectors.save_word2vec_format(str(path), binary=binary)
    np.testing.assert_allclose(tk.load_codebook(path).points, POINTS, rtol=1e-6)


# ---- GGUF --------------------------------------------------------------------------------------


def text(word: str) -> bytes:
    return struct.pack("<Q", len(word)) + word.encode()


def gguf(kind: int, content: bytes, shape: tuple[int, ...]) -> bytes:
    """A description of each kind, and two tensors."""
    described = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.alignment") + struct.pack("<II", 4, 64),
        text("a.float") + struct.pack("<If", 6, 0.5),
        text("a.list") + struct.pack("<IIQ", 9, 8, 2) + text("x") + text("y"),
        text("a.numbers") + struct.pack("<IIQ3i", 9, 5, 3, 1, 2, 3),
    ]
    axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
    tensors = [
        text("token_embd.weight") + axes + struct.pack("<IQ", kind, 64),
        text("output_norm.weight") + struct.pack("<IQIQ", 1, 4, 0, 0),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(described))
    whole = head + b"".join([*described, *tensors])
    return whole + bytes(-len(whole) % 64) + bytes(64) + content


@pytest.mark.parametrize(("kind", "dtype"), [(0, "<f4"), (1, "<f2"), (28, "<f8")])
def test_tensors_of_gguf(kind: int, dtype: str, tmp_path: Path) -> None:
    stored = POINTS.astype(dtype)
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf(kind, stored.tobytes(), stored.shape))
    np.testing.assert_array_equal(tk.load_codebook(path).points, stored)


def test_packed_tensors_of_gguf_by_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    table = POINTS.view(np.uint32)
    path.write_bytes(gguf(30, (table >> 16).astype("<u2").tobytes(), POINTS.shape))
    expected = (table >> 16 << 16).view(np.float32)
    np.testing.assert_array_equal(tk.load_codebook(path).points, expected)
    block = np.dtype([("scale", "<f2"), ("numbers", "i1", 32)])
    blocks = np.zeros((3, 2), block)
    blocks["scale"] = RNG.uniform(size=(3, 2))
    blocks["numbers"] = RNG.integers(-128, 128, size=(3, 2, 32))
    path.write_bytes(gguf(8, blocks.tobytes(), (3, 64)))
    expected = blocks["scale"].astype(float)[..., None] * blocks["numbers"]
    np.testing.assert_array_equal(tk.load_codebook(path).points, expected.reshape(3, 64))
    for kind in (2, 10, 12, 14, 18, 34, 2**20):  # Q4_0, Q2_K, Q4_K, Q6_K, IQ3_XXS, TQ1_0, none
        path.write_bytes(gguf(kind, bytes(10_000), (4, 256)))
        refused(path, rf"token_embd.weight in it is packed \(type {kind}\), .* --outtype f16 or")


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
def test_tensors_of_gguf_by_its_library(name: str, tmp_path: Path) -> None:
    library = pytest.importorskip("gguf")
    table = RNG.normal(size=(6, 64)).astype(np.float32)
    kind = library.GGMLQuantizationType[name]
    packed = library.quants.quantize(table, kind)
    writer = library.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["a", "b", "c", "d", "e", "f"])
    writer.add_tensor("token_embd.weight", packed, raw_dtype=kind)
    writer.add_tensor("blk.0.attn_q.weight", table)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path = tmp_path / "a.gguf"
    if name == "Q4_0":
        refused(path, r"token_embd.weight in it is packed \(type 2\), .* --outtype f16 or q8_0")
        return
    expected = library.quants.dequantize(packed, kind)
    np.testing.assert_array_equal(tk.load_codebook(path).points, expected)


def test_gguf_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    whole = gguf(0, POINTS.tobytes(), POINTS.shape)
    for length in (0, 3, 10, 100, 300, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, "damaged, or of another kind")
    for version in (1, 2, 3, 4):
        path.write_bytes(whole[:4] + struct.pack("<I", version) + whole[8:])
        if version in (2, 3):
            np.testing.assert_array_equal(tk.load_codebook(path).points, POINTS)
        else:
            refused(path, "damaged, or of another kind")
    path.write_bytes(gguf(0, POINTS.tobytes(), (2**40, 2**10)))
    refused(path, "it would unpack to 1,125,899,906,842,624 numbers|damaged")
    path.write_bytes(whole.replace(struct.pack("<Q", 2) + struct.pack("<Q", 5), b"\xff" * 16))
    refused(path, "damaged")


# ---- faiss -------------------------------------------------------------------------------------


def test_quantizers_of_faiss(tmp_path: Path) -> None:
    """Its indexes, and its arrays as its maintainers take them out, against what it decodes."""
    faiss = pytest.importorskip("faiss")
    data = RNG.normal(size=(500, 4)).astype(np.float32)
    digits = RNG.integers(8, size=(9, 2))
    packed = (digits[:, 0] | digits[:, 1] << 3).astype(np.uint8)[:, None]
    product, residual = faiss.IndexPQ(4, 2, 3), faiss.IndexResidualQuantizer(4, 2, 3)
    product.train(data)
    residual.train(data)
    pq, rq = product.pq, residual.rq
    faiss.write_index(product, str(tmp_path / "pq.faiss"))
    faiss.write_index(residual, str(tmp_path / "rq.index"))
    table = faiss.vector_to_array(pq.centroids).reshape(pq.M, pq.ksub, pq.dsub)
    np.save(tmp_path / "pq.npy", table)
    np.save(tmp_path / "rq.npy", faiss.vector_to_array(rq.codebooks).reshape(2, 8, 4))
    for found in (
        tk.load_codebook(tmp_path / "pq.faiss"),
        tk.load_codebook(tmp_path / "pq.npy", structure="product"),
    ):
        assert isinstance(found, tk.Product)
        np.testing.assert_array_equal(found.points_of(digits), pq.decode(packed))
    for found in (
        tk.load_codebook(tmp_path / "rq.index", structure="rvq"),
        tk.load_codebook(tmp_path / "rq.npy", structure="rvq"),
    ):
        assert isinstance(found, tk.ResidualCodebook)
        np.testing.assert_allclose(found.points_of(digits), rq.decode(packed), atol=1e-6)
    for flat in (faiss.IndexFlatL2(4), faiss.IndexFlatIP(4), faiss.Kmeans(4, 6)):
        if isinstance(flat, faiss.Kmeans):
            flat.train(data)
            flat = flat.index
        else:
            flat.add(data[:6])
        faiss.write_index(flat, str(tmp_path / "flat.faiss"))
        found = tk.load_codebook(tmp_path / "flat.faiss")
        np.testing.assert_array_equal(found.points, flat.reconstruct_n(0, 6))
    by_cells = faiss.IndexIVFPQ(faiss.IndexFlatL2(4), 4, 8, 2, 3)
    by_cells.train(data)
    faiss.write_index(by_cells, str(tmp_path / "cells.faiss"))
    refused(tmp_path / "cells.faiss", "begins with 'IwPQ': of faiss, IndexFlat, IndexPQ and Index")


def index(kind: bytes, *more: bytes) -> bytes:
    """An index of faiss: dimension 4, no vectors, trained, inner product or L2."""
    return kind + struct.pack("<iqqq?i", 4, 0, 2**20, 2**20, True, 1) + b"".join(more)


def floats(*shape: int) -> bytes:
    values = RNG.normal(size=shape).astype("<f4")
    return struct.pack("<Q", values.size) + values.tobytes()


def test_indexes_of_faiss_by_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.faiss"
    product = index(b"IxPq", struct.pack("<QQQ", 4, 2, 3), floats(2, 8, 2))
    residual = index(b"IxRq", struct.pack("<QQQ2Q?", 4, 2, 2, 3, 2, True), floats(12, 4))
    path.write_bytes(product + b"codes")
    assert isinstance(tk.load_codebook(path), tk.Product)
    path.write_bytes(residual + b"codes")
    found = tk.load_codebook(path)
    assert isinstance(found, tk.ResidualCodebook)
    assert found.shape == (8, 4)
    flat = index(b"IxF2", struct.pack("<Q", 24), POINTS.tobytes())
    for kind in (b"IxF2", b"IxFI", b"IxFl"):
        path.write_bytes(kind + flat[4:])
        np.testing.assert_array_equal(tk.load_codebook(path).points, POINTS)
    path.write_bytes(index(b"IxFI", struct.pack("<Q", 0)))
    refused(path, r"points must be of shape .*; got an array of shape \(0, 4\)")
    path.write_bytes(flat.replace(b"IxF2", b"IwPQ"))
    refused(path, "begins with 'IwPQ': of faiss, IndexFlat, .* save the array of another one by")
    for whole in (product, residual, flat):
        for length in (4, 20, 60, len(whole) - 1):
            path.write_bytes(whole[:length])
            refused(path, "damaged, or of another kind")
    path.write_bytes(index(b"IxPq", struct.pack("<QQQQ", 4, 2, 2**60, 2**60)))
    refused(path, "damaged")
