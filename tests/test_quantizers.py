"""`tk.torch.LatticeQuantizer`: exact decoding, gradients, indices, shapes as those of FSQ."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import tokenkl as tk

torch = pytest.importorskip("torch")

#: Arguments of small quantizers whose tokens are listed.
KINDS: dict[str, dict[str, Any]] = {
    "D2": {"levels": (5, 5)},
    "D4, unequal": {"levels": (7, 5, 4, 3)},
    "D3, equal spacing": {"levels": (8, 3, 5), "spacing": "equal"},
    "two levels": {"levels": (2, 2, 2)},
    "D4+, even": {"levels": (4,) * 4, "lattice": "D+"},
    "D5+, odd": {"levels": (3,) * 5, "lattice": "D+"},
    "D8+, two levels": {"levels": (2,) * 8, "lattice": "D+"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def quantizer(kind: str, **options: Any) -> Any:
    return tk.torch.LatticeQuantizer(**{**KINDS[kind], **options})


@every_kind
@pytest.mark.parametrize("spread", [0.3, 1.0, 10.0])
def test_the_nearest_of_all_tokens(kind: str, spread: float) -> None:
    """Inside the box and far outside, by distances to all of them."""
    own = quantizer(kind, bound="none")
    x = spread * torch.randn(4000, own.codebook_dim, dtype=torch.float64)
    points = own.indices_to_codes(torch.arange(own.codebook_size)).double()
    apart = torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist")
    codes, indices = own(x[None])
    assert torch.equal(indices[0].long(), apart.argmin(dim=1))
    assert (codes[0] - points[indices[0].long()]).abs().max() < 1e-6


@every_kind
def test_the_codebook_of_tokenkl(kind: str) -> None:
    """The same points under the same ids, by the module's attribute and read from the module."""
    own = quantizer(kind)
    codes = own.indices_to_codes(torch.arange(own.codebook_size)).numpy()
    for codebook in (own.codebook, tk.from_module(own)):
        assert codebook.K == own.codebook_size == len(codes)
        np.testing.assert_allclose(codes, codebook.points, atol=1e-7)
    x = np.random.default_rng(0).normal(size=(500, own.codebook_dim))
    plain = quantizer(kind, bound="none")
    assert np.array_equal(plain(torch.tensor(x)[None])[1][0].numpy(), own.codebook.nearest(x))


@every_kind
def test_indices_and_back(kind: str) -> None:
    own = quantizer(kind)
    ids = torch.arange(own.codebook_size)
    codes = own.indices_to_codes(ids)
    assert torch.equal(own.codes_to_indices(codes).long(), ids)
    assert own.codes_to_indices(codes).dtype == torch.int32
    assert torch.equal(own.nearest_codes(codes), codes)
    assert torch.unique(codes, dim=0).shape[0] == own.codebook_size


def test_e8_has_as_many_tokens_as_fsq() -> None:
    own = tk.torch.LatticeQuantizer.e8()
    assert own.codebook_size == 6561
    codes = own.indices_to_codes(torch.arange(6561)).numpy()
    np.testing.assert_allclose(codes, tk.e8_codebook().points, atol=1e-6)


@pytest.mark.parametrize("bound", ["tanh", "sigmoid", "clamp", "none"])
def test_straight_through(bound: Any) -> None:
    """Codes have the gradient of the bounded inputs."""
    own = quantizer("D4, unequal", bound=bound)
    z = torch.randn(3, 7, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 7, 4, dtype=torch.float64)
    (found,) = torch.autograd.grad((own(z)[0] * weight).sum(), z)
    slope = {
        "tanh": 1 - z.tanh() ** 2,
        "sigmoid": 3.2 * torch.sigmoid(1.6 * z) * torch.sigmoid(-1.6 * z),
        "clamp": (z.abs() <= 1).double(),
        "none": torch.ones_like(z),
    }[bound]
    torch.testing.assert_close(found, (weight * slope).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bound", ["tanh", "sigmoid", "clamp", "none"])
def test_codes_are_tokens_to_the_bit(bound: Any, dtype: Any) -> None:
    """The straight-through gradient leaves no rounding error, however far out inputs are."""
    own = quantizer("D4, unequal", bound=bound)
    z = (torch.randn(512, 7, 4) * 10 ** torch.linspace(-3, 9, 512)[:, None, None]).to(dtype)
    codes, indices = own(z)
    assert torch.equal(codes, own.nearest_codes(codes))
    assert torch.equal(codes, own.indices_to_codes(indices).to(dtype))


SHAPES = [
    ((2, 10, 4), {}),
    ((2, 10, 8), {"num_codebooks": 2}),
    ((2, 4, 5, 6), {}),
    ((2, 8, 5, 6), {"num_codebooks": 2}),
    ((2, 4, 3, 5, 6), {}),
    ((2, 4, 10), {"channel_first": True}),
    ((2, 10, 7), {"dim": 7}),
    ((2, 7, 3, 3), {"dim": 7, "num_codebooks": 2}),
    ((2, 10, 4), {"return_indices": False}),
    ((2, 10, 4), {"keep_num_codebooks_dim": True}),
]


@pytest.mark.parametrize(("shape", "options"), SHAPES)
def test_shapes_are_those_of_fsq(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    theirs = library.FSQ([7, 5, 5, 3], **options)
    ours = tk.torch.LatticeQuantizer((7, 5, 5, 3), **options)
    z = torch.randn(shape)
    (expected, their_ids), (codes, ids) = theirs(z), ours(z)
    assert codes.shape == expected.shape
    for name in ("dim", "codebook_dim", "num_codebooks", "has_projections"):
        assert getattr(ours, name) == getattr(theirs, name), name
    if their_ids is None:
        assert ids is None
        return
    assert ids.shape == their_ids.shape
    assert ids.dtype == their_ids.dtype
    back = ours.indices_to_codes(ids)
    assert back.shape == theirs.indices_to_codes(their_ids).shape == codes.shape
    torch.testing.assert_close(back, codes)


def test_many_tokens_are_not_listed() -> None:
    own = tk.torch.LatticeQuantizer((7,) * 20, bound="none")
    assert own.codebook_size == (7**20 + 1) // 2
    z = torch.randn(2, 50, 20, dtype=torch.float64)
    codes, ids = own(z)
    assert ids.dtype == torch.int64
    torch.testing.assert_close(own.indices_to_codes(ids).double(), codes, atol=1e-6, rtol=0)
    assert np.array_equal(ids.numpy(), own.codebook.nearest(z.numpy()))
    huge = tk.torch.LatticeQuantizer((8,) * 64, lattice="D+", return_indices=False)
    codes, ids = huge(torch.randn(1, 3, 64))
    assert ids is None
    assert codes.shape == (1, 3, 64)
    with pytest.raises(ValueError, match=r"levels must be at most 2\*\*62, or no indices"):
        tk.torch.LatticeQuantizer((8,) * 64, lattice="D+")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precisions(dtype: Any) -> None:
    own = tk.torch.LatticeQuantizer((7, 7, 7, 6))
    codes, ids = own(torch.randn(2, 20, 4).to(dtype))
    assert codes.dtype == dtype
    room = 4 * torch.finfo(dtype).eps + 1e-6
    assert (codes.double() - own.indices_to_codes(ids).double()).abs().max() < room


def test_trains() -> None:
    """An autoencoder with a quantizer in the middle learns, and its state comes back."""
    torch.manual_seed(0)
    own = tk.torch.LatticeQuantizer((5, 5, 5, 4), dim=6)
    model = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Identity(), torch.nn.Linear(6, 3))
    x = torch.randn(64, 1, 3)
    parameters = [*model.parameters(), *own.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    losses = []
    for _ in range(150):
        loss = ((model[2](own(model[0](x))[0]) - x) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in parameters)
    other = tk.torch.LatticeQuantizer((5, 5, 5, 4), dim=6)
    other.load_state_dict(own.state_dict())
    assert torch.equal(other(model[0](x))[0], own(model[0](x))[0])


def test_copies_and_compiled_modules_do_the_same() -> None:
    own = quantizer("D5+, odd")
    z = torch.randn(2, 30, 5)
    codes, ids = own(z)
    compiled = torch.compile(own, backend="eager")
    for other in (copy.deepcopy(own), pickle.loads(pickle.dumps(own)), compiled):
        again = other(z)
        assert torch.equal(again[0], codes)
        assert torch.equal(again[1], ids)


def test_read_from_a_module() -> None:
    told: list[str] = []
    two = tk.from_module(
        torch.nn.ModuleDict({"vq": quantizer("D2", num_codebooks=2)}), tell=told.append
    )
    assert (two.K, two.n) == (13**2, 4)
    assert "2 codebooks" in told[0]
    own = quantizer("D2", dim=3)
    decoded = tk.from_module(own, space="decoded")
    codes = own.indices_to_codes(torch.arange(13)).detach().double().numpy()
    np.testing.assert_allclose(decoded.points, codes, atol=1e-6)
    assert tk.from_module(tk.torch.LatticeQuantizer((7,) * 30, return_indices=False)).K > 2**80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (5,)}, "levels must be two coordinates or more"),
        ({"levels": (5, 4), "lattice": "E"}, "lattice must be one of"),
        ({"levels": (5, 4), "lattice": "D+"}, "levels must be the same in all coordinates"),
        ({"levels": (5, 4), "bound": "relu"}, "bound must be one of"),
        ({"levels": (5, 4), "spacing": "wide"}, "spacing must be one of"),
        ({"levels": (5, 4), "num_codebooks": 0}, "num_codebooks must be a whole number"),
        ({"levels": (5, 4), "dim": 0}, "dim must be a whole number"),
        (
            {"levels": (5, 4), "num_codebooks": 2, "keep_num_codebooks_dim": False},
            "keep_num_codebooks_dim must be True",
        ),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tk.torch.LatticeQuantizer(**arguments)
    with pytest.raises(ValueError, match="z must be with 2 coordinates"):
        tk.torch.LatticeQuantizer((5, 4))(torch.zeros(1, 3, 5))


def test_the_sigmoid_makes_normal_inputs_nearly_uniform() -> None:
    z = torch.special.ndtri((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)
    uniform = 2 * (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000 - 1
    away = {
        bound: float((quantizer("D2", bound=bound).bound(z) - uniform).abs().max())
        for bound in ("tanh", "sigmoid")
    }
    assert away["sigmoid"] < 0.04 < 0.07 < away["tanh"]


# ---- Leech ---------------------------------------------------------------------------------------

every_part = pytest.mark.parametrize("inner", [None, 0, 1, 2])


def _lists(own: Any) -> Any:
    return torch.tensor(own.codebook.points)


@pytest.mark.slow
@every_part
def test_leech_indices_and_back(inner: Any) -> None:
    """All tokens: the codes of `leech_codebook`, in its order, and their ids."""
    own = tk.torch.LeechQuantizer(inner, bound="none")
    ids = torch.arange(own.codebook_size)
    codes = own.indices_to_codes(ids)
    torch.testing.assert_close(codes.double(), _lists(own), atol=1e-7, rtol=0)
    assert torch.equal(own.codes_to_indices(codes).long(), ids)
    some = ids[:: max(1, own.codebook_size // 3000)]
    assert torch.equal(own.nearest_codes(codes[some]), codes[some])


@every_part
@pytest.mark.slow
def test_leech_nearest_of_all_tokens(inner: Any) -> None:
    """Of any length, by inner products with all of them; tokens near which others are, too."""
    own = tk.torch.LeechQuantizer(inner, bound="none")
    points = _lists(own)
    torch.manual_seed(0)
    normal = torch.randn(700, own.codebook_dim, dtype=torch.float64)
    sparse = normal[:100] * (torch.rand(100, own.codebook_dim) < 0.15)
    sparse[:, 0] += 1e-9
    drawn = points[torch.randint(own.codebook_size, (2, 200))].mean(dim=0)
    x = torch.cat([normal, 1e3 * sparse, drawn + 0.05 * normal[:200]])
    found = own.codes_to_indices(own.nearest_codes(x)).long()
    products = x @ points.T
    reached = products.gather(1, found[:, None])[:, 0]
    torch.testing.assert_close(reached, products.amax(dim=1), atol=1e-12, rtol=1e-12)
    assert torch.equal(found[:700], products[:700].argmax(dim=1))


@pytest.mark.parametrize("bound", ["sphere", "none"])
def test_leech_straight_through(bound: Any) -> None:
    own = tk.torch.LeechQuantizer(2, bound=bound)
    z = torch.randn(3, 7, 23, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 7, 23, dtype=torch.float64)
    (found,) = torch.autograd.grad((own(z)[0] * weight).sum(), z)
    length = z.norm(dim=-1, keepdim=True)
    along = (weight * z).sum(dim=-1, keepdim=True) * z / length**2
    torch.testing.assert_close(found, weight if bound == "none" else (weight - along) / length)
    codes, ids = own(z)
    assert torch.equal(codes, own.nearest_codes(codes))
    assert torch.equal(codes.float(), own.indices_to_codes(ids))


@pytest.mark.parametrize(("shape", "options"), [
    ((2, 10, 24), {}), ((2, 48, 3, 5), {"num_codebooks": 2}), ((2, 10, 7), {"dim": 7}),
    ((0, 24), {}), ((2, 24, 5), {"channel_first": True}), ((1, 2, 24), {"return_indices": False}),
])  # fmt: skip
def test_leech_shapes(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    own = tk.torch.LeechQuantizer(**options)
    codes, ids = own(torch.randn(shape))
    assert codes.shape == shape
    assert (ids is None) == (options.get("return_indices") is False)
    if ids is not None:
        assert ids.dtype == torch.int32
        torch.testing.assert_close(own.indices_to_codes(ids), codes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_leech_precisions_and_copies(dtype: Any) -> None:
    own = tk.torch.LeechQuantizer()
    z = torch.randn(2, 30, 24).to(dtype)
    codes, ids = own(z)
    assert codes.dtype == dtype
    assert torch.equal(own.codes_to_indices(codes), ids)
    again = pickle.loads(pickle.dumps(own))(z)
    assert torch.equal(again[1], ids)
    assert own.state_dict() == {}


@pytest.mark.parametrize("inner", [None, 2])
def test_leech_read_from_a_module(inner: Any) -> None:
    own = tk.torch.LeechQuantizer(inner)
    assert np.array_equal(tk.from_module(own).points, own.codebook.points)
    two = tk.from_module(tk.torch.LeechQuantizer(2, num_codebooks=2))
    assert (two.K, two.n) == (4600**2, 46)


def test_leech_refused() -> None:
    with pytest.raises(ValueError, match="inner must be 0, 1, 2 or None"):
        tk.torch.LeechQuantizer(4)
    wrong: Any = "tanh"
    with pytest.raises(ValueError, match="bound must be one of"):
        tk.torch.LeechQuantizer(bound=wrong)
    with pytest.raises(ValueError, match="z must be with 24 coordinates"):
        tk.torch.LeechQuantizer()(torch.zeros(1, 3, 23))
