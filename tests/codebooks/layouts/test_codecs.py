"""Neural codecs: what transformers saves, and the layouts of the original programs by their names.

The expected vectors are those that the model decodes, or the arrays put together by hand.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import tokenkl as tk

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


# ---- Names and shapes of the original programs -------------------------------------------------


def stages(owner: str, table: str, count: int = 3) -> dict[str, np.ndarray]:
    """A list of tables with what training leaves beside them."""
    home = table.rpartition(".")[0]
    arrays = {}
    for place in reversed(range(count)):
        arrays[f"{owner}.{place}.{table}"] = normal(16, 8)
        arrays[f"{owner}.{place}.{home}.embed_avg"] = normal(16, 8)
        arrays[f"{owner}.{place}.{home}.cluster_size"] = np.ones(16, np.float32)
        arrays[f"{owner}.{place}.{home}.inited"] = np.ones(1, np.float32)
    return arrays


@pytest.mark.parametrize(
    ("owner", "table"),
    [
        ("quantizer.vq.layers", "_codebook.embed"),  # EnCodec, AudioCraft, SpeechTokenizer
        ("quantizer.layers", "codebook.embed"),  # EnCodec in transformers
        ("quantizer.quantizers", "codebook.embed"),  # X-codec in transformers
        ("layers", "_codebook.embed"),
    ],
)
def test_stages_that_add_up(owner: str, table: str, tmp_path: Path) -> None:
    arrays = stages(owner, table, 12)
    others = {"transform.weight": normal(20, 8), "encoder.conv.weight": normal(4, 4, 3)}
    told: list[str] = []
    found = tk.load_codebook(write(tmp_path / "a.safetensors", arrays | others), tell=told.append)
    assert isinstance(found, tk.ResidualCodebook)
    for place, stage in enumerate(found.stages):
        np.testing.assert_array_equal(stage, arrays[f"{owner}.{place}.{table}"])
    assert told == [f"residual quantizer: {owner}.0.{table} to {owner}.11.{table} (12)"]


def test_a_codec_of_one_stage_is_a_table(tmp_path: Path) -> None:
    """WavTokenizer."""
    arrays = stages("feature_extractor.encodec.quantizer.vq.layers", "_codebook.embed", 1)
    path = write(tmp_path / "a.safetensors", arrays | {"backbone.embed.weight": normal(8, 8, 3)})
    assert isinstance(tk.load_codebook(path), tk.PointCodebook)
    assert isinstance(tk.codebook(f"vq:{path}"), tk.PointCodebook)
    assert isinstance(tk.codebook(f"rvq:{path}"), tk.ResidualCodebook)


def test_a_table_of_a_tokenizer_of_speech(tmp_path: Path) -> None:
    """S3Tokenizer, of CosyVoice."""
    table = normal(16, 8)
    arrays = {"quantizer._codebook.embed": table, "encoder.conv1.weight": normal(8, 4, 3)}
    np.testing.assert_array_equal(
        tk.load_codebook(write(tmp_path / "a.safetensors", arrays)).points, table
    )


@pytest.mark.parametrize("home", ["quantizer._codebook", "quantizer.fsq_codebook"])
def test_a_grid_of_a_tokenizer_of_speech(home: str, tmp_path: Path) -> None:
    """S3Tokenizer 2: the id is sum_j 3^j (round(tanh h_j) + 1), j = 0 .. 7."""
    arrays = {f"{home}.project_down.weight": normal(8, 20), f"{home}.project_down.bias": normal(8)}
    found = tk.load_codebook(write(tmp_path / "a.safetensors", arrays))
    ids = RNG.integers(3**8, size=50)
    digits = ids[:, None] // 3 ** np.arange(8) % 3
    np.testing.assert_array_equal(found.points_at(ids), digits - 1)
    arrays[f"{home}.project_down.weight"] = normal(7, 20)
    with pytest.raises(ValueError, match=r"project_down.weight in it has shape \(7, 20\)"):
        tk.load_codebook(write(tmp_path / "a.safetensors", arrays))


def normalised(weight: np.ndarray, form: str) -> dict[str, np.ndarray]:
    """A convolution of width one as its length and direction, in any of the two forms."""
    length = np.linalg.norm(weight, axis=1)
    direction = weight * np.linspace(1, 3, len(weight))[:, None]
    names = {
        "old": ("weight_g", "weight_v"),
        "new": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    }[form]
    return {names[0]: length[:, None, None], names[1]: direction[:, :, None]}


@pytest.mark.parametrize("form", ["plain", "old", "new"])
def test_stages_behind_projections_of_their_own(form: str, tmp_path: Path) -> None:
    """DAC and SNAC: codes add up behind the projections, and stand side by side before them."""
    arrays: dict[str, np.ndarray] = {}
    expected, tables = [], []
    for place in range(3):
        table, weight, bias = normal(16, 4), normal(10, 4), normal(10)
        weight[place] = 0  # of no direction: 0 whatever its length
        owner = f"quantizer.quantizers.{place}"
        out = {"weight": weight[:, :, None]} if form == "plain" else normalised(weight, form)
        inwards = {"weight": normal(4, 10, 1), "bias": normal(4)}
        arrays |= {f"{owner}.codebook.weight": table, f"{owner}.out_proj.bias": bias}
        arrays |= {f"{owner}.out_proj.{name}": value for name, value in out.items()}
        arrays |= {f"{owner}.in_proj.{name}": value for name, value in inwards.items()}
        tables.append(table)
        expected.append(table @ weight.T + bias)
    path = write(tmp_path / "a.safetensors", arrays)
    found = tk.load_codebook(path)
    assert isinstance(found, tk.ResidualCodebook)
    np.testing.assert_allclose(np.stack(found.stages), expected, rtol=1e-5, atol=1e-6)
    latent = tk.codebook(f"latent:{path}")
    assert isinstance(latent, tk.Product)
    for part, table in zip(latent.parts, tables, strict=True):
        np.testing.assert_array_equal(part.points, table)


@pytest.mark.parametrize(
    ("first", "rest", "sums"),
    [
        (
            "quantizer.semantic_residual_vector_quantizer.layers",
            "quantizer.acoustic_residual_vector_quantizer.layers",
            "codebook.embed_sum",
        ),
        (
            "quantizer.rvq_first.vq.layers",
            "quantizer.rvq_rest.vq.layers",
            "_codebook.embedding_sum",
        ),
    ],
)
def test_branches(first: str, rest: str, sums: str, tmp_path: Path) -> None:
    """Mimi: means out of sums and counts; two branches, each with its projection."""
    home = sums.rpartition(".")[0]
    arrays, expected = {}, []
    for owner, count in ((first, 1), (rest, 3)):
        weight = normal(10, 4)
        branch = owner.removesuffix(".layers").removesuffix(".vq")
        arrays[f"{branch}.output_proj.weight"] = weight[:, :, None]
        arrays[f"{branch}.input_proj.weight"] = normal(4, 10, 1)
        for place in range(count):
            total, usage = normal(16, 4), np.arange(16, dtype=np.float32)  # none for the first
            arrays[f"{owner}.{place}.{sums}"] = total
            arrays[f"{owner}.{place}.{home}.cluster_usage"] = usage
            arrays[f"{owner}.{place}.{home}.initialized"] = np.ones(1, np.float32)
            arrays[f"{owner}.{place}.{home}._embedding"] = normal(16, 4)  # a cache of Moshi's
            expected.append((total / np.maximum(usage, 1e-5)[:, None], weight))
    path = write(tmp_path / "a.safetensors", arrays)
    found = tk.load_codebook(path)
    assert isinstance(found, tk.ResidualCodebook)
    for stage, (table, weight) in zip(found.stages, expected, strict=True):
        np.testing.assert_allclose(stage, table @ weight.T, rtol=1e-4)
    one = tk.load_codebook(path, key=rest.removesuffix(".layers"))
    assert isinstance(one, tk.ResidualCodebook)
    np.testing.assert_allclose(
        np.stack(one.stages), [table for table, _ in expected[1:]], rtol=1e-6
    )
    behind = tk.load_codebook(path, key=rest.removesuffix(".layers"), space="decoded")
    assert behind.n == 10
    with pytest.raises(ValueError, match="is not the codebook, but one of the arrays that it is"):
        tk.load_codebook(path, key=f"{rest}.0.{sums}")
    del arrays[f"{rest}.1.{home}.cluster_usage"]
    with pytest.raises(ValueError, match=r"holds sums, and no .*cluster_usage to divide them by"):
        tk.load_codebook(write(tmp_path / "b.safetensors", arrays))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "name", ["quantizer.codevectors", "quantizer.vars", "vector_quantizer.vars"]
)
def test_groups_of_codevectors(name: str, shared: bool, tmp_path: Path) -> None:
    """wav2vec 2.0 and vq-wav2vec: groups quantize coordinates of their own."""
    vectors = normal(1, 5 if shared else 10, 3)
    home = name.partition(".")[0]
    arrays = {name: vectors, f"{home}.weight_proj.weight": normal(10, 7)}
    arrays["project_q.weight"] = normal(8, 6)
    found = tk.load_codebook(write(tmp_path / "a.safetensors", arrays))
    assert isinstance(found, tk.Product)
    first, second = (vectors[0], vectors[0]) if shared else (vectors[0, :5], vectors[0, 5:])
    expected = np.hstack([np.repeat(first, 5, axis=0), np.tile(second, (5, 1))])
    np.testing.assert_array_equal(found.points, expected)
    if shared:  # five vectors cannot be shared out among two groups
        del arrays[f"{home}.weight_proj.weight"]
        found = tk.load_codebook(write(tmp_path / "b.safetensors", arrays))
        np.testing.assert_array_equal(found.points, expected)
    else:
        del arrays["project_q.weight"]
        with pytest.raises(ValueError, match="nothing says how many; save them as an array"):
            tk.load_codebook(write(tmp_path / "b.safetensors", arrays))


@pytest.mark.parametrize("shared", [False, True])
def test_groups_of_centres(shared: bool, tmp_path: Path) -> None:
    """vq-wav2vec by k-means: (K, groups, d)."""
    centres = normal(5, 1 if shared else 2, 3)
    arrays = {
        "vector_quantizer.embedding": centres,
        "vector_quantizer.projection.0.weight": normal(6, 3, 1),
    }
    found = tk.load_codebook(write(tmp_path / "a.safetensors", arrays))
    expected = np.hstack([np.repeat(centres[:, 0], 5, axis=0), np.tile(centres[:, -1], (5, 1))])
    np.testing.assert_array_equal(found.points, expected)


# ---- What may be meant, and what is not known --------------------------------------------------


def test_two_quantizers(tmp_path: Path) -> None:
    """The advice is right: the name that the message tells reads one of them."""
    arrays = stages("a.layers", "_codebook.embed") | stages("b.layers", "_codebook.embed", 2)
    path = write(tmp_path / "a.safetensors", arrays | {"top._codebook.embed": normal(16, 8)})
    with pytest.raises(ValueError, match=r"holds 3 codebooks: a.layers \(residual quantizer\), b"):
        tk.load_codebook(path)
    with pytest.raises(ValueError, match=r"choose one as .*a.safetensors:NAME"):
        tk.codebook(str(path))
    for key, size in (("a.layers", 16**3), ("b", 16**2), ("top", 16), ("a.layers.1", 16)):
        assert size == tk.load_codebook(path, key=key).K
        assert size == tk.codebook(f"{path}:{key}").K
    with pytest.raises(ValueError, match="no array or module in it is named 'c'"):
        tk.load_codebook(path, key="c")


def test_a_list_that_nobody_knows_is_what_the_user_says(tmp_path: Path) -> None:
    arrays = {f"codebooks.{i}._codebook.embed": normal(1, 4, 2) for i in range(3)}
    path = write(tmp_path / "a.safetensors", arrays)
    with pytest.raises(ValueError, match=r"a list of 3 tables; say structure='rvq' if their"):
        tk.load_codebook(path)
    with pytest.raises(ValueError, match=r"say rvq:.*a.safetensors if .*, product:.* if each"):
        tk.codebook(str(path))
    assert tk.codebook(f"rvq:{path}").n == 2
    assert tk.codebook(f"product:{path}").n == 6


def damaged(change: Callable[[dict[str, np.ndarray]], Any]) -> dict[str, np.ndarray]:
    arrays = stages("layers", "_codebook.embed")
    change(arrays)
    return arrays


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda a: a.pop("layers.1._codebook.embed"),
            "layers.1 in it has no table",
        ),
        (
            lambda a: a.update({"layers.1._codebook.embed": normal(2, 16, 2)}),
            "has 2 heads; a stage has one",
        ),
        (lambda a: a.update({"layers.1._codebook.embed": normal(4)}), r"has shape \(4,\)"),
        (
            lambda a: a.update({"layers.1.out_proj.weight": normal(4, 3)}),
            "for vectors of 3 numbers",
        ),
        (
            lambda a: a.update({"layers.1.out_proj.weight": normal(4, 8, 3)}),
            "is no linear map of one",
        ),
        (
            lambda a: a.update({"layers.1.mlp.weight": normal(4, 8)}),
            "layers.1.mlp.weight stands in",
        ),
        (
            lambda a: a.update({"layers.2._codebook.cluster_size": np.ones(15, np.float32)}),
            "has 16 vectors, and its cluster_size is for 15",
        ),
        (
            lambda a: a.update({"layers.2._codebook.embed": np.zeros((16, 8), np.float32)}),
            "layers.2._codebook.embed in it is 0 everywhere",
        ),
        (
            lambda a: a.update({"layers.0._codebook.embed": np.full((16, 8), np.nan, np.float32)}),
            "layers.0._codebook.embed must be finite everywhere",
        ),
    ],
)
def test_stages_that_are_none(change: Any, sentence: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", damaged(change))
    with pytest.raises(ValueError, match=sentence):
        tk.load_codebook(path)


# ---- What transformers saves -------------------------------------------------------------------


@pytest.fixture
def transformers() -> Any:
    library = pytest.importorskip("transformers")
    library.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def filled(model: Any) -> Any:
    """A model with tables that are not 0, as after training."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    for name, tensor in model.state_dict().items():
        if name.endswith(("codebook.embed", "embed_sum", "codevectors")):
            tensor.copy_(torch.randn(tensor.shape))
        elif name.endswith("cluster_usage"):
            tensor.copy_(5 + 20 * torch.rand(tensor.shape))
    return model.eval()


def codec(transformers: Any, name: str) -> Any:
    configs: dict[str, dict[str, Any]] = {
        "Encodec": {
            "num_filters": 4, "hidden_size": 8, "codebook_size": 16, "codebook_dim": 8,
            "upsampling_ratios": [2, 2], "num_lstm_layers": 1, "target_bandwidths": [80.0],
        },
        "Dac": {
            "encoder_hidden_size": 8, "downsampling_ratios": [2, 2], "decoder_hidden_size": 16,
            "n_codebooks": 3, "codebook_size": 16, "codebook_dim": 4,
        },
        "Mimi": {
            "hidden_size": 16, "num_filters": 4, "upsampling_ratios": [2, 2], "codebook_size": 16,
            "codebook_dim": 8, "vector_quantization_hidden_dimension": 8, "num_quantizers": 4,
            "num_hidden_layers": 1, "intermediate_size": 16, "num_attention_heads": 2,
            "num_key_value_heads": 2, "head_dim": 8, "upsample_groups": 16,
        },
    }  # fmt: skip
    config = getattr(transformers, f"{name}Config")(**configs[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return filled(getattr(transformers, f"{name}Model")(config))


def decoded(name: str, model: Any, codes: Any) -> Any:
    """Sums of codes (stages, N) as the model's quantizer makes them, (N, n)."""
    if name == "Encodec":
        return model.quantizer.decode(codes[:, None])[0].T
    if name == "Dac":
        return model.quantizer.from_codes(codes[None])[0][0].T
    return model.quantizer.decode(codes[None])[0].T


@pytest.mark.parametrize("name", ["Encodec", "Dac", "Mimi"])
def test_codecs_of_transformers(name: str, transformers: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = codec(transformers, name)
    model.save_pretrained(tmp_path)
    for found in (tk.load_codebook(tmp_path), tk.from_module(model)):
        assert isinstance(found, tk.ResidualCodebook)
        digits = RNG.integers(16, size=(7, len(found.shape)))
        expected = decoded(name, model, torch.tensor(digits.T)).detach().double().numpy()
        np.testing.assert_allclose(found.points_of(digits), expected, atol=1e-5)


def test_stages_of_xcodec(transformers: Any, tmp_path: Path) -> None:
    """Its quantizer, as a module and as the file that its weights make."""
    torch = pytest.importorskip("torch")
    from transformers.models.xcodec import modeling_xcodec

    config = transformers.XcodecConfig(codebook_size=16, codebook_dim=8)
    module = filled(modeling_xcodec.XcodecResidualVectorQuantization(config))
    arrays = {f"quantizer.{name}": t.numpy() for name, t in module.state_dict().items()}
    for found in (
        tk.load_codebook(write(tmp_path / "a.safetensors", arrays)),
        tk.from_module(module),
    ):
        assert isinstance(found, tk.ResidualCodebook)
        digits = RNG.integers(16, size=(7, len(found.shape)))
        expected = module.decode(torch.tensor(digits.T)[:, None])[0].T.numpy()
        np.testing.assert_allclose(found.points_of(digits), expected, atol=1e-5)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("inner", ["embedding.weight", "_codebook.embed"])
def test_a_convolution_behind_the_quantizer_of_an_image_model(
    inner: str, width: int, tmp_path: Path
) -> None:
    """As VQGAN, diffusers' VQModel and LlamaGen save them: `post_quant_conv` stands beside it."""
    torch = pytest.importorskip("torch")
    table = RNG.normal(size=(5, 4))
    conv = torch.nn.Conv2d(4, 6, width, padding="same").double()
    arrays = {f"post_quant_conv.{name}": value.numpy() for name, value in conv.state_dict().items()}
    arrays |= {f"quantize.{inner}": table, "encoder.conv_in.weight": np.ones((3, 3, 3, 3))}
    np.savez(tmp_path / "vq.npz", **arrays)
    told: list[str] = []
    found = tk.load_codebook(tmp_path / "vq.npz", tell=told.append)
    np.testing.assert_array_equal(found.points, table)
    assert "before post_quant_conv" in told[0]
    if width > 1:
        with pytest.raises(ValueError, match="post_quant_conv in it is no linear map of one"):
            tk.load_codebook(tmp_path / "vq.npz", space="decoded")
        return
    found = tk.load_codebook(tmp_path / "vq.npz", key="quantize", space="decoded")
    expected = conv(torch.tensor(table)[:, :, None, None])[:, :, 0, 0]
    np.testing.assert_allclose(found.points, expected.detach().numpy(), rtol=1e-12)


def test_a_checkpoint_with_weights_that_are_normalised(tmp_path: Path) -> None:
    """As descript-audio-codec saves itself: a state and what made it, by `weight_norm`."""
    torch: Any = pytest.importorskip("torch")
    torch.manual_seed(0)

    class Stage(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            normalise = torch.nn.utils.parametrizations.weight_norm
            self.in_proj = normalise(torch.nn.Conv1d(10, 4, 1))
            self.out_proj = normalise(torch.nn.Conv1d(4, 10, 1))
            self.codebook = torch.nn.Embedding(16, 4)

        def forward(self, ids: Any) -> Any:
            return self.out_proj(self.codebook(ids).T[None])[0].T

    stages = torch.nn.ModuleList([Stage() for _ in range(3)])
    module = torch.nn.ModuleDict({"quantizer": torch.nn.ModuleDict({"quantizers": stages})})
    with torch.no_grad():
        for stage in stages:  # so that length and direction are not what they were made from
            stage.out_proj.parametrizations.weight.original0.mul_(1.7)
    content = {"state_dict": module.state_dict(), "metadata": {"kwargs": {"n_codebooks": 3}}}
    torch.save(content, tmp_path / "weights.pth")
    digits = RNG.integers(16, size=(7, 3))
    expected = sum(stage(torch.tensor(digits[:, i])) for i, stage in enumerate(stages))
    for found in (tk.load_codebook(tmp_path / "weights.pth"), tk.from_module(module)):
        assert isinstance(found, tk.ResidualCodebook)
        np.testing.assert_allclose(found.points_of(digits), expected.detach().numpy(), atol=1e-6)


def test_stages_of_snac(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("snac.vq")
    torch.manual_seed(0)
    module = library.ResidualVectorQuantize(10, 16, 4, [1, 1, 1]).eval()
    torch.save({f"quantizer.{n}": t for n, t in module.state_dict().items()}, tmp_path / "a.bin")
    digits = RNG.integers(16, size=(7, 3))
    expected = module.from_codes([torch.tensor(column)[None] for column in digits.T])[0].T
    for found in (tk.load_codebook(tmp_path / "a.bin"), tk.from_module(module)):
        assert isinstance(found, tk.ResidualCodebook)
        np.testing.assert_allclose(found.points_of(digits), expected.detach().numpy(), atol=1e-6)


def test_groups_of_transformers(transformers: Any, tmp_path: Path) -> None:
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8,), conv_stride=(5,), conv_kernel=(10,), num_feat_extract_layers=1,
        num_codevectors_per_group=5, num_codevector_groups=2, codevector_dim=6,
        proj_codevector_dim=8,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    model = filled(transformers.Wav2Vec2ForPreTraining(config))
    model.save_pretrained(tmp_path)
    vectors = model.quantizer.codevectors.detach().double().numpy()[0]
    expected = np.hstack([np.repeat(vectors[:5], 5, axis=0), np.tile(vectors[5:], (5, 1))])
    for found in (tk.load_codebook(tmp_path), tk.from_module(model)):
        assert isinstance(found, tk.Product)
        np.testing.assert_array_equal(found.points, expected)


def test_a_model_that_was_never_trained(transformers: Any, tmp_path: Path) -> None:
    model = codec(transformers, "Encodec")
    for layer in model.quantizer.layers:
        layer.codebook.embed.zero_()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is 0 everywhere: a codebook that was never initialised"):
        tk.load_codebook(tmp_path)


def test_a_module_says_how_many_groups_it_has() -> None:
    """Where neither scores nor a projection do, as in Wav2Vec2 without its heads."""
    torch = pytest.importorskip("torch")
    table = torch.tensor(RNG.normal(size=(1, 6, 3)))
    quantizer = torch.nn.Module()
    quantizer.codevectors = torch.nn.Parameter(table)
    whole = torch.nn.ModuleDict({"quantizer": quantizer})
    with pytest.raises(ValueError, match="several groups, and nothing says how many"):
        tk.from_module(whole)
    for count in (2, 3):
        quantizer.num_groups = count
        found = tk.from_module(whole)
        assert [part.K for part in found.parts] == [6 // count] * count
        joined = np.concatenate([part.points for part in found.parts])
        np.testing.assert_array_equal(joined, table[0].numpy())


def test_a_projection_of_other_vectors(tmp_path: Path) -> None:
    arrays = {"vq._codebook.embed": RNG.normal(size=(6, 4)), "vq.project_out.weight": np.eye(3)}
    save_file(arrays, tmp_path / "a.safetensors")
    assert tk.load_codebook(tmp_path / "a.safetensors").n == 4
    with pytest.raises(
        ValueError, match=r"projection in it is for vectors of 3 .* its codes have 4"
    ):
        tk.load_codebook(tmp_path / "a.safetensors", space="decoded")
