"""The diffusion model: heads, noise, sampler and bound against exact posteriors."""

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy import stats

import tokenkl as tk
from tokenkl.codebooks.digits import digits_of
from tokenkl.tts.cdcd import CDCD, Block, CDCDConfig, Head, _level, best_bound
from tokenkl.tts.data import Batch, Example, make_batch
from tokenkl.tts.dropout import Dropout
from tokenkl.tts.levels import GRIDS, noise_levels, sampling_levels
from tokenkl.tts.noise import Noise

GRID = tk.FSQ((3, 3), grid="rounding", order="F")
SMALL: dict[str, Any] = {
    "width": 16,
    "heads": 2,
    "depth": 2,
    "time_width": 8,
    "text_width": 8,
    "text_blocks": 1,
}


def small_model(**changes: object) -> CDCD:
    options: dict[str, Any] = {"K": 9, "symbols": 5, "dim": 2, "shape": (3, 3), **SMALL, **changes}
    torch.manual_seed(0)
    model = CDCD(CDCDConfig(**options), np.asarray(GRID.points), noise_levels("linear-vp", GRID))
    for parameter in model.parameters():  # zeros at the start hide mistakes
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def small_batch(sizes: tuple[int, ...] = (5, 9, 7), seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    examples = [
        Example("", "", rng.integers(9, size=n), 1 + rng.integers(4, size=3)) for n in sizes
    ]
    return make_batch(examples, "stretch")


class Exact(CDCD):
    """Knows the law of the tokens: independent, with a prior of its own; the text says nothing."""

    prior: torch.Tensor

    def forward(
        self,
        x: torch.Tensor,
        log_snr: torch.Tensor,
        text: torch.Tensor,
        mask: torch.Tensor,
        known: torch.Tensor | None = None,
        guess: torch.Tensor | None = None,
        drop: Dropout | None = None,
    ) -> torch.Tensor:
        alpha = torch.sigmoid(log_snr.double()).sqrt()[:, None, None]
        variance = torch.sigmoid(-log_snr.double())[:, None, None]
        squares = torch.cdist(x.double(), alpha * self.points.double().expand(len(x), -1, -1)) ** 2
        return self.prior.log() - squares / (2 * variance)


def exact_model(prior: np.ndarray) -> Exact:
    config = CDCDConfig(K=9, symbols=5, dim=2, **SMALL)
    model = Exact(config, np.asarray(GRID.points), noise_levels("linear-vp", GRID))
    model.prior = torch.from_numpy(prior)
    return model.double().eval()


UNEQUAL = np.array([0.3, 0.05, 0.1, 0.02, 0.2, 0.03, 0.1, 0.15, 0.05])


@pytest.mark.parametrize(("shape", "order"), [((8, 5), "F"), ((81, 7), "C"), ((2, 3, 4), "C")])
def test_digits_are_those_of_the_codebooks(
    shape: tuple[int, ...], order: Literal["F", "C"]
) -> None:
    K = math.prod(shape)
    model = CDCD(
        CDCDConfig(K=K, symbols=3, dim=2, head="factorised", shape=shape, order=order, **SMALL)
    )
    np.testing.assert_array_equal(model.digits.numpy(), digits_of(np.arange(K), shape, order))


@pytest.mark.parametrize("prior", [np.full(9, 1 / 9), UNEQUAL])
def test_bound_of_the_exact_posterior_is_the_entropy(prior: np.ndarray) -> None:
    # I-MMSE: the path integral of the exact denoiser, the start and the last guess make up H.
    rng = np.random.default_rng(1)
    tokens = rng.choice(9, size=(64, 40), p=prior)
    batch = make_batch([Example("", "", row, np.array([1])) for row in tokens], "stretch")
    model = exact_model(prior)
    rows = model.bound(batch, torch.Generator().manual_seed(0), draws=32).numpy()
    entropy = -np.log(prior)[tokens].sum(axis=1)  # of these very tokens: less noise
    # With independent tokens that is so wherever the process ends: every row is a test.
    differences = (rows - entropy) / 40
    error = differences.std(axis=1, ddof=1) / math.sqrt(64)
    assert (np.abs(differences.mean(axis=1)) < 5 * error + 0.002).all()
    assert error.max() < 0.03
    best = (best_bound(rows) - entropy) / 40
    assert abs(best.mean()) < 6 * error.max()


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_samples_of_the_exact_denoiser_follow_the_prior(sampler: str) -> None:
    model = exact_model(UNEQUAL)
    frames = torch.ones(20, 100, dtype=torch.long)
    made = model.generate(
        frames, frames > 0, steps=150, sampler=sampler, guidance=0.0, decision="nearest", key=3,
        grid=np.linspace(-9, 6, 150),
    )  # fmt: skip
    counts = np.bincount(made.ids.numpy().ravel(), minlength=9)
    assert stats.chisquare(counts, UNEQUAL * 2000).pvalue > 2e-5


def test_few_steps_do_not_follow_the_prior() -> None:
    # So that the test above can fail.
    model = exact_model(UNEQUAL)
    frames = torch.ones(20, 100, dtype=torch.long)
    made = model.generate(frames, frames > 0, steps=2, guidance=0.0, key=3)
    counts = np.bincount(made.ids.numpy().ravel(), minlength=9)
    assert stats.chisquare(counts, UNEQUAL * 2000).pvalue < 1e-10


@pytest.mark.parametrize("head", ["joint", "factorised"])
def test_cross_entropy_is_that_of_the_probabilities(head: str) -> None:
    model = small_model(head=head)
    outputs = 9 if head == "joint" else 6
    logits = torch.randn(4, 5, outputs, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(20).reshape(4, 5) % 9
    log_p = model.log_probabilities(logits)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(4, 5))
    picked = log_p.gather(-1, ids[..., None])[..., 0]
    torch.testing.assert_close(model.cross_entropy(logits, ids), -picked)


@pytest.mark.parametrize("head", ["joint", "factorised"])
def test_mean_point_is_the_sum_over_tokens(head: str) -> None:
    model = small_model(head=head)
    outputs = 9 if head == "joint" else 6
    logits = torch.randn(4, 5, outputs, generator=torch.Generator().manual_seed(0))
    expected = model.log_probabilities(logits).exp() @ model.points
    torch.testing.assert_close(model.mean_point(logits), expected)


def test_a_factorised_head_off_the_grid_sums_over_tokens() -> None:
    model = small_model(head="factorised")
    model.points.add_(torch.randn(9, 2, generator=torch.Generator().manual_seed(1)))
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    expected = model.log_probabilities(logits).exp() @ model.points
    torch.testing.assert_close(model.mean_point(logits), expected)


def test_digits_are_those_of_the_grid() -> None:
    model = small_model(head="factorised")
    levels = model._grid_levels()
    assert levels is not None
    assert [row.tolist() for row in levels] == [[-1, 0, 1], [-1, 0, 1]]


@pytest.mark.parametrize("head", ["joint", "factorised"])
def test_a_sequence_does_not_see_its_companions_nor_padding(head: str) -> None:
    model = small_model(head=head)
    batch = small_batch()
    text = model.encode_text(batch.frames, batch.token_mask)
    x = torch.randn(3, 9, 2, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([-1.0, 0.5, 2.0])
    together = model(x, levels, text, batch.token_mask)
    for i, size in enumerate((5, 9, 7)):
        alone = model(
            x[i : i + 1, :size],
            levels[i : i + 1],
            model.encode_text(batch.frames[i : i + 1, :size], batch.token_mask[i : i + 1, :size]),
            batch.token_mask[i : i + 1, :size],
        )
        torch.testing.assert_close(together[i, :size], alone[0], rtol=1e-4, atol=1e-4)


def test_every_token_sees_text_and_neighbours() -> None:
    model = small_model()
    batch = small_batch((9,))
    x = torch.zeros(1, 9, 2, requires_grad=True)
    text = torch.zeros(1, 9, 16, requires_grad=True)
    model(x, torch.zeros(1), text, batch.token_mask)[0, 0, 0].backward()
    assert x.grad is not None
    assert text.grad is not None
    assert (x.grad[0].abs().sum(-1) > 0).all()
    assert (text.grad[0].abs().sum(-1) > 0).all()


def test_one_hot_points_need_no_table() -> None:
    model = CDCD(
        CDCDConfig(K=9, symbols=5, dim=9, one_hot=True, **SMALL),
        np.array([[2.0]]),
        noise_levels("linear-vp", tk.OneHot(9)),
    )
    ids = torch.tensor([[0, 4]])
    expected = torch.zeros(1, 2, 9)
    expected[0, 0, 0] = expected[0, 1, 4] = 2
    torch.testing.assert_close(model.points_of(ids), expected)
    logits = torch.randn(1, 2, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.mean_point(logits), 2 * logits.softmax(-1))


@pytest.mark.parametrize("one_hot", [False, True])
def test_power_is_the_mean_square_of_a_coordinate(one_hot: bool) -> None:
    """Of tokens far from the unit sphere, and so the scale of what the network sees."""
    points = np.array([[3.0]]) if one_hot else np.random.default_rng(0).normal(2, 3, size=(9, 4))
    config = CDCDConfig(K=9, symbols=5, dim=9 if one_hot else 4, one_hot=one_hot, **SMALL)
    model = CDCD(config, points, noise_levels("linear-vp", tk.OneHot(9)))
    table = model.points_of(torch.arange(9)).double()
    power = table.square().mean().item()
    assert model.power().item() == pytest.approx(power, rel=1e-6)

    # Tokens by the table and noise of their own make inputs of unit mean square at any SNR.
    seen = []
    model.enter.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(9, (2, 2000), generator=rng)
    mask, levels = torch.ones_like(ids, dtype=torch.bool), torch.tensor([-3.0, 4.0])
    x = model.noisy(model.points_of(ids), levels, rng)
    model(x, levels, model.encode_text(torch.ones_like(ids), mask), mask)
    for row in seen[0]:
        squares = row.square().mean(dim=-1)
        error = 4.7 * squares.std().item() / math.sqrt(2000)
        assert error < 0.1
        assert squares.mean().item() == pytest.approx(1, abs=error)

    low, high = model.snr_range()
    distances = torch.cdist(table, table).fill_diagonal_(math.inf)
    near = distances.amin(dim=0).square().mean().item()
    assert low * power * config.dim == pytest.approx(0.01, rel=1e-5)
    assert high * near == pytest.approx(4 * math.log(9) + 120, rel=1e-5)


def test_learned_points_move_on_their_sphere() -> None:
    model = small_model(learned=True, drop_text=0.0)
    radius = model.table().norm(dim=-1)
    torch.testing.assert_close(radius, radius[:1].expand(9))
    loss, _ = model.loss(small_batch(), torch.Generator().manual_seed(0))
    loss.backward()
    assert model.points.grad is not None
    assert model.points.grad.abs().sum() > 0
    before = model.table().detach().clone()
    with torch.no_grad():
        model.points -= 0.1 * model.points.grad
    assert not torch.allclose(before, model.table())


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"prompt": 1.0}, {"self_conditioning": 0.5}])
@pytest.mark.parametrize("head", ["joint", "factorised"])
def test_it_learns_two_sentences(head: Head, options: dict[str, Any]) -> None:
    model = CDCD(
        CDCDConfig(K=9, symbols=5, dim=2, shape=(3, 3), head=head, **SMALL, **options),
        np.asarray(GRID.points),
        noise_levels("linear-vp", GRID),
    )
    batch = small_batch((6, 8))
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    rng = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(100):
        loss, _ = model.loss(batch, rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(9), rel=1e-4)  # all tokens equally likely
    prompt = batch.tokens[:, :2] if options.get("prompt") else None
    made = model.eval().generate(batch.frames, batch.token_mask, steps=8, key=0, prompt=prompt)
    right = (made.ids == batch.tokens)[batch.token_mask].float().mean()
    assert right > 0.9


def test_the_noise_of_a_sequence_is_its_own() -> None:
    model = small_model()
    batch = small_batch((7, 7))
    both = model.generate(batch.frames, batch.token_mask, steps=3, sampler="ddpm", key=5)
    again = model.generate(batch.frames[:1], batch.token_mask[:1], steps=3, sampler="ddpm", key=5)
    torch.testing.assert_close(both.points[:1], again.points, rtol=1e-4, atol=1e-4)
    other = model.generate(batch.frames[:1], batch.token_mask[:1], steps=3, key=6)
    assert not torch.allclose(other.points, again.points)


def test_guidance_without_text_changes_nothing() -> None:
    model = small_model()
    frames = torch.zeros(2, 6, dtype=torch.long)
    mask = torch.ones(2, 6, dtype=torch.bool)
    plain = model.generate(frames, mask, steps=4, guidance=0.0, key=1)
    guided = model.generate(frames, mask, steps=4, guidance=2.0, key=1)
    torch.testing.assert_close(plain.points, guided.points, rtol=1e-3, atol=1e-4)


def test_draws_decide_by_their_probabilities() -> None:
    model = small_model()
    logits = torch.log(torch.tensor([0.5, 0.2, 0.1, 0.05, 0.05, 0.04, 0.03, 0.02, 0.01]))
    noise = Noise(0, 1, logits.device)
    logits = logits.expand(1, 20000, 9)
    ids = model._decided(logits, torch.zeros(1, 20000, 2), "sample", noise)
    counts = np.bincount(ids.numpy().ravel(), minlength=9)
    expected = logits[0, 0].exp().double().numpy()
    assert stats.chisquare(counts, expected / expected.sum() * 20000).pvalue > 2e-5


def test_times_of_a_batch_are_stratified(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    seen: list[np.ndarray] = []
    monkeypatch.setattr(model, "_loss_at", lambda batch, log_snr, rng: seen.append(log_snr))
    model.loss(small_batch((5,) * 8), torch.Generator().manual_seed(0))
    alpha = np.sqrt(1 / (1 + np.exp(-np.sort(seen[0]))))
    # Linear-VP has alpha = 1 - t: one time in every eighth. The table bends alpha a little.
    assert (np.abs(np.floor(np.sort(alpha) * 8 + 1e-9) - np.arange(8)) <= 1).all()


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_ascends(grid: str) -> None:
    table = noise_levels("linear-vp", GRID)
    for steps in (1, 2, 10):
        levels = sampling_levels(grid, steps, GRID, table)
        assert levels.shape == (steps,)
        assert (np.diff(levels) > 0).all()


def test_information_levels_share_information_evenly() -> None:
    levels = noise_levels("information", GRID)
    information = tk.mutual_information(GRID, np.exp(levels[::32])).value
    gains = np.diff(information)
    np.testing.assert_allclose(gains, gains.mean(), rtol=1e-3)


def test_steps_keep_the_law_of_a_state() -> None:
    # Given the token, the state after an ancestral step has mean alpha' e and variance sigma'^2.
    generator = torch.Generator().manual_seed(0)
    now, then, e = _level(-1.0), _level(0.7), 1.5
    x = now.alpha * e + now.sigma * torch.randn(10**6, generator=generator, dtype=torch.float64)
    e_hat = torch.full_like(x, e)
    fresh = torch.randn(10**6, generator=generator, dtype=torch.float64)
    for sampler in (tk.DDIM(), tk.Ancestral()):
        moved = sampler.step(x, e_hat, now, then, fresh)
        assert float(moved.mean()) == pytest.approx(then.alpha * e, abs=5e-3)
        assert float(moved.var()) == pytest.approx(then.sigma**2, rel=1e-2)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"sampler": "euler"}, "sampler"),
        ({"decision": "vote"}, "decision"),
        ({"guidance": -1.0}, "guidance"),
        ({"start": 0.0}, "start"),
        ({"steps": 2, "grid": np.array([1.0, 0.0])}, "grid"),
        ({"prompt": torch.zeros(1, 1, dtype=torch.long)}, "prompt"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], name: str) -> None:
    frames = torch.ones(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=name):
        small_model().generate(frames, frames > 0, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"head": "factorised", "shape": (3,)}, {"width": 10}, {"one_hot": True}, {"drop_text": 2}],
)
def test_wrong_configurations_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        CDCDConfig(**{"K": 9, "symbols": 5, "dim": 2, **changes})


# ---- Output prior, dropout, digits -------------------------------------------------------------


@pytest.mark.parametrize("head", ["joint", "factorised"])
def test_an_output_prior_begins_as_the_denoiser_of_independent_tokens(head: Head) -> None:
    """Held against the posterior over all tokens, in float64."""
    options: dict[str, Any] = {"K": 9, "symbols": 5, "dim": 2, "shape": (3, 3), **SMALL}
    config = CDCDConfig(**options, head=head, output_prior=True)
    model = CDCD(config, np.asarray(GRID.points), noise_levels("linear-vp", GRID)).double().eval()
    rows, columns = np.array([4.0, 1.0, 2.0]), np.array([1.0, 7.0, 3.0])
    digits = model.digits.numpy() if head == "factorised" else None
    counts = np.arange(9.0) * 3
    if digits is not None:  # a law that digits can state
        counts = rows[digits[:, 0]] * columns[digits[:, 1]] - 0.5
    model.start_from(counts)
    x, level = 2 * torch.randn(2, 5, 2).double(), torch.tensor([-1.0, 2.5]).double()
    text, mask = torch.zeros(2, 5, config.width).double(), torch.ones(2, 5, dtype=torch.bool)
    found = model.log_probabilities(model(x, level, text, mask))
    alpha, sigma = torch.sigmoid(level).sqrt(), torch.sigmoid(-level).sqrt()
    centres = alpha[:, None, None] * model.points.double()
    apart = torch.cdist(x, centres).square() / (2 * sigma**2)[:, None, None]
    prior = torch.from_numpy(counts + 0.5)
    torch.testing.assert_close(found, (prior.log() - apart).log_softmax(-1), atol=1e-6, rtol=1e-6)


def test_an_output_prior_needs_what_it_adds_up_over() -> None:
    moved = np.asarray(GRID.points) + np.linspace(0, 0.1, 18).reshape(9, 2)
    options: dict[str, Any] = {"K": 9, "symbols": 5, "shape": (3, 3), **SMALL}
    config = CDCDConfig(**options, dim=2, head="factorised", output_prior=True)
    with pytest.raises(ValueError, match="no grid of their digits"):
        CDCD(config, moved)
    with pytest.raises(ValueError, match="no coordinate belongs to each digit"):
        CDCDConfig(**options, dim=3, head="factorised", output_prior=True)
    model = small_model(output_prior=True)
    with pytest.raises(ValueError, match="one for each of 9 tokens"):
        model.start_from(np.ones(8))


def test_levels_of_a_grid_follow_its_points() -> None:
    """They are kept for as long as the points are the same."""
    model = small_model(head="factorised")
    before = model._grid_levels()
    assert before is not None
    with torch.no_grad():
        model.points.mul_(2)
    after = model._grid_levels()
    assert after is not None
    torch.testing.assert_close(after[0], 2 * before[0])
    with torch.no_grad():
        model.points[0, 0] += 1
    assert model._grid_levels() is None


@pytest.mark.parametrize("order", ["F", "C"])
def test_digits_decide_as_all_tokens_would(order: Literal["F", "C"]) -> None:
    sizes: dict[str, Any] = {"K": 24, "dim": 3, "shape": (2, 3, 4), "order": order}
    config = CDCDConfig(symbols=5, head="factorised", **sizes, **SMALL)
    model = CDCD(config, np.zeros((24, 3)))
    logits = torch.randn(4, 50, 9)
    ids = model._decided(logits, torch.zeros(4, 50, 3), "map", Noise(0, 4, logits.device))
    torch.testing.assert_close(ids, model.log_probabilities(logits).argmax(-1))


@pytest.mark.parametrize("part", ["out", "down"])
def test_dropout_is_of_both_parts_of_a_block(part: str) -> None:
    """Where the other part adds nothing, the next to nothing that is kept is seen."""
    model = small_model(dropout=0.999999)
    for block in model.blocks:
        torch.nn.init.zeros_(getattr(block, part).weight)
        torch.nn.init.zeros_(getattr(block, part).bias)
    drop = Dropout(torch.Generator().manual_seed(0), torch.device("cpu"))
    text, mask = torch.randn(1, 3, 16), torch.ones(1, 3, dtype=torch.bool)
    given = torch.randn(1, 3, 2), torch.zeros(1), text, mask
    dropped = model(*given, drop=drop)
    for block in model.blocks:
        assert isinstance(block, Block)
        torch.nn.init.zeros_(block.modulation.weight)
        torch.nn.init.zeros_(block.modulation.bias)  # gates shut: blocks add nothing
    torch.testing.assert_close(dropped, model(*given))


@pytest.mark.parametrize("changes", [{"dropout": 0.5}, {"token_dropout": 0.5}])
def test_dropout_is_of_training_and_of_its_key(changes: dict[str, float]) -> None:
    model, batch = small_model(**changes, output_prior=True), small_batch()

    def loss(seed: int) -> float:
        return float(model.loss(batch, torch.Generator().manual_seed(seed))[0].detach())

    model.train()
    assert loss(1) == loss(1) != loss(2)
    trained = loss(1)
    model.eval()
    assert loss(1) != trained


def test_a_hidden_token_is_known_by_the_others_alone() -> None:
    class AllHidden(Dropout):
        def keep(self, shape: tuple[int, ...], rate: float) -> torch.Tensor:
            return torch.zeros(shape)

    model = small_model(token_dropout=0.5, output_prior=True)
    drop = AllHidden(torch.Generator(), torch.device("cpu"))
    text, mask = torch.zeros(1, 4, 16), torch.ones(1, 4, dtype=torch.bool)
    first, second = (
        model(torch.randn(1, 4, 2), torch.zeros(1), text, mask, drop=drop) for _ in range(2)
    )
    torch.testing.assert_close(first, second)
