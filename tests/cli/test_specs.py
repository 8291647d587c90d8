"""What can be typed for codebooks, priors, noise levels, points and schedules."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.cli.typed import (
    parse_grid,
    parse_ids,
    parse_names,
    parse_point,
    parse_prior,
    parse_snr,
)
from tokenkl.codebooks.files import save_prior
from tokenkl.schedule import SCHEDULES, parse_schedule


@pytest.mark.parametrize(
    ("spec", "levels"),
    [
        ("fsq:3^8", (3,) * 8),
        ("fsq:8x5x5x5", (8, 5, 5, 5)),
        ("fsq:8,5,5,5", (8, 5, 5, 5)),
        ("fsq:8,5^3", (8, 5, 5, 5)),
        ("fsq:2", (2,)),
        ("fsq:17^6", (17,) * 6),
    ],
)
def test_fsq(spec: str, levels: tuple[int, ...]) -> None:
    codebook = tk.codebook(spec)
    assert isinstance(codebook, tk.FSQ)
    assert codebook.shape == levels
    assert codebook.grid == "symmetric"


def test_fsq_on_the_rounding_grid() -> None:
    ours = tk.codebook("fsq:8,5,5,5:rounding")
    theirs = tk.FSQ((8, 5, 5, 5), grid="rounding", order="F")
    assert np.array_equal(ours.points, theirs.points)


def test_onehot_and_e8() -> None:
    codebook = tk.codebook("onehot:1000000")
    assert isinstance(codebook, tk.OneHot)
    assert codebook.K == 1_000_000
    assert np.array_equal(tk.codebook("e8").points, tk.e8_codebook().points)


def test_transformations_are_the_library_s() -> None:
    grid = tk.FSQ((3, 4))
    assert np.array_equal(
        tk.codebook("perturb:fsq:3x4:0.1", seed=7).points, tk.perturb(grid, 0.1, key=7).points
    )
    assert np.array_equal(
        tk.codebook("permute:fsq:3x4", seed=7).points, tk.permute(grid, key=7).points
    )
    rounding = tk.codebook("centre:fsq:4x4:rounding")
    assert isinstance(rounding, tk.ProductCodebook)
    assert np.allclose(rounding.points.mean(axis=0), 0, atol=1e-15)
    assert np.array_equal(tk.codebook("center:fsq:4x4:rounding").points, rounding.points)


def test_transformations_are_applied_from_the_inside() -> None:
    grid = tk.FSQ((3, 4))
    second = np.array([7, 1], np.uint32)  # the key of the second random transformation
    mixed = tk.perturb(tk.permute(grid, key=7), 0.1, key=second)
    found = tk.codebook("centre:perturb:permute:fsq:3x4:0.1", seed=7)
    assert np.array_equal(found.points, tk.centre(mixed).points)
    assert tk.codebook("centre:" * 32 + "fsq:3").K == 3


def test_nested_noise_is_independent() -> None:
    """Two layers of noise from one seed must not be the same noise twice."""
    once = tk.codebook("perturb:fsq:3^8:0.1").points
    twice = tk.codebook("perturb:perturb:fsq:3^8:0.1:0.1").points
    first, second = once - tk.FSQ((3,) * 8).points, twice - once
    assert second.std() == pytest.approx(0.1, rel=0.02)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


def test_files(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((5, 3))
    np.save(tmp_path / "table.npy", table)
    np.savez(tmp_path / "two.npz", a=table, b=table + 1)
    np.savez(tmp_path / "stages.npz", stages=np.stack([table, table + 1]))
    assert np.array_equal(tk.codebook(str(tmp_path / "table.npy")).points, table)
    assert np.array_equal(tk.codebook(f"vq:{tmp_path}/table.npy").points, table)
    assert np.array_equal(tk.codebook(f"vq:{tmp_path}/two.npz:b").points, table + 1)
    assert np.array_equal(tk.codebook(f"permute:vq:{tmp_path}/two.npz:b").prior, [0.2] * 5)
    residual = tk.codebook(f"rvq:{tmp_path}/stages.npz")
    assert isinstance(residual, tk.ResidualCodebook)
    assert residual.K == 25
    with pytest.raises(ValueError, match=r"shape \(2, 5, 3\); say rvq:.*stages.npz if the"):
        tk.codebook(f"vq:{tmp_path}/stages.npz")
    with pytest.raises(ValueError, match=r"table.npy must be .* is one table of shape"):
        tk.codebook(f"rvq:{tmp_path}/table.npy")
    with pytest.raises(ValueError, match=r"CODEBOOK: .*choose one as /.*two\.npz:NAME"):
        tk.codebook(f"{tmp_path}/two.npz")


def test_grids_of_other_quantizers() -> None:
    """FSP has the middles of bins, BSQ the sphere of radius 1, LFQ +-1 in the order of its bits."""
    grid = tk.codebook("fsq:8,5:midpoint").as_grid
    assert grid is not None
    for one, count in zip(grid.levels, (8, 5), strict=True):
        assert np.allclose(one, (2 * np.arange(count) + 1 - count) / count, rtol=0, atol=1e-15)
    assert grid.order == "F"
    sphere = tk.codebook("bsq:18")
    assert sphere.K == 2**18
    assert np.allclose(np.linalg.norm(sphere.points_at(np.arange(99)), axis=1), 1, rtol=1e-14)
    bits = (np.arange(16)[:, None] & [8, 4, 2, 1]) > 0
    assert np.array_equal(tk.codebook("bsq:4").points > 0, bits)
    assert np.array_equal(tk.codebook("fsq:2^4").points, 2.0 * bits - 1)
    for spec in ("bsq:0", "bsq:x", "bsq:1000000"):
        with pytest.raises(ValueError, match="CODEBOOK must be bsq:BITS with a whole number above"):
            tk.codebook(spec)


def test_a_colon_in_a_file_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a:b.npy", np.eye(3))
    assert tk.codebook(f"vq:{tmp_path}/a:b.npy").K == 3
    assert tk.codebook(f"{tmp_path}/a:b.npy").K == 3


def test_entries_that_never_moved_are_accepted(tmp_path: Path) -> None:
    np.save(tmp_path / "dead.npy", np.array([[0.0, 0], [0, 0], [1, 1]]))
    assert tk.codebook(f"vq:{tmp_path}/dead.npy").K == 3


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("foo", "fsq:LEVELS, .*onehot:K.* such as fsq:3\\^8 .*got 'foo'"),
        ("", "got ''"),
        ("fsq", "fsq:LEVELS"),
        ("fsq:", "fsq:LEVELS"),
        ("fsq:3^", "fsq:LEVELS"),
        ("fsq:3y", "fsq:LEVELS such as .*got fsq:3y"),
        ("fsq:-3^2", "fsq:LEVELS"),
        ("fsq:0^3", "at least 1"),
        ("fsq:3^0", "at least 1"),
        ("fsq:²^2", "fsq:LEVELS"),
        ("fsq:3^99999999", "at most 65536 coordinates"),
        ("fsq:3^8:odd", "the grid symmetric or rounding or midpoint"),
        ("onehot:", "onehot:K"),
        ("onehot:0", "above 0"),
        ("onehot:2.5", "onehot:K"),
        ("e8:2", "CODEBOOK must be e8 alone"),
        ("d:4", "d:LEVELS^N".replace("^", r"\^")),
        ("d:1^3", "at least 2 levels"),
        ("d+:3^0", "1 to 65536 coordinates"),
        ("e6:2001", "from 1 to 2000"),
        ("d:4^99999", "1 to 65536 coordinates"),
        ("perturb:fsq:3^8", "perturb:SPEC:SD"),
        ("perturb:fsq:3^8:-1", "above 0"),
        ("perturb:fsq:3^8:nan", "above 0"),
        ("perturb:0.1", "perturb:SPEC:SD"),
        ("perturb:foo:0.1", "got 'foo'"),
        ("centre:" * 1200 + "fsq:2", "CODEBOOK must be transformed at most 32 times; got centre:"),
        ("permute:" * 33 + "fsq:2", "at most 32 times"),
        ("perturb:" * 5000 + "fsq:2" + ":0.1" * 5000, "at most 32 times"),
        ("permute", "CODEBOOK must be one of"),
        ("vq:", "CODEBOOK must be one of"),
        ("nowhere.npz", "CODEBOOK: nowhere.npz .* no such file"),
        ("table.xls", "CODEBOOK must be one of"),
    ],
)
def test_malformed_codebooks(spec: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        tk.codebook(spec)
    assert "CODEBOOK" in str(caught.value)


def test_priors(tmp_path: Path) -> None:
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    save_prior(prior, tmp_path / "p.json")
    given = parse_prior(tmp_path / "p.json", None, None)
    for spec in ("fsq:2^2", "onehot:4", "permute:fsq:2^2", "centre:fsq:2^2"):
        assert np.allclose(tk.codebook(spec, prior=given).prior, prior, rtol=1e-15), spec
    # The mean that centring removes is the one under the prior that was asked for.
    assert np.allclose(prior @ tk.codebook("centre:fsq:2^2", prior=given).points, 0, atol=1e-15)
    with pytest.raises(ValueError, match="--prior must be of length K = 9"):
        tk.codebook("fsq:3^2", prior=given)


def test_priors_from_tokens(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.array([0, 0, 1, 3]))
    for smoothing, expected in ((None, [2.5, 1.5, 0.5, 1.5]), (2.0, [4, 3, 2, 3])):
        given = parse_prior(None, tmp_path / "ids.npy", smoothing)
        found = tk.codebook("onehot:4", prior=given).prior
        assert np.allclose(found, np.array(expected) / np.sum(expected), rtol=1e-14)
    with pytest.raises(
        ValueError, match="--tokens: tokens must be whole numbers from 0 to 2; got 3"
    ):
        tk.codebook("onehot:3", prior=given)


def test_priors_by_parts(tmp_path: Path) -> None:
    parts = [np.array([0.7, 0.2, 0.1]), np.array([0.25, 0.25, 0.5])]
    held: dict[str, Any] = {f"priors.{index}": part for index, part in enumerate(parts)}
    np.savez(tmp_path / "p.npz", **held)
    given = parse_prior(tmp_path / "p.npz", None, None)
    expected = np.sort(np.outer(*parts).ravel())
    tk.save_codebook(tk.ResidualCodebook([np.eye(3), 0.1 * np.eye(3)]), tmp_path / "stages.npz")
    for spec in ("fsq:3^2", "permute:fsq:3^2", f"rvq:{tmp_path}/stages.npz"):
        assert np.allclose(np.sort(tk.codebook(spec, prior=given).prior), expected), spec
    # Far beyond what a vector of K numbers could hold.
    many: dict[str, Any] = {f"priors.{index}": parts[0] for index in range(40)}
    np.savez(tmp_path / "many.npz", **many)
    entropy = -(parts[0] * np.log(parts[0])).sum()
    made = tk.codebook("fsq:3^40", prior=parse_prior(tmp_path / "many.npz", None, None))
    assert float(made.prior_entropy()) == pytest.approx(40 * entropy)
    # The file of a grid holds its own.
    tk.save_codebook(tk.FSQ((3, 3), priors=parts), tmp_path / "grid.npz")
    again = tk.codebook("fsq:3^2", prior=parse_prior(tmp_path / "grid.npz", None, None))
    assert np.allclose(again.prior, np.outer(*parts).ravel())
    for spec, sentence in (
        ("fsq:3^3", "--prior: priors must be a list of 3"),
        ("fsq:2^2", r"priors\[0\] must be of length K = 2"),
        ("onehot:9", "priors must be given for a grid or a residual codebook"),
        ("d:4^24", "priors must be given for a grid or a residual codebook"),
    ):
        with pytest.raises(ValueError, match=sentence):
            tk.codebook(spec, prior=given)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("priors.0", "priors.2"), r"--prior: .*; it holds priors.2, and no priors.1\.$"),
        (("priors.1",), r"--prior: .*; it holds priors.1, and no priors.0\.$"),
        (("priors.0", "prior"), r"; it holds both a whole prior and priors.0, one of its parts\.$"),
    ],
)
def test_parts_of_a_prior_that_do_not_fit(
    tmp_path: Path, names: tuple[str, ...], sentence: str
) -> None:
    def save(part: list[float], *names: str) -> None:
        held: dict[str, Any] = dict.fromkeys(names, np.array(part))
        np.savez(tmp_path / "p.npz", **held)

    save([0.5, 0.5], *names)
    with pytest.raises(ValueError, match=sentence):
        parse_prior(tmp_path / "p.npz", None, None)
    save([0.5, 0.6], "priors.0")
    with pytest.raises(ValueError, match=r"priors.0 must be a probability vector"):
        parse_prior(tmp_path / "p.npz", None, None)
    save([0.5, 0.5], "priors.00")  # not a part, but alone
    given = parse_prior(tmp_path / "p.npz")
    assert given is not None
    assert given(tk.OneHot(2)).prior == pytest.approx([0.5, 0.5])


def test_prior_options_that_clash(tmp_path: Path) -> None:
    save_prior(np.array([0.5, 0.5]), tmp_path / "p.npy")
    np.save(tmp_path / "ids.npy", np.array([0, 1]))
    assert parse_prior(None, None, None) is None
    with pytest.raises(ValueError, match="--prior must be left out where --tokens"):
        parse_prior(tmp_path / "p.npy", tmp_path / "ids.npy", None)
    with pytest.raises(
        ValueError, match="--smoothing must be given together with --counts or --tokens"
    ):
        parse_prior(tmp_path / "p.npy", None, 0.5)
    with pytest.raises(ValueError, match="--smoothing must be a finite number, at least 0"):
        parse_prior(None, tmp_path / "ids.npy", float("nan"))
    with pytest.raises(ValueError, match=r"--prior: .* no such file"):
        parse_prior(tmp_path / "nowhere.npy", None, None)
    with pytest.raises(ValueError, match=r"--tokens: .* no such file"):
        parse_prior(None, tmp_path / "nowhere.npy", None)


@pytest.mark.parametrize(
    "codebook",
    [
        tk.FSQ((2, 3), order="F"),
        tk.OneHot(6, scale=2.0),
        tk.ResidualCodebook([np.eye(2), 0.1 * np.arange(6.0).reshape(3, 2)]),
        tk.PointCodebook(np.arange(12.0).reshape(6, 2)),
    ],
)
def test_with_prior_keeps_points_and_order(codebook: tk.Codebook) -> None:
    prior = np.arange(1.0, 7) / 21
    changed = codebook.with_prior(prior)
    assert np.array_equal(changed.points, codebook.points)
    assert np.allclose(changed.prior, prior, rtol=1e-15)
    assert changed.label == codebook.label


def test_grids() -> None:
    assert np.array_equal(parse_grid("-20:40:1", "--x", example=""), np.arange(-20.0, 41))
    assert parse_grid("0:1:0.1", "--x", example="")[3] == 0.3
    assert np.array_equal(parse_grid("0:1:0.3", "--x", example=""), [0, 0.3, 0.6, 0.9])
    assert np.array_equal(parse_grid("5:5:1", "--x", example=""), [5])
    assert np.array_equal(parse_grid("3, 1,-2e0", "--x", example=""), [3, 1, -2])
    assert np.array_equal(parse_grid("7", "--x", example=""), [7])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a", "such as --snr-db=-20:40:1; got 'a'"),
        ("", "got ''"),
        ("1,,2", "comma list"),
        ("1:2", "start:stop:step"),
        ("1:2:3:4", "start:stop:step"),
        ("1:0:1", "start <= stop"),
        ("0:1:0", "step above 0"),
        ("0:1:-1", "step above 0"),
        ("0:nan:1", "finite"),
        ("inf", "finite"),
        ("0:1e999:1", "finite"),
        ("0:1:1e-9", "at most 100,000 numbers"),
        ("0:1:1e-999", "at most 100,000 numbers"),
        ("4000", "between -3000 and 3000 dB"),
    ],
)
def test_malformed_grids(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"--snr-db must be .*{sentence}"):
        parse_snr(text if text else " ", None, "0") if text else parse_grid(
            "", "--snr-db", example="--snr-db=-20:40:1"
        )


def test_snr() -> None:
    assert np.allclose(parse_snr("-10:10:10", None, "0"), [0.1, 1, 10], rtol=1e-15)
    assert np.array_equal(parse_snr(None, "0:1:0.5", "0"), [0, 0.5, 1])
    assert np.array_equal(parse_snr(None, None, "0,10"), [1, 10])
    with pytest.raises(ValueError, match="--snr must be left out where --snr-db is given"):
        parse_snr("0", "1", "0")
    with pytest.raises(ValueError, match=r"--snr-db must be .*; got ''"):
        parse_snr("", None, "0")
    with pytest.raises(ValueError, match=r"--snr must be at least 0 everywhere; got -1.0"):
        parse_snr(None, "-1,2", "0")


def test_names() -> None:
    assert parse_names("mmse, accuracy,mmse", tk.QUANTITIES, "--q") == ("mmse", "accuracy")
    with pytest.raises(ValueError, match=r"--q must be a comma list of accuracy, .*; got 'mse'"):
        parse_names("accuracy,mse", tk.QUANTITIES, "--q")


def test_points_and_ids() -> None:
    assert np.array_equal(parse_point("-1,0.5", "--a1"), [-1, 0.5])
    for text in ("", "1,", "x", "inf"):
        with pytest.raises(ValueError, match=r"--a1 must be .*such as --a1=-1,0,1"):
            parse_point(text, "--a1")
    assert np.array_equal(parse_ids("0, 8", 9), [0, 8])
    for text in ("0", "0,1,2", "0,-1", "0,x", "0,9", "0,99999999999999999999999"):
        with pytest.raises(ValueError, match="--ids must be two token ids"):
            parse_ids(text, 9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    assert type(parse_schedule(name)) is SCHEDULES[name]


def test_schedule_parameters() -> None:
    assert parse_schedule("beta-vp:0.05,20").name == tk.BetaVP(0.05, 20).name
    assert parse_schedule("ve:0.1").name == tk.VE(0.1).name
    for text, sentence in (
        ("foo", "one of linear-vp, .*; got 'foo'"),
        ("beta-vp:x", "beta-vp:beta_0,beta_1"),
        ("beta-vp:1,2,3", "beta-vp:beta_0,beta_1"),
        ("linear-vp:1", "linear-vp, which has no parameters"),
        ("beta-vp:3,1", "beta_1 must be at least"),
    ):
        with pytest.raises(ValueError, match=f"--schedule.*{sentence}"):
            parse_schedule(text)


@pytest.mark.parametrize("words", ["rvq:product", "latent:rvq:decoded", "decoded:latent"])
def test_words_that_contradict_each_other(words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(24.0).reshape(2, 3, 4))
    said = words.split(":")[0], words.split(":")[-1]
    with pytest.raises(ValueError, match=f"^CODEBOOK must be either {said[0]} or {said[1]}, not"):
        tk.codebook(f"{words}:{tmp_path / 'a.npy'}")
    assert tk.codebook(f"rvq:rvq:{tmp_path / 'a.npy'}").n == 4
    with pytest.raises(
        ValueError, match=r"say latent:rvq:\S+a.npy if .*, latent:product:\S+a.npy if"
    ):
        tk.codebook(f"latent:{tmp_path / 'a.npy'}")


def test_a_file_whose_name_begins_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rvq:a.npy", np.eye(3))
    for spec in ("rvq:a.npy", "vq:rvq:a.npy"):
        np.testing.assert_array_equal(tk.codebook(spec).points, np.eye(3))


def test_every_random_transformation_has_a_stream_of_its_own() -> None:
    """The same permutation twice would be the square of one."""
    once = tk.permute(tk.FSQ((3,) * 4), key=7)
    ours = tk.codebook("permute:permute:fsq:3^4", seed=7)
    np.testing.assert_array_equal(
        ours.points, tk.permute(once, key=np.array([7, 1], np.uint32)).points
    )
    assert not np.array_equal(ours.points, tk.permute(once, key=7).points)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    """What is a file is taken for one, and refused by its ending."""
    for name in ("centres.h5", "centres"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ValueError, match=r"in a folder or in \.npz, .*; its name ends in"):
            tk.codebook(str(tmp_path / name))
