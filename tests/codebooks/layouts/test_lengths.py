"""Quantizers that divide vectors by their lengths, of which a file has the vectors alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import commands

import tokenkl as tk
from tokenkl.cli.commands import app

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
_, succeed, fail = commands(app, "info")


class Quantizer(torch.nn.Module):  # type: ignore[name-defined]
    """As of LlamaGen and ViT-VQGAN: raw vectors are trained, and unit vectors come out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(6, 3)

    def forward(self, ids: Any) -> Any:
        return torch.nn.functional.normalize(self.embedding(ids), dim=-1)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return torch.nn.ModuleDict({"quantize": Quantizer(), "decoder": torch.nn.Linear(3, 5)})


def numbers(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().double().numpy())


def emitted(model: Any) -> np.ndarray:
    return numbers(model["quantize"](torch.arange(6)))


def save(model: Any, folder: Path, *, notes: dict[str, str] | None = None, **beside: str) -> Path:
    """The model, with notes in its metadata and texts in files beside it."""
    safetensors.save_file(model.state_dict(), folder / "model.safetensors", metadata=notes)
    for name, text in beside.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder / "model.safetensors"


def checkpoint(model: Any, folder: Path, **settings: Any) -> Path:
    path = folder / "model.ckpt"
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": settings}, path)
    return path


SAID: dict[str, tuple[Any, dict[str, Any]]] = {
    "JSON": (save, {"config_json": json.dumps({"vq_model": {"use_l2_norm": True}})}),
    "YAML": (save, {"config_yaml": "model:\n  vq:\n    codebook_l2_norm: True\n"}),
    "named alike": (save, {"model_yaml": "l2_normalized : true # on the sphere\n"}),
    "kind": (save, {"config_json": '{"vq": {"model_type": "janus_vqgan"}}'}),
    "metadata": (save, {"notes": {"l2_norm": "true"}}),
    "JSON in metadata": (
        save,
        {"notes": {"config": json.dumps(json.dumps({"normalize_codebook": True}))}},
    ),
    "checkpoint": (checkpoint, {"vq": {"l2_norm": True}}),
}


@pytest.mark.parametrize("way", SAID)
def test_what_says_that_vectors_are_normalised(way: str, model: Any, tmp_path: Path) -> None:
    write, said = SAID[way]
    path = write(model, tmp_path, **said)
    with pytest.raises(ValueError, match=r"quantize\.embedding\.weight in it has .*other lengths"):
        tk.load_codebook(path)
    stored = tk.load_codebook(path, lengths="stored")
    np.testing.assert_array_equal(stored.points, numbers(model["quantize"].embedding.weight))
    told: list[str] = []
    found = tk.load_codebook(path, lengths="unit", tell=told.append)
    np.testing.assert_allclose(found.points, emitted(model), rtol=1e-6)
    assert told == ["array: quantize.embedding.weight, divided by their lengths"]
    sentence = fail(path)
    for word in ("unit", "stored"):  # the advice, followed
        assert f" {word}:{path} if" in sentence
        assert "quantize.embedding.weight" in succeed(f"{word}:{path}").stdout


@pytest.mark.parametrize("way", SAID)
def test_vectors_of_length_one(way: str, model: Any, tmp_path: Path) -> None:
    model["quantize"].embedding.weight.data = model["quantize"](torch.arange(6)).detach()
    write, said = SAID[way]
    found = tk.load_codebook(write(model, tmp_path, **said))
    np.testing.assert_allclose(found.points, emitted(model), rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        '{"use_l2_norm": false}',
        '{"qk_l2_norm": true, "l2_norm_eps": true}',
        '{"norm_type": "group", "model_type": "janus_vision_model", "use_cosine_sim": true}',
        "use_l2_norm: False  # was: true",
        "",
        '{"use_l2_norm"',
    ],
)
def test_configurations_that_say_nothing(text: str, model: Any, tmp_path: Path) -> None:
    told: list[str] = []
    found = tk.load_codebook(save(model, tmp_path, config_json=text), tell=told.append)
    np.testing.assert_array_equal(found.points, numbers(model["quantize"].embedding.weight))
    assert told == ["array: quantize.embedding.weight"]


def test_a_configuration_that_is_no_text(model: Any, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "config.json").mkdir()
    assert tk.load_codebook(save(model, tmp_path)).K == 6


def test_an_array_of_quantizers_that_normalise(model: Any, tmp_path: Path) -> None:
    model["quantize"].register_buffer("codebook_used", torch.zeros(9))
    path = save(model, tmp_path)
    with pytest.raises(ValueError, match=r"it holds quantize\.codebook_used, as of LlamaGen"):
        tk.load_codebook(path)
    found = tk.load_codebook(path, lengths="unit")
    np.testing.assert_allclose(found.points, emitted(model), rtol=1e-6)


def test_a_norm_beside_a_table_is_told(model: Any, tmp_path: Path) -> None:
    model["quantize"].post_norm = torch.nn.LayerNorm(3)
    model["quantize"].quant_conv = torch.nn.Linear(3, 3)
    model["decoder_norm"] = torch.nn.LayerNorm(5)
    told: list[str] = []
    tk.load_codebook(save(model, tmp_path), tell=told.append)
    assert "without quantize.post_norm." in told[0]
    assert "decoder_norm" not in told[0]
    assert "quant_conv" not in told[0]


def test_embeddings_are_no_quantizer(tmp_path: Path) -> None:
    """What a model with both says of lengths is of its quantizer."""
    model = torch.nn.ModuleDict({"embed_tokens": torch.nn.Embedding(5, 3)})
    path = save(model, tmp_path, config_json='{"vq_config": {"use_l2_norm": true}}')
    table = numbers(model["embed_tokens"].weight)
    np.testing.assert_array_equal(tk.load_codebook(path).points, table)
    unit = tk.load_codebook(path, lengths="unit").points
    np.testing.assert_allclose(unit * np.linalg.norm(table, axis=1)[:, None], table, rtol=1e-12)


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("way", ["as it begins", "trained"])
def test_cosine_similarity_of_vector_quantize_pytorch(
    way: str, stages: int, tmp_path: Path
) -> None:
    """Its table has the vectors that come out."""
    library = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    options = {"dim": 4, "codebook_size": 8, "use_cosine_sim": True}
    if stages > 1:
        module = library.ResidualVQ(**options, num_quantizers=stages)
        ids = torch.tensor(np.stack(np.unravel_index(np.arange(8**stages), (8,) * stages), -1))
    else:
        module, ids = library.VectorQuantize(**options), torch.arange(8)
    if way == "trained":
        for _ in range(3):
            module(torch.randn(1, 64, 4))
    (tmp_path / "config.json").write_text(json.dumps(options))
    state = {name: tensor.contiguous().clone() for name, tensor in module.state_dict().items()}
    safetensors.save_file(state, tmp_path / "model.safetensors")
    expected = numbers(module.eval().get_output_from_indices(ids[None])[0])
    np.testing.assert_allclose(tk.load_codebook(tmp_path).points, expected, atol=1e-6)


def test_stages_are_divided_one_by_one_and_before_their_projections(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tables, maps = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 5, 3))
    unit = tables / np.linalg.norm(tables, axis=-1, keepdims=True)
    np.save(tmp_path / "rvq.npy", tables)
    found = tk.load_codebook(tmp_path / "rvq.npy", structure="rvq", lengths="unit")
    np.testing.assert_allclose(found.points, (unit[0][:, None] + unit[1]).reshape(16, 3))
    names = "quantizer.quantizers.{}.{}.weight"
    arrays: Any = {names.format(i, "codebook"): tables[i] for i in range(2)}
    arrays |= {names.format(i, "out_proj"): maps[i][..., None] for i in range(2)}
    np.savez(tmp_path / "dac.npz", **arrays)
    found = tk.load_codebook(tmp_path / "dac.npz", lengths="unit")
    first, second = (unit[i] @ maps[i].T for i in range(2))
    np.testing.assert_allclose(found.points, (first[:, None] + second).reshape(16, 5))


def test_tables_that_are_turned_upright_and_numbers_of_all_sizes(tmp_path: Path) -> None:
    table = np.array([[3e200, 4e200], [0.0, 0.0], [-5e-200, 0.0]])
    np.savez(tmp_path / "vq.npz", embed=table.T, cluster_size=np.ones(3))
    found = tk.load_codebook(tmp_path / "vq.npz", lengths="unit")
    np.testing.assert_allclose(found.points, [[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0]], rtol=1e-15)


def test_where_nothing_can_be_divided(tmp_path: Path) -> None:
    grid: Any = {"values_per_latent.0": np.array([0.0, 1.0])}
    np.savez(tmp_path / "grid.npz", **grid)
    with pytest.raises(ValueError, match=r"no table whose vectors could be divided by"):
        tk.load_codebook(tmp_path / "grid.npz", lengths="unit")
    tk.save_codebook(tk.PointCodebook([[2.0], [1.0]]), tmp_path / "own.npz")
    with pytest.raises(ValueError, match=r"what save_codebook wrote, read as it was; tk\.spher"):
        tk.load_codebook(tmp_path / "own.npz", lengths="unit")
    with pytest.raises(ValueError, match=r"^lengths must be .*unit.*stored.*; got cm\.$"):
        tk.load_codebook(tmp_path / "own.npz", lengths="cm")  # type: ignore[arg-type]


def test_the_advice_keeps_the_words_and_the_name(tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    rng = np.random.default_rng(0)
    np.savez(path, a=rng.normal(size=(2, 4, 3)), b=rng.normal(size=(4, 3)))
    assert f"say unit:rvq:{path}:a if" in fail(f"unit:{path}:a")
    assert "tokens K         16" in succeed(f"unit:rvq:{path}:a").stdout


def test_a_quantizer_of_transformers_that_normalises(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.JanusVQVAEConfig(
        embed_dim=3, num_embeddings=6, latent_channels=8, base_channels=32, num_patches=1,
        channel_multiplier=[1], num_res_blocks=1, double_latent=False, projection_dim=8,
    )  # fmt: skip
    model = transformers.JanusVQVAE(config).eval()
    model.quantize.embedding.weight.data.normal_()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model_type is janus_vqgan in config\.json beside it"):
        tk.load_codebook(tmp_path)
    entries = [model.quantize.get_codebook_entry(torch.tensor([[i]])) for i in range(6)]
    found = tk.load_codebook(tmp_path, lengths="unit").points
    np.testing.assert_allclose(found, numbers(torch.stack(entries)).reshape(6, 3), rtol=1e-5)
