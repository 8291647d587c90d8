"""Arrays that no program named: tables, three axes by the user's word, and what is no codebook."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import tokenkl as tk
from tokenkl.cli.commands import app
from tokenkl.codebooks.layouts.base import Structure

RNG = np.random.default_rng(5)
POINTS = RNG.normal(size=(5, 2)).astype(np.float32)
STACK = RNG.normal(size=(3, 5, 2)).astype(np.float32)
both = pytest.mark.parametrize("suffix", [".npz", ".safetensors"])


def write(path: Path, arrays: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path)
    return path


def test_one_array(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", POINTS)
    found = tk.load_codebook(tmp_path / "mine.npy")
    assert isinstance(found, tk.PointCodebook)
    assert (found.points.dtype, found.label) == (np.float64, "mine")
    np.testing.assert_array_equal(found.points, POINTS)
    np.save(tmp_path / "whole.npy", np.eye(3, dtype=int))
    np.testing.assert_array_equal(tk.load_codebook(tmp_path / "whole.npy").points, np.eye(3))


@both
def test_single_arrays(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    found = tk.load_codebook(write(path, {"embedding.weight": POINTS, "steps": np.array([3])}))
    np.testing.assert_array_equal(found.points, POINTS)
    found = tk.load_codebook(write(path, {"x": POINTS[None]}))
    assert isinstance(found, tk.PointCodebook)
    np.testing.assert_array_equal(found.points, POINTS)
    prior = RNG.dirichlet(np.ones(5))
    found = tk.load_codebook(write(path, {"x": POINTS, "prior": prior}))
    np.testing.assert_allclose(found.prior, prior, rtol=1e-14)


@both
def test_choice_by_name(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", {"one": POINTS, "two": 2 * POINTS, "flat": POINTS[:, 0]})
    with pytest.raises(ValueError, match=r"the arrays one \(5, 2\), two \(5, 2\); .*key=NAME"):
        tk.load_codebook(path)
    np.testing.assert_array_equal(tk.load_codebook(path, key="two").points, 2 * POINTS)
    np.testing.assert_array_equal(tk.codebook(f"{path}:two").points, 2 * POINTS)
    with pytest.raises(ValueError, match="no array or module in it is named 'three'"):
        tk.load_codebook(path, key="three")
    with pytest.raises(ValueError, match=r"2 or 3 axes, and flat in it has shape \(5,\)"):
        tk.load_codebook(path, key="flat")


@both
def test_three_axes_are_what_the_user_says(suffix: str, tmp_path: Path) -> None:
    """The same array holds the stages of an RVQ or the parts of a PQ; nobody can tell."""
    path = write(tmp_path / f"a{suffix}", {"x": STACK})
    with pytest.raises(ValueError, match=r"shape \(3, 5, 2\); say structure='rvq' if the vectors"):
        tk.load_codebook(path)
    with pytest.raises(ValueError, match=r"say rvq:.*a\.(npz|safetensors) if .*, product:.* if"):
        tk.codebook(str(path))
    for found in (tk.load_codebook(path, structure="rvq"), tk.codebook(f"rvq:{path}")):
        assert isinstance(found, tk.ResidualCodebook)
        np.testing.assert_array_equal(
            found.points_of([1, 2, 3]), [*STACK[[0, 1, 2], [1, 2, 3]].astype(float).sum(0)]
        )
    for found in (
        tk.load_codebook(path, structure="product"),
        tk.codebook(f"product:{path}"),
    ):
        assert isinstance(found, tk.Product)
        np.testing.assert_array_equal(
            found.points_of([1, 2, 3]), STACK[[0, 1, 2], [1, 2, 3]].ravel()
        )
    with pytest.raises(ValueError, match=r"x in it has shape .* say structure="):
        tk.load_codebook(path, structure="vq")


def test_a_structure_that_the_file_does_not_have(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    tk.save_codebook(tk.ResidualCodebook([POINTS, POINTS]), tmp_path / "ours.npz")
    structure: Structure
    for path, structure in (("a.npy", "rvq"), ("a.npy", "product"), ("ours.npz", "vq")):
        with pytest.raises(ValueError, match=r"is one table of shape|was to hold one table"):
            tk.load_codebook(tmp_path / path, structure=structure)
    with pytest.raises(ValueError, match="structure must be one of 'vq', 'rvq', 'product'; got pq"):
        tk.load_codebook(tmp_path / "a.npy", structure=cast(Any, "pq"))
    with pytest.raises(ValueError, match="space must be one of 'latent', 'decoded'; got x"):
        tk.load_codebook(tmp_path / "a.npy", space=cast(Any, "x"))


@pytest.mark.parametrize(
    "name",
    [
        "project_out.weight",
        "model.layers.1.mlp.up_proj.weight",
        "decoder.out_proj.weight_v",
        "decoder.1.weight_v",
        "decoder.1.weight_g",
        "encoder.conv1.weight",
        "transformer.wpe.weight",
        "embeddings.position_embeddings.weight",
        "lm_head.weight",
        "layers.0.attn.in_proj_weight",
        "lstm.weight_ih_l0",
        "optimizer.exp_avg",
        "quantize.embed_avg",
        "quantize.embedding_sum",
        "code_transform.weight",
    ],
)
def test_projections_and_their_like_are_no_codebooks(name: str, tmp_path: Path) -> None:
    """Neither alone nor as a choice; a name that is given is read."""
    path = write(tmp_path / "a.safetensors", {name: POINTS, "norm.weight": POINTS[0]})
    with pytest.raises(ValueError, match="none of its arrays looks like a codebook"):
        tk.load_codebook(path)
    path = write(tmp_path / "b.safetensors", {name: POINTS, "table": 2 * POINTS})
    told: list[str] = []
    np.testing.assert_array_equal(tk.load_codebook(path, tell=told.append).points, 2 * POINTS)
    assert told == ["array: table"]
    assert tk.load_codebook(tmp_path / "a.safetensors", key=name).K == 5


def test_the_likely_one_of_several(tmp_path: Path) -> None:
    """VQ-VAE and VQ-GAN: matrices of attention beside `quantize.embedding.weight`."""
    arrays = {"quantize.embedding.weight": POINTS, "decoder.mid.q": POINTS, "to_style": POINTS}
    told: list[str] = []
    tk.load_codebook(write(tmp_path / "a.safetensors", arrays), tell=told.append)
    assert told == ["array: quantize.embedding.weight"]


def test_a_table_behind_a_map_is_computed(tmp_path: Path) -> None:
    """SimVQ as its authors save it."""
    weight, bias = RNG.normal(size=(2, 2)), RNG.normal(size=2)
    arrays = {
        "quantize.embedding.weight": POINTS,
        "quantize.embedding_proj.weight": weight,
        "quantize.embedding_proj.bias": bias,
    }
    path = write(tmp_path / "a.safetensors", arrays)
    np.testing.assert_allclose(tk.load_codebook(path).points, POINTS @ weight.T + bias)
    with pytest.raises(ValueError, match="is not the codebook, but one of the arrays that it is"):
        tk.load_codebook(path, key="quantize.embedding.weight")


def test_a_table_that_is_changed_is_refused(tmp_path: Path) -> None:
    """vqtorch with its affine reparametrisation."""
    arrays = {"codebook.weight": POINTS, "affine_transform.scale": POINTS[0]}
    with pytest.raises(ValueError, match=r"codebook.weight in it go through affine_transform"):
        tk.load_codebook(write(tmp_path / "a.safetensors", arrays))


def test_a_table_without_an_owner_is_named_by_its_array(tmp_path: Path) -> None:
    arrays = {"_codebook.embed": POINTS[None], "b._codebook.embed": 2 * POINTS[None]}
    path = write(tmp_path / "a.safetensors", arrays)
    with pytest.raises(
        ValueError, match=r"2 codebooks: _codebook.embed \(vector quantizer\), b \("
    ):
        tk.load_codebook(path)
    for name, factor in (("_codebook.embed", 1), ("b", 2), ("b._codebook", 2)):
        np.testing.assert_array_equal(tk.load_codebook(path, key=name).points, factor * POINTS)


def test_decoded_codes_without_a_projection_are_the_codes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    told: list[str] = []
    tk.load_codebook(tmp_path / "a.npy", space="decoded", tell=told.append)
    assert told == ["array: array, no projection: decoded codes are the codes"]


def test_a_layer_is_known_by_its_bias(tmp_path: Path) -> None:
    layer = {"net.weight": POINTS, "net.bias": POINTS[:, 0]}
    with pytest.raises(ValueError, match="none of its arrays looks like a codebook"):
        tk.load_codebook(write(tmp_path / "a.safetensors", layer))


def test_one_of_many_is_not_taken_by_chance(tmp_path: Path) -> None:
    """The classes of a model whose FSQ saves nothing are not its codebook."""
    arrays = {"net.weight": POINTS, "net.bias": POINTS[:, 0], "cls.weight": POINTS}
    with pytest.raises(ValueError, match=r"it holds the arrays cls.weight \(5, 2\); choose one"):
        tk.load_codebook(write(tmp_path / "a.safetensors", arrays))


def test_columns_that_are_tokens(tmp_path: Path) -> None:
    """VQ-VAE-2 keeps (n, K), which the size of its counts shows."""
    arrays = {"quantize_t.embed": POINTS.T, "quantize_t.cluster_size": np.ones(5)}
    told: list[str] = []
    found = tk.load_codebook(write(tmp_path / "a.safetensors", arrays), tell=told.append)
    np.testing.assert_array_equal(found.points, POINTS)
    assert told == ["array: quantize_t.embed, its columns, as many as cluster_size has entries"]
    arrays["quantize_t.cluster_size"] = np.ones(7)
    with pytest.raises(ValueError, match=r"has shape \(2, 5\), and its cluster_size \(7,\)"):
        tk.load_codebook(write(tmp_path / "a.safetensors", arrays))


def test_a_codebook_that_is_0(tmp_path: Path) -> None:
    for array in (np.zeros((5, 2)), np.zeros((2, 5, 2))):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(
            ValueError, match="array in it is 0 everywhere: a codebook that was never"
        ):
            tk.load_codebook(tmp_path / "a.npy", allow_duplicates=True)
    np.save(tmp_path / "a.npy", np.zeros((1, 2)))
    assert tk.load_codebook(tmp_path / "a.npy").K == 1


def test_equal_rows_and_what_to_do_about_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.vstack([POINTS, np.zeros((2, 2))]))
    with pytest.raises(ValueError, match="unless allow_duplicates=True; got rows 5 and 6 that are"):
        tk.load_codebook(tmp_path / "a.npy")
    assert tk.load_codebook(tmp_path / "a.npy", allow_duplicates=True).K == 7


@pytest.mark.parametrize("shape", [(6,), (6, 2)])
def test_complex_numbers_are_two_coordinates(shape: Any, tmp_path: Path) -> None:
    values = RNG.normal(size=shape) + 1j * RNG.normal(size=shape)
    np.save(tmp_path / "a.npy", values)
    told: list[str] = []
    found = tk.load_codebook(tmp_path / "a.npy", tell=told.append)
    columns = values.reshape(6, -1)
    np.testing.assert_array_equal(found.points[:, ::2] + 1j * found.points[:, 1::2], columns)
    assert told == ["array: array, complex numbers as two real coordinates each"]


def test_one_row_of_complex_numbers_is_no_token(tmp_path: Path) -> None:
    """As MATLAB keeps a constellation: one token in R^12 without a word is not what was meant."""
    np.save(tmp_path / "a.npy", RNG.normal(size=(1, 6)) + 1j)
    with pytest.raises(ValueError, match=r"one row of 6 complex numbers, .* save it as a column"):
        tk.load_codebook(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array([[1 + 2j]]))
    assert tk.load_codebook(tmp_path / "a.npy").K == 1


@pytest.mark.parametrize("name", ["arr_{}", "vq.codebooks.{}.embedding.weight", "table{}_2"])
def test_numbered_arrays_are_what_the_user_says(name: str, tmp_path: Path) -> None:
    arrays = {name.format(place): RNG.normal(size=(place % 3 + 1, 2)) for place in range(11)}
    path = write(tmp_path / "a.npz", {one: arrays[one] for one in sorted(arrays)})
    with pytest.raises(ValueError, match=r"it holds the arrays .*; choose one with key=NAME"):
        tk.load_codebook(path)
    tables = list(arrays.values())  # 10 comes after 9
    found = tk.load_codebook(path, structure="rvq")
    assert isinstance(found, tk.ResidualCodebook)
    for stage, table in zip(found.stages, tables, strict=True):
        np.testing.assert_array_equal(stage, table)
    last = tk.codebook(f"product:{path}").points_at(np.array([found.K - 1]))[0]
    np.testing.assert_array_equal(last, np.concatenate([table[-1] for table in tables]))
    write(path, {name.format(place): POINTS for place in (0, 1, 3)})
    with pytest.raises(ValueError, match=r"it holds the arrays .*; choose one"):
        tk.load_codebook(path, structure="rvq")


def test_the_bits_of_a_binary_quantizer_are_no_codebook(tmp_path: Path) -> None:
    """BSQ keeps its place values, and the codes of a group of bits beside them."""
    arrays = {"quantize.basis": 2 ** np.arange(18)[::-1], "quantize.group_codebook": np.eye(9)}
    path = write(tmp_path / "a.npz", arrays)
    with pytest.raises(ValueError, match=r"holds the bits of an LFQ or BSQ, quantize\.basis,.*:18"):
        tk.load_codebook(path)


@pytest.mark.parametrize(
    ("table", "scale"),
    [
        ("embed_tokens.weight", "embed_tokens.weight_scale"),
        ("embed_tokens.weight", "embed_tokens.SCB"),
        ("codebook", "scales"),
        ("vq.codebook", "vq.codebook_zero_point"),
    ],
)
def test_whole_numbers_that_stand_for_others(table: str, scale: str, tmp_path: Path) -> None:
    whole = RNG.integers(-128, 127, size=(5, 3), dtype=np.int8)
    path = write(tmp_path / "a.safetensors", {table: whole, scale: np.ones(5)})
    with pytest.raises(ValueError, match=rf"{table} in it has whole numbers that {scale} turns"):
        tk.load_codebook(path)
    for arrays in ({table: whole}, {table: whole + 0.5, scale: np.ones(5)}):
        found = tk.load_codebook(write(path, arrays))
        np.testing.assert_array_equal(found.points, arrays[table])


def test_a_token_in_each_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", {"vqvae/vector_quantizer_ema/embeddings": POINTS.T})
    told: list[str] = []
    np.testing.assert_array_equal(tk.load_codebook(path, tell=told.append).points, POINTS)
    assert "its columns, as dm-haiku keeps tokens" in told[0]


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        ('{"model_type": "mbart", "scale_embedding": true}', "1.41421"),
        ('{"text_config": {"model_type": "gemma2"}}', "1.41421"),
        ('{"model_type": "bart", "scale_embedding": false}', None),
    ],
)
def test_embeddings_that_the_model_multiplies(
    config: str, factor: str | None, tmp_path: Path
) -> None:
    write(tmp_path / "model.safetensors", {"model.shared.weight": POINTS})
    (tmp_path / "config.json").write_text(config)
    told: list[str] = []
    np.testing.assert_array_equal(tk.load_codebook(tmp_path, tell=told.append).points, POINTS)
    assert told[0].partition("multiplies by sqrt(n) = ")[2] == (factor or "")


def test_the_format_of_a_file_is_no_tensor(tmp_path: Path) -> None:
    """`save_model` notes tensors that share memory beside the program that wrote them."""
    notes = {"format": "pt", "other": "pt"}
    save_file({"pt": POINTS}, tmp_path / "a.safetensors", metadata=notes)
    with pytest.raises(
        ValueError, match=r"it holds the arrays other \(5, 2\), pt \(5, 2\); choose"
    ):
        tk.load_codebook(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(
        tk.load_codebook(tmp_path / "a.safetensors", key="other").points, POINTS
    )


def test_info_names_the_array(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"table": POINTS, "norm.weight": POINTS[0]})
    done = CliRunner().invoke(app, ["info", str(path)], env={"COLUMNS": "100"})
    assert done.stdout.splitlines()[0].split() == ["read", "from", "array:", "table"]


def test_half_precision(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    path = tmp_path / "a.safetensors"
    values = torch.tensor([[1.0, -2.5], [3.1415926, 1e-30], [-0.0, 65280.0]])
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.int32):
        stored = values.to(kind)
        save({"before": torch.ones(3), "x": stored, "z": torch.ones(1)}, path)
        np.testing.assert_array_equal(tk.load_codebook(path).points, stored.double().numpy())
    save({"x": values.to(torch.float8_e4m3fn)}, path)
    with pytest.raises(ValueError, match="x in it is of type F8_E4M3, which is not read"):
        tk.load_codebook(path)
