"""What every kind of codebook promises, also one that the library has never seen.

Every public function answers, or refuses in one sentence; what a kind knows from its structure is
what its points say.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenkl as tk
from tokenkl import bounds, channel, optimality
from tokenkl.codebooks.base import Reader, Record
from tokenkl.codebooks.registry import KINDS, SPECS
from tokenkl.codebooks.transforms import diameter

RNG = np.random.default_rng(11)


class Ring(tk.Codebook):
    """K points on a circle: all that a kind has to say."""

    size: int

    @property
    def K(self) -> int:
        return self.size

    @property
    def n(self) -> int:
        return 2

    def points_at(self, ids: Any) -> np.ndarray:
        angle = 2 * np.pi * np.asarray(ids) / self.size
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


@tk.register
class KeptRing(Ring):
    """The same with a prior that falls, and a place in files and on the command line."""

    fall: float = 0.9

    @property
    def has_equal_priors(self) -> bool:
        return self.fall == 1

    def all_log_priors(self) -> np.ndarray:
        weight = self.fall ** np.arange(self.size)
        return np.log(weight / weight.sum())

    def record(self) -> Record:
        return {"size": self.size, "fall": self.fall}, {}

    @classmethod
    def from_record(cls, header: dict[str, Any], read: Reader) -> tk.Codebook:
        return cls(header["size"], header["fall"])


@tk.register_spec("ring", "ring:K", "ring:7")
def _ring(spec: str, rest: str) -> tk.Codebook:
    return KeptRing(int(rest))


def simplex(size: int) -> np.ndarray:
    return RNG.dirichlet(np.ones(size))


STAGES = [RNG.normal(size=(size, 3)) for size in (3, 4)]
KINDS_HERE: dict[str, tk.Codebook] = {
    "points": tk.PointCodebook(RNG.normal(3, 2, size=(7, 3))),
    "points, prior": tk.PointCodebook(RNG.normal(size=(6, 2)), simplex(6)),
    "points that coincide": tk.PointCodebook([[0.0], [1.0], [1.0]], allow_duplicates=True),
    "one token": tk.PointCodebook([[2.0, 1.0]]),
    "FSQ": tk.FSQ((3, 4), grid="rounding", order="F"),
    "grid, priors": tk.ProductCodebook([[0.0, 1, 5], [-2.0, 7]], [simplex(3), None], order="F"),
    "grid, joint prior": tk.ProductCodebook([[0.0, 1, 5], [-2.0, 7]], prior=simplex(6), order="F"),
    "one-hot": tk.OneHot(5, scale=3.0),
    "one-hot, prior": tk.OneHot(70, simplex(70)),
    "residual": tk.ResidualCodebook(STAGES),
    "residual, prior": tk.ResidualCodebook(STAGES, simplex(12)),
    "residual, stage priors": tk.ResidualCodebook(STAGES, stage_priors=[simplex(3), None]),
    "D3 cut": tk.d_codebook(3, 4),
    "checkerboard": tk.Checkerboard((3, 4, 2)),
    "checkerboard, moved": tk.Checkerboard((3, 5), spacing="equal").scaled(2.0).shifted([1.0, -7]),
    "D4+ cut, moved": tk.LatticeCodebook("D+", 3, 4).scaled(2.0).shifted(np.arange(4.0)),
    "product": tk.Product([tk.PointCodebook(RNG.normal(size=(4, 2))), tk.OneHot(3), Ring(3)]),
    "product, priors": tk.Product(
        [
            tk.PointCodebook(RNG.normal(1, 3, size=(5, 2)), simplex(5)),
            tk.PointCodebook([[2.0]]),
            tk.ProductCodebook([[0.0, 1, 5], [-2.0, 7]], prior=simplex(6)),
        ],
        order="F",
    ),
    "product of grids": tk.Product(
        [tk.FSQ((3, 2)), tk.ProductCodebook([[0.0, 9, 2]], [simplex(3)])]
    ),
    "grid, equal levels": tk.ProductCodebook(
        [[0.0, 1, 0, -3], [2.0, 2]], [simplex(4), None], allow_duplicates=True
    ),
    "defined here": Ring(5),
    "defined here, prior": KeptRing(7),
}
#: Far too many tokens to list.
LARGE: dict[str, tk.Codebook] = {
    "D24 cut": tk.d_codebook(24, 4),
    "checkerboard 7^9x6^9": tk.Checkerboard((7,) * 9 + (6,) * 9),
    "FSQ 9^40": tk.FSQ((9,) * 40),
    "grid 9^40, priors": tk.ProductCodebook([np.arange(9.0)] * 40, [simplex(9)] * 40),
    "PQ 64^12": tk.Product([tk.PointCodebook(RNG.normal(size=(64, 2))) for _ in range(12)]),
    "RVQ 2^30": tk.ResidualCodebook([RNG.normal(size=(64, 4)) / 2**s for s in range(5)]),
}
every_kind = pytest.mark.parametrize("name", KINDS_HERE)
every_one = pytest.mark.parametrize("name", [*KINDS_HERE, *LARGE])


def codebook_of(name: str) -> tk.Codebook:
    return {**KINDS_HERE, **LARGE}[name]


def as_points(codebook: tk.Codebook) -> tk.PointCodebook:
    return tk.PointCodebook(codebook.points, codebook.prior, allow_duplicates=True)


# ---- What the structure says is what the points say -----------------------------------------


@every_kind
def test_geometry(name: str) -> None:
    codebook = KINDS_HERE[name]
    plain = as_points(codebook)
    scale = float(np.abs(plain.points).max())
    for method in (
        "mean", "average_power", "half_widths", "largest_coordinate", "diameter",
        "diameter_bound", "prior_entropy", "largest_prior", "smaller_priors",
    ):  # fmt: skip
        found, expected = getattr(codebook, method)(), getattr(plain, method)()
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13 * scale, err_msg=method)
    snr = np.array([1e-3, 1.0, 1e4]) / scale**2
    np.testing.assert_allclose(
        codebook.second_order(snr), plain.second_order(snr), rtol=1e-9, atol=1e-15
    )
    if codebook.K > 1:
        for method in ("nn_distances", "min_distance", "mean_nn_distance"):
            found, expected = getattr(codebook, method)(), getattr(plain, method)()
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13 * scale)


@every_kind
def test_pairs(name: str) -> None:
    """By functions of distance and odds, since what is alike may come in one piece or many."""
    codebook = KINDS_HERE[name]

    def sums(cb: tk.Codebook) -> list[float]:
        out = np.zeros(4)
        for weight, distance, odds in cb.pairs():
            odds = np.zeros(np.shape(weight)) if odds is None else odds
            parts = [weight, weight * distance, weight * np.exp(-distance), weight * np.tanh(odds)]
            out += [float(np.sum(part)) for part in parts]
        return list(out)

    found = sums(codebook)
    np.testing.assert_allclose(found, sums(as_points(codebook)), rtol=1e-11, atol=1e-13)
    assert found[0] == pytest.approx(codebook.K - 1)


@every_kind
def test_observations(name: str) -> None:
    codebook = KINDS_HERE[name]
    plain = as_points(codebook)
    y = RNG.normal(size=(20, codebook.n)) + plain.points.mean(axis=0)
    for function in (channel.log_posterior, channel.denoiser, channel.posterior_covariance):
        np.testing.assert_allclose(function(codebook, y, 0.7), function(plain, y, 0.7), atol=1e-9)
    # Of equally probable tokens either may be named.
    logits = channel.log_posterior(plain, y, 0.7)
    chosen = logits[np.arange(20), tk.decide(codebook, y, 0.7)]
    np.testing.assert_allclose(chosen, logits.max(axis=1), atol=1e-9)
    apart = np.linalg.norm(y[:, None] - plain.points, axis=-1)
    near = apart[np.arange(20), codebook.nearest(y)]
    np.testing.assert_allclose(near, apart.min(axis=1), rtol=1e-12)


@every_kind
def test_samples_come_from_the_prior(name: str) -> None:
    codebook = KINDS_HERE[name]
    size = 20_000
    counts = np.bincount(codebook.sample_ids(np.random.default_rng(1), size), minlength=codebook.K)
    spread = np.sqrt(size * codebook.prior * (1 - codebook.prior))
    assert (np.abs(counts - size * codebook.prior) <= 5.5 * spread + 1e-6).all()
    points = codebook.sample_points(np.random.default_rng(1), size)
    sd = np.sqrt(np.maximum(np.var(points, axis=0), 1e-300) / size)
    assert (np.abs(points.mean(axis=0) - codebook.mean()) <= 5.5 * sd + 1e-9).all()


# ---- Codebooks made from codebooks ------------------------------------------------------------


@every_kind
def test_moved_codebooks(name: str) -> None:
    codebook = KINDS_HERE[name]
    points, prior = codebook.points, codebook.prior
    by = np.arange(codebook.n) - 0.5
    for moved, expected in (
        (codebook.scaled(3.0, over=2.0), 1.5 * points),
        (codebook.shifted(by), points + by),
        (codebook.centred(), points - prior @ points),
        (codebook.with_prior(prior), points),
        (codebook.with_prior(None), points),
    ):
        np.testing.assert_allclose(moved.points, expected, rtol=1e-13, atol=1e-12)
    equal = codebook.with_prior(None)
    assert equal.has_equal_priors
    np.testing.assert_allclose(codebook.shifted(by).prior, prior, rtol=1e-12)
    np.testing.assert_allclose(codebook.scaled(2.0).prior, prior, rtol=1e-12)
    skewed = np.arange(1.0, codebook.K + 1)
    skewed /= skewed.sum()
    np.testing.assert_allclose(codebook.with_prior(skewed).prior, skewed, rtol=1e-12)


@pytest.mark.parametrize(
    "name", [name for name in KINDS_HERE if name not in ("defined here", "product")]
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files(name: str, suffix: str, tmp_path: Path) -> None:
    codebook, path = KINDS_HERE[name], tmp_path / f"cb{suffix}"
    tk.save_codebook(codebook, path)
    back = tk.load_codebook(path)
    assert type(back) is type(codebook)
    assert np.array_equal(back.points, codebook.points)
    assert np.array_equal(back.log_prior, codebook.log_prior)
    assert back.label == codebook.label


@pytest.mark.parametrize("name", LARGE)
def test_large_codebooks_stay_lazy(name: str, tmp_path: Path) -> None:
    codebook, path = LARGE[name], tmp_path / "cb.npz"
    tk.save_codebook(codebook, path)
    assert path.stat().st_size < 2**19
    assert tk.load_codebook(path).K == codebook.K
    for moved in (tk.scale_to(codebook, power=2.0), tk.centre(codebook), codebook.scaled(0.5)):
        assert moved.K == codebook.K
        assert not isinstance(moved, tk.PointCodebook)
    assert tk.average_power(tk.scale_to(codebook, power=2.0)) == pytest.approx(2.0, rel=1e-12)
    assert np.abs(tk.centre(codebook).mean()).max() < 1e-12 * codebook.largest_coordinate()
    points = codebook.sample_points(np.random.default_rng(2), 4000)
    variance = np.square(points - codebook.mean()).sum(axis=1)
    assert variance.mean() == pytest.approx(codebook.average_power(), rel=0.05)
    found = tk.bracket(codebook, [1e-3, 1.0, 1e3], "mmse")
    assert (found.lower.value <= found.upper.value).all()


def test_a_kind_that_is_not_registered_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"codebook must be a kind with record and from_record"):
        tk.save_codebook(Ring(5), tmp_path / "ring.npz")
    tk.save_codebook(KeptRing(5), tmp_path / "ring.npz")
    kept = KINDS.pop("KeptRing")
    try:
        with pytest.raises(ValueError, match=r"kind must be one that is registered; import"):
            tk.load_codebook(tmp_path / "ring.npz")
    finally:
        tk.register(kept)


def test_names_are_given_once() -> None:
    other = type("FSQ", (Ring,), {"__module__": "elsewhere"})
    with pytest.raises(ValueError, match="FSQ is a kind in tokenkl"):
        tk.register(other)
    for head in ("fsq", "a:b"):
        with pytest.raises(ValueError, match="a new word without a colon"):
            tk.register_spec(head, "", "")


def test_the_command_line_knows_a_kind_that_was_registered() -> None:
    assert tk.codebook("centre:ring:7").K == 7
    with pytest.raises(ValueError, match="ring:K"):
        tk.codebook("nothing")
    for head, spec in SPECS.items():
        if "." not in spec.example:  # no file
            assert tk.codebook(spec.example).K > 1, head


# ---- Every public function answers or refuses ----------------------------------------------------

FEW = tk.MonteCarlo(n_samples=64)


def _plain(codebook: tk.Codebook) -> tk.MonteCarlo | None:
    return FEW if codebook.fits else None


def _parity(codebook: tk.Codebook) -> np.ndarray:
    """One bit for every token, of those that can be listed."""
    return np.arange(min(codebook.K, 2**10))[:, None] % 2


ASKED: dict[str, Callable[[tk.Codebook], Any]] = {
    "accuracy": lambda cb: tk.accuracy(cb, 2.0, key=0),
    "sampling error": lambda cb: tk.sampling_error(cb, 2.0, key=0),
    "entropy, sampled": lambda cb: tk.conditional_entropy(cb, 2.0, method=FEW, key=0),
    "profile": lambda cb: tk.profile(cb, [0.5, 8.0], key=0)["mmse"],
    "exact": lambda cb: tk.mmse(cb, 1.0, method=tk.Exact()),
    "bits": lambda cb: tk.bit_metric_information(cb, _parity(cb), 2.0, key=0),
    "bracket": lambda cb: tk.bracket(cb, [0.5, 8.0], "accuracy").lower,
    "union bound": lambda cb: bounds.union_bound(cb, 4.0),
    "pairwise bound": lambda cb: bounds.pairwise_bound(cb, 4.0),
    "Bonferroni": lambda cb: bounds.bonferroni_bound(cb, 4.0),
    "de Caen": lambda cb: bounds.de_caen_bound(cb, 4.0),
    "linear MMSE": lambda cb: bounds.linear_mmse_bound(cb, 4.0),
    "Gaussian information": lambda cb: bounds.gaussian_information_bound(cb, 4.0),
    "capacity": lambda cb: bounds.capacity_bound(cb, 4.0),
    "average power": tk.average_power,
    "min distance": tk.min_distance,
    "mean nn distance": tk.mean_nn_distance,
    "nn distances": optimality.nn_distances,
    "diameter": diameter,
    "decide": lambda cb: tk.decide(cb, np.zeros(cb.n), 1.0),
    "sample": lambda cb: channel.sample(cb, 1.0, 5, key=0)[1],
    "log posterior": lambda cb: channel.log_posterior(cb, np.zeros(cb.n), 1.0),
    "denoiser": lambda cb: channel.denoiser(cb, np.zeros(cb.n), 1.0),
    "score": lambda cb: channel.score(cb, np.zeros(cb.n), 1.0),
    "covariance": lambda cb: channel.posterior_covariance(cb, np.zeros(cb.n), 1.0),
    "path KL": lambda cb: tk.path_kl(cb.points_at(0), cb.sample_points(RNG, 2), tk.VE(), 0.2),
    "ancestral KL": lambda cb: tk.ancestral_kl(cb, [0.1, 1.0], method=_plain(cb), key=0),
    "produced law": lambda cb: tk.produced_law(cb, [0.1, 1.0], method=None, key=0).kl,
    "Lipschitz": lambda cb: tk.score_lipschitz(cb, 1.0, key=0, starts=1).covariance,
    "perturb": lambda cb: tk.perturb(cb, 0.1, key=0).points,
    "permute": lambda cb: tk.permute(cb, key=0).points,
    "centre": lambda cb: tk.centre(cb).K,
    "scale to power": lambda cb: tk.scale_to(cb, power=1.0).K,
    "scale to box": lambda cb: tk.scale_to(cb, box=1.0).K,
    "scale to distance": lambda cb: tk.scale_to(cb, min_distance=1.0).K,
}  # fmt: skip
#: What a structure must answer although its tokens cannot be listed.
ANSWERED = {
    "D24 cut": """bracket; union bound; linear MMSE; Gaussian information; capacity; average power;
        min distance; mean nn distance; diameter; decide; sample; accuracy; path KL; centre;
        scale to power; scale to box; scale to distance""",
    "checkerboard 7^9x6^9": """bracket; linear MMSE; Gaussian information; capacity; average power;
        min distance; mean nn distance; diameter; decide; sample; accuracy; path KL; centre;
        scale to power; scale to box; scale to distance""",
    "FSQ 9^40": """accuracy; sampling error; profile; exact; bracket; union bound; linear MMSE;
        average power; min distance; mean nn distance; diameter; denoiser; score; covariance;
        ancestral KL; produced law; Lipschitz; centre; scale to power; scale to box;
        scale to distance""",
    "grid 9^40, priors": """accuracy; sampling error; profile; exact; bracket; linear MMSE;
        average power; min distance; mean nn distance; diameter; denoiser; ancestral KL; centre""",
    "PQ 64^12": """accuracy; sampling error; entropy, sampled; profile; bracket; linear MMSE;
        Gaussian information;
        capacity; average power; min distance; mean nn distance; diameter; denoiser; score;
        covariance; ancestral KL; Lipschitz; centre; scale to power; scale to box;
        scale to distance""",
    "RVQ 2^30": """bracket; linear MMSE; Gaussian information; capacity; average power; centre;
        scale to power; scale to box""",
}


def _numbers(found: Any) -> np.ndarray:
    return np.asarray(getattr(found, "value", found), dtype=float)


@pytest.mark.filterwarnings("error")
@every_one
@pytest.mark.parametrize("asked", ASKED)
def test_an_answer_or_a_sentence(name: str, asked: str) -> None:
    must = name in KINDS_HERE or asked in [one.strip() for one in ANSWERED[name].split(";")]
    try:
        found = ASKED[asked](codebook_of(name))
    except ValueError as error:
        sentence = str(error)
        assert " must be " in sentence, sentence
        assert sentence.endswith("."), sentence
        assert "\n" not in sentence, sentence
        small = {"one token", "points that coincide", "grid, equal levels"}
        expected = asked in ("exact",) or name in small
        assert expected or name not in KINDS_HERE, sentence
        assert name in KINDS_HERE or not must, sentence
        return
    assert not np.isnan(_numbers(found)).any()
