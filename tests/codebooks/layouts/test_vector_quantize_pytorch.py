"""What vector-quantize-pytorch saves, and its modules, against the vectors it gives for ids."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import tokenkl as tk

torch = pytest.importorskip("torch")
library = pytest.importorskip("vector_quantize_pytorch")
safetensors = pytest.importorskip("safetensors.torch")


def save(module: Any, path: Path) -> Path:
    state = {name: tensor.contiguous().clone() for name, tensor in module.state_dict().items()}
    safetensors.save_file(state, path / "model.safetensors")
    return path / "model.safetensors"


def numbers(tensor: Any) -> np.ndarray:
    return tensor.detach().double().numpy()


def every(*sizes: int) -> Any:
    """All tuples of indices, the last fastest."""
    return torch.tensor(np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), -1))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_a_table(tmp_path: Path) -> None:
    module = library.VectorQuantize(dim=4, codebook_size=6).eval()
    found = tk.load_codebook(save(module, tmp_path))
    assert isinstance(found, tk.PointCodebook)
    np.testing.assert_allclose(found.points, numbers(module.codebook))


def test_a_table_behind_a_projection(tmp_path: Path) -> None:
    module = library.VectorQuantize(dim=7, codebook_size=6, codebook_dim=3).eval()
    path = save(module, tmp_path)
    told: list[str] = []
    np.testing.assert_allclose(tk.load_codebook(path).points, numbers(module.codebook))
    found = tk.load_codebook(path, space="decoded", tell=told.append)
    expected = numbers(module.get_output_from_indices(torch.arange(6)[None])[0])
    np.testing.assert_allclose(found.points, expected, atol=1e-6)
    assert told == [
        "vector quantizer: _codebook.embed, project_out.weight, project_out.bias, decoded, behind "
        "the projection"
    ]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("space", ["latent", "decoded"])
def test_heads(own: bool, space: Any, tmp_path: Path) -> None:
    """Each head has coordinates of its own; behind the projection their parts add up."""
    module = library.VectorQuantize(
        dim=5, codebook_size=4, codebook_dim=3, heads=2, separate_codebook_per_head=own
    ).eval()
    tables = numbers(module._codebook.embed)
    pairs = every(4, 4)
    expected = np.hstack([tables[0][pairs[:, 0]], tables[-1][pairs[:, 1]]])
    if space == "decoded":
        expected = numbers(module.project_out(torch.tensor(expected).float()))
    path = save(module, tmp_path)
    for found in (tk.load_codebook(path, space=space), tk.from_module(module, space=space)):
        assert isinstance(found, tk.Product if space == "latent" else tk.ResidualCodebook)
        np.testing.assert_allclose(found.points, expected, atol=1e-6)


def test_a_module_says_how_many_heads_share_its_table() -> None:
    module = library.VectorQuantize(dim=6, codebook_size=4, codebook_dim=3, heads=2).eval()
    found = tk.from_module(module)
    assert (found.K, found.n) == (16, 6)


def residual(**more: Any) -> Any:
    return library.ResidualVQ(dim=4, codebook_size=5, num_quantizers=3, **more).eval()


RESIDUAL: dict[str, Callable[[], Any]] = {
    "plain": residual,
    "projected": lambda: residual(codebook_dim=2),
    "sizes": lambda: library.ResidualVQ(dim=4, codebook_size=(7, 5, 3), num_quantizers=3).eval(),
    "cosine": lambda: residual(use_cosine_sim=True),
}


@pytest.mark.parametrize("kind", RESIDUAL)
def test_stages(kind: str, tmp_path: Path) -> None:
    module = RESIDUAL[kind]()
    sizes = module.codebook_sizes
    expected = numbers(module.get_output_from_indices(every(*sizes)[None])[0])
    path = save(module, tmp_path)
    for found in (tk.load_codebook(path, space="decoded"), tk.from_module(module, space="decoded")):
        assert isinstance(found, tk.ResidualCodebook)
        assert found.shape == sizes
        np.testing.assert_allclose(found.points, expected, atol=1e-6)
    assert tk.load_codebook(path, structure="rvq").n == (2 if kind == "projected" else 4)
    with pytest.raises(
        ValueError, match=r"was to hold one table of points, and it holds <Residual"
    ):
        tk.load_codebook(path, structure="vq")


def test_a_table_that_stages_share_is_stored_once(tmp_path: Path) -> None:
    module = residual(shared_codebook=True)
    path = tmp_path / "shared.safetensors"
    safetensors.save_model(module, str(path))
    expected = numbers(module.get_output_from_indices(every(5, 5, 5)[None])[0])
    for found in (tk.load_codebook(path), tk.from_module(module)):
        assert found.K == 125
        np.testing.assert_allclose(found.points, expected, atol=1e-6)


@pytest.mark.parametrize("space", ["latent", "decoded"])
def test_groups(space: Any, tmp_path: Path) -> None:
    module = library.GroupedResidualVQ(
        dim=6, codebook_size=3, num_quantizers=2, groups=2, codebook_dim=2
    ).eval()
    digits = every(3, 3, 3, 3)
    indices = torch.stack([digits[None, :, :2], digits[None, :, 2:]])
    expected = numbers(module.get_output_from_indices(indices)[0])
    path = save(module, tmp_path)
    for found in (tk.load_codebook(path, space=space), tk.from_module(module, space=space)):
        assert isinstance(found, tk.Product)
        if space == "decoded":
            np.testing.assert_allclose(found.points, expected, atol=1e-6)
        else:
            codes = module.get_codes_from_indices(indices).sum(1)[:, 0]
            np.testing.assert_allclose(found.points, np.hstack(list(numbers(codes))), atol=1e-6)
    one = tk.load_codebook(path, key="rvqs.1.layers")
    assert isinstance(one, tk.ResidualCodebook)
    assert one.K == 9
    assert tk.load_codebook(path, key="rvqs.1").K == 9


@pytest.mark.parametrize("bias", [False, True])
def test_the_table_of_simvq_is_computed(bias: bool, tmp_path: Path) -> None:
    transform = torch.nn.Linear(3, 4) if bias else None
    module = library.SimVQ(
        dim=4, codebook_size=6, frozen_codebook_dim=3, codebook_transform=transform
    )
    path = save(module, tmp_path)
    for found in (tk.load_codebook(path), tk.from_module(module)):
        np.testing.assert_allclose(found.points, numbers(module.codebook), atol=1e-6)
    with pytest.raises(ValueError, match="frozen_codebook in it is not the codebook, but one of"):
        tk.load_codebook(path, key="frozen_codebook")
    stages = library.ResidualSimVQ(dim=4, codebook_size=6, num_quantizers=2)
    expected = numbers(stages.get_output_from_indices(every(6, 6)[None])[0])
    found = tk.load_codebook(save(stages, tmp_path))
    np.testing.assert_allclose(found.points, expected, atol=1e-6)


def neural() -> Any:
    return residual(implicit_neural_codebook=True)


def affine() -> Any:
    return library.VectorQuantize(
        dim=4, codebook_size=6, affine_param=True, learnable_codebook=True, ema_update=False
    )


def bridged() -> Any:
    return library.VectorQuantize(dim=4, codebook_size=6, vq_bridge=torch.nn.Linear(4, 4))


def deep() -> Any:
    inner = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    return library.SimVQ(dim=4, codebook_size=6, codebook_transform=inner)


def fresh() -> Any:
    return library.VectorQuantize(dim=4, codebook_size=6, kmeans_init=True)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (neural, "through mlps: a neural codebook is no sum of tables"),
        (affine, r"are changed by _codebook\.codebook_mean"),
        (bridged, r"are changed by _codebook\.vq_bridge\."),
        (deep, r"go through code_transform, which is not a linear map"),
        (fresh, r"_codebook\.embed in it is 0 everywhere: a codebook that was never initialised"),
    ],
)
def test_vectors_that_are_no_table_are_refused(
    make: Callable[[], Any], sentence: str, tmp_path: Path
) -> None:
    module = make()
    with pytest.raises(ValueError, match=sentence):
        tk.load_codebook(save(module, tmp_path))
    with pytest.raises(ValueError, match=sentence):
        tk.from_module(module)


def test_learned_levels(tmp_path: Path) -> None:
    module = library.LatentQuantize(levels=[3, 4, 5], dim=6).eval()
    digits = every(5, 4, 3).flip(-1)  # the first coordinate is the fastest in its ids
    for values in module.values_per_latent:
        values.data += 0.1 * torch.rand(values.shape)
    expected = np.stack(
        [numbers(v)[digits[:, i]] for i, v in enumerate(module.values_per_latent)], -1
    )
    path = save(module, tmp_path)
    for found in (tk.load_codebook(path), tk.from_module(module)):
        assert isinstance(found, tk.ProductCodebook)
        np.testing.assert_allclose(found.points, expected, atol=1e-6)
    decoded = numbers(module.project_out(torch.tensor(expected).float()))
    found = tk.load_codebook(path, space="decoded")
    np.testing.assert_allclose(found.points, decoded, atol=1e-6)
    two = library.LatentQuantize(levels=[3, 4], dim=6, num_codebooks=2)
    assert tk.load_codebook(save(two, tmp_path)).K == 144
    assert tk.from_module(two).n == 4


# ---- Quantizers without tables -----------------------------------------------------------------

SCALAR: dict[str, Callable[[], Any]] = {
    "FSQ": lambda: library.FSQ(levels=[8, 5, 4]),
    "FSQ, symmetric": lambda: library.FSQ(levels=[8, 2, 4], preserve_symmetry=True),
    "FSQ, projected": lambda: library.FSQ(levels=[4, 3], dim=5),
    "FSQ, rotated": lambda: library.FSQ(levels=[4, 3], orthogonal_rotation=True),
    "FSP": lambda: library.FSP(levels=[8, 5, 4]),
    "FSP, projected": lambda: library.FSP(levels=[3, 4], dim=5),
    "LFQ": lambda: library.LFQ(codebook_size=16, codebook_scale=0.5),
    "LFQ, projected": lambda: library.LFQ(codebook_size=16, dim=6),
    "BSQ": lambda: library.LFQ(codebook_size=32, spherical=True),
    "BSQ, rotated": lambda: library.LFQ(codebook_size=8, spherical=True, orthogonal_rotation=True),
}


@pytest.mark.parametrize("kind", SCALAR)
def test_scalar_quantizers_as_modules(kind: str) -> None:
    """In the order of the library's ids, before and behind projections."""
    module = SCALAR[kind]().eval()
    ids = torch.arange(module.codebook_size)
    expected = numbers(module.indices_to_codes(ids[None])[0])
    found = tk.from_module(module, space="decoded")
    order = np.arange(found.K)
    np.testing.assert_allclose(found.points_at(order), expected, atol=1e-6)
    if "rotated" not in kind:
        assert tk.from_module(module).as_grid is not None


def test_several_codebooks_of_a_scalar_quantizer() -> None:
    module = library.FSQ(levels=[3, 4], num_codebooks=2).eval()
    found = tk.from_module(module)
    digits = every(12, 12)
    expected = numbers(module.indices_to_codes(digits[None])[0])
    np.testing.assert_allclose(found.points, expected, atol=1e-6)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", ["FSQ", "LFQ"])
def test_residual_scalar_quantizers_as_modules(name: str, grouped: bool) -> None:
    size = {"FSQ": 12, "LFQ": 8}[name]
    how: dict[str, Any] = {"groups": 2} if grouped else {}
    how |= {"levels": [4, 3]} if name == "FSQ" else {"codebook_size": size}
    kind = getattr(library, f"{'Grouped' if grouped else ''}Residual{name}")
    module = kind(dim=10, num_quantizers=2, **how).eval()
    digits = every(*[size] * (4 if grouped else 2))
    indices = torch.stack([digits[None, :, :2], digits[None, :, 2:]]) if grouped else digits[None]
    expected = numbers(module.get_output_from_indices(indices)[0])
    found = tk.from_module(module, space="decoded", allow_duplicates=True)
    assert size ** (4 if grouped else 2) == found.K
    np.testing.assert_allclose(found.points, expected, atol=1e-6)
    assert tk.from_module(module).n == (2 if name == "FSQ" else 3) * (2 if grouped else 1)


@pytest.mark.parametrize("kind", ["FSQ, projected", "LFQ, projected", "FSQ, rotated", "LFQ", "FSQ"])
def test_their_files_do_not_say_what_they_are(kind: str, tmp_path: Path) -> None:
    """A projection is not offered as a codebook."""
    with pytest.raises(ValueError) as caught:
        tk.load_codebook(save(SCALAR[kind](), tmp_path))
    assert "fsq:" in str(caught.value)
    assert "key=NAME" not in str(caught.value)


@pytest.mark.parametrize("levels", [(8, 5, 4), (3, 3)])
def test_the_grid_of_finite_scalar_perturbation(levels: Sequence[int]) -> None:
    """Up to the factor by which the library normalises the variance of a uniform number."""
    found = tk.from_module(library.FSP(levels=list(levels)))
    ours = tk.FSQ(levels, grid="midpoint", order="F")
    np.testing.assert_allclose(found.points, ours.points * np.sqrt(3), rtol=1e-12)


def test_what_is_no_module() -> None:
    with pytest.raises(ValueError, match=r"module must be a torch.nn.Module; points go into Point"):
        tk.from_module(np.eye(3))
    with pytest.raises(ValueError, match=r"^module must be .*; got <class .*Embedding'>\.$"):
        tk.from_module(torch.nn.Embedding)  # which is not called
    with pytest.raises(
        ValueError, match=r"Sequential must be a module with a codebook; it holds no"
    ):
        tk.from_module(torch.nn.Sequential())
    with pytest.raises(ValueError, match="structure must be one of 'vq', 'rvq', 'product'; got x"):
        tk.from_module(torch.nn.Embedding(3, 2), structure=cast(Any, "x"))


def test_an_embedding_module() -> None:
    module = torch.nn.Embedding(7, 3).bfloat16()
    np.testing.assert_array_equal(tk.from_module(module).points, numbers(module.weight))


Module: Any = torch.nn.Module


class Remembers(Module):
    """With more than tensors in its state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(3, 2)

    def get_extra_state(self) -> Any:
        return {"steps": 3}


@pytest.mark.parametrize(
    "beside", [torch.nn.LazyLinear(2), torch.nn.Linear(2, 5, device="meta"), Remembers()]
)
def test_what_has_no_numbers_is_no_table(beside: Any) -> None:
    table = torch.nn.Embedding(7, 3)
    both = torch.nn.ModuleDict({"codebook": table, "other": beside})
    np.testing.assert_array_equal(
        tk.from_module(both, key="codebook.weight").points, numbers(table.weight)
    )
    if not isinstance(beside, Remembers):
        np.testing.assert_array_equal(tk.from_module(both).points, numbers(table.weight))
        with pytest.raises(ValueError, match=r"^module must be .* numbers, not .*meta .*; got L"):
            tk.from_module(beside)


@pytest.mark.parametrize("load", [tk.from_module, tk.load_codebook])
def test_a_key_is_a_name(load: Any) -> None:
    with pytest.raises(ValueError, match=r"^key must be the name of an array .*; got 3\.$"):
        load(torch.nn.Embedding(3, 2) if load is tk.from_module else "a.npy", key=3)


class Normalising(Module):
    """As quantizers of images that compare directions, and give vectors of length 1."""

    def __init__(self, switch: str, on: bool, owner: str) -> None:
        super().__init__()
        setattr(self, switch, on)
        self.owner = owner
        self.add_module(owner, torch.nn.Embedding(5, 3))

    @property
    def table(self) -> Any:
        return self.get_submodule(self.owner).weight


@pytest.mark.parametrize("switch", ["l2_norm", "use_l2_norm", "use_norm"])
@pytest.mark.parametrize("owner", ["embedding", "codebook"])
def test_vectors_that_are_normalised_when_they_are_used(switch: str, owner: str) -> None:
    module = Normalising(switch, True, owner)
    whole = torch.nn.ModuleDict({"quantize": module})
    for one, key, named in (
        (module, None, switch),
        (whole, None, f"quantize.{switch}"),
        (whole, f"quantize.{owner}.weight", f"quantize.{switch}"),
    ):
        with pytest.raises(ValueError, match=rf"; {named} is on, and .* say lengths='unit' if"):
            tk.from_module(one, key=key)
        stored, unit = (tk.from_module(one, key=key, lengths=word) for word in ("stored", "unit"))
        np.testing.assert_array_equal(stored.points, numbers(module.table))
        expected = numbers(torch.nn.functional.normalize(module.table, dim=-1))
        np.testing.assert_allclose(unit.points, expected, rtol=1e-6)
    module.table.data /= module.table.norm(dim=-1, keepdim=True)
    np.testing.assert_array_equal(tk.from_module(whole).points, numbers(module.table))
    plain = Normalising(switch, False, owner)
    np.testing.assert_array_equal(tk.from_module(plain).points, numbers(plain.table))


def test_a_module_under_two_names() -> None:
    """What a module says of itself holds under each of its names."""
    grid = library.FSQ(levels=[5, 3], preserve_symmetry=True)
    whole = torch.nn.ModuleDict({"first": grid, "second": grid})
    for key in whole:
        found = tk.from_module(whole, key=key)
        assert isinstance(found, tk.FSQ)
        np.testing.assert_array_equal(found.points, tk.FSQ((5, 3), order="F").points)
