"""Single precision in the kernel: as good as its stated error, near-duplicates included."""

from typing import Any, cast

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.information.sampling import kernel, xla
from tokenkl.numerics.exp2 import exp2_single

ERROR, ENTROPY, MMSE, DIVERGENCE = range(4)


def _duplicated(distance: float) -> tk.PointCodebook:
    rng = np.random.default_rng(3)
    far = rng.standard_normal((300, 8))
    step = rng.standard_normal((300, 8))
    step *= distance / np.linalg.norm(step, axis=1, keepdims=True)
    return tk.PointCodebook(np.concatenate([far, far + step]))


def _zipf(points: np.ndarray) -> tk.PointCodebook:
    weight = 1 / np.arange(1, len(points) + 1)
    return tk.PointCodebook(points, weight / weight.sum())


CODEBOOKS = {
    "perturbed grid": tk.PointCodebook(tk.perturb(tk.FSQ((3,) * 6), 0.1, 0).points),
    "unequal priors": _zipf(np.random.default_rng(0).standard_normal((2000, 4))),
    "64 dimensions": tk.PointCodebook(np.random.default_rng(1).standard_normal((1500, 64))),
    "near-duplicates": _duplicated(1e-3),
    "tiny": tk.PointCodebook(1e-6 * np.random.default_rng(2).standard_normal((40, 3))),
}


def _both(codebook: tk.PointCodebook, snr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of the same samples in double and in single precision."""
    points = codebook.points - codebook.points.mean(axis=0)
    reach = np.sqrt(snr.max() * np.max(np.sum(points**2, axis=1)))
    tables = [
        kernel.lay_out(points, codebook.log_prior),
        kernel.lay_out(points, codebook.log_prior, narrow=bool(reach <= kernel.NARROW)),
    ]
    rng = np.random.default_rng(4)
    ids = rng.choice(codebook.K, size=400, p=codebook.prior)
    noise = rng.standard_normal((400, codebook.n))
    double, single = (
        kernel.block_statistics(table, ids, noise, np.sqrt(snr), True, bool(precision), True)
        for precision, table in enumerate(tables)
    )
    return double, single


@pytest.mark.parametrize("highest", [6.0, 2.0])
@pytest.mark.parametrize("name", CODEBOOKS)
def test_means_are_within_the_stated_error(name: str, highest: float) -> None:
    """Up to an SNR where most tokens are resolved, and up to one where tables are narrow."""
    codebook = CODEBOOKS[name]
    scale = float(np.var(codebook.points, axis=0).sum())
    double, single = _both(codebook, 10.0 ** np.linspace(-6, highest, 25) / scale)
    mean, apart = double.mean(axis=-1), np.abs((single - double).mean(axis=-1))
    allowed = kernel.SINGLE_ERROR * np.minimum(np.abs(mean), 1)
    allowed[:, MMSE] = kernel.SINGLE_ERROR * mean[:, MMSE]
    allowed[:, [ENTROPY, DIVERGENCE]] += kernel.SINGLE_FLOOR
    # Weights below 2^-100 are not seen in single precision.
    assert (apart <= allowed + 1e-25).all(), (apart / (allowed + 1e-25)).max(axis=0)


@pytest.mark.parametrize("snr", [1e6, 1e-6])
def test_entropy_of_near_duplicates(snr: float) -> None:
    """Two tokens 1e-3 apart at SNR 1e6 are one noise standard deviation apart."""
    double, single = _both(_duplicated(1e-3), np.array([snr]))
    assert np.abs(single - double)[0, ENTROPY].max() <= 1e-5


def test_the_exponential() -> None:
    x = np.linspace(-124, 59, 20001, dtype=np.float32)
    found = np.array([exp2_single(v) for v in x])
    assert np.abs(found / np.exp2(x.astype(float)) - 1).max() < 2e-7
    assert exp2_single(np.float32(-1e5)) == 2.0**-125
    assert exp2_single(np.float32(1e5)) == 2.0**60


QUANTITIES = ("accuracy", "conditional_entropy", "mutual_information", "mmse", "sampling_error")


@pytest.mark.parametrize("gpu", [False, True])
def test_estimates_agree_within_their_numerical_errors(
    gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same samples in double and in single precision; the code for GPUs, on the CPU here."""
    codebook, snr = CODEBOOKS["unequal priors"], np.array([1e-3, 0.3, 3.0, 30.0])
    double, single = (
        tk.MonteCarlo(n_samples=600, precision=precision) for precision in ("double", "single")
    )
    expected = tk.profile(codebook, snr, QUANTITIES, method=double, key=0)
    monkeypatch.setattr(xla, "has_gpu", lambda: gpu)
    found = tk.profile(codebook, snr, QUANTITIES, method=single, key=0)
    error = xla.ERROR if gpu else kernel.SINGLE_ERROR
    for name in QUANTITIES:
        apart = np.abs(np.asarray(found[name].value) - expected[name].value)
        assert (apart <= found[name].numerical_error).all(), name
        # In an information the error is relative to its complement.
        assert (np.asarray(found[name].numerical_error) < 60 * error).all(), name
        assert (apart > 0).any()


def test_taken_unasked_only_where_nobody_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    codebook = CODEBOOKS["perturbed grid"]

    def numerical(quantity: str, gpu: bool = False, **settings: Any) -> float:
        monkeypatch.setattr(xla, "has_gpu", lambda: gpu)
        method = tk.MonteCarlo(**settings)
        found = tk.profile(codebook, 3.0, [quantity], method=method, key=0)[quantity]
        return float(found.numerical_error)

    assert numerical("accuracy", atol=2e-3) > 1e-6
    assert numerical("accuracy", atol=2e-3, precision="double") < 1e-9
    assert numerical("accuracy", n_samples=512) < 1e-9
    assert numerical("accuracy", n_samples=512, precision="single") > 1e-6
    assert numerical("mmse", atol=1e-3) < 1e-6  # its error is in units of the squared radius
    assert numerical("accuracy", gpu=True, n_samples=512) > 1e-5
    with pytest.raises(ValueError, match="precision must be"):
        tk.MonteCarlo(precision=cast(Any, "half"))


def test_near_duplicates_that_are_told_apart_need_more_digits() -> None:
    """Products of differences of 1e-5 at a distance of 3 are not in single precision there."""
    codebook, snr = _duplicated(1e-5), np.array([1e10, 4e10])
    double, single = (
        tk.profile(codebook, snr, QUANTITIES, method=tk.MonteCarlo(512, precision=how), key=0)
        for how in ("double", "single")
    )
    for name in QUANTITIES:
        apart = np.abs(np.asarray(single[name].value) - np.asarray(double[name].value))
        assert (apart <= np.asarray(single[name].numerical_error)).all(), name
