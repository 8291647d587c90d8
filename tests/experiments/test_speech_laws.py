"""`python -m experiments.speech laws`: laws of tokens that see no points, and what follows."""

import numpy as np
import pytest
import torch

import tokenkl as tk
from experiments.speech.laws import blinded, foretold, log_law
from experiments.speech.units import Evidence
from tokenkl.channels.gaussian import log_posterior
from tokenkl.divergence import evidence_bound
from tokenkl.tts.ar import AR, ARConfig
from tokenkl.tts.cdcd import CDCD, RANGE, CDCDConfig
from tokenkl.tts.data import Batch, Example, make_batch
from tokenkl.tts.levels import noise_levels

GRID = tk.FSQ((3, 3))
SIZES = {"width": 16, "heads": 2, "depth": 1, "text_width": 8, "text_blocks": 1}


def _network() -> CDCD:
    torch.manual_seed(0)
    network = CDCD(
        CDCDConfig(K=9, symbols=5, dim=2, **SIZES),  # type: ignore[arg-type]
        np.asarray(GRID.points),
        noise_levels("linear-vp", GRID),
    )
    torch.nn.init.normal_(network.logits.weight)  # at the start it says nothing of anything
    return network.eval()


def _batch(size: int, length: int, key: int = 0) -> Batch:
    rng = np.random.default_rng(key)
    examples = [
        Example(
            name="", tokens=rng.integers(9, size=length), symbols=np.arange(1, 5),
            lengths=np.full(4, length // 4), text="",
        )
        for _ in range(size)
    ]  # fmt: skip
    return make_batch(examples, "aligned")


def test_a_classifier_sees_no_token() -> None:
    network = _network()
    seen = torch.randn(2, 8, 2)
    batch, other = _batch(2, 8), _batch(2, 8, key=1)
    text, levels = network.encode_text(batch.frames, batch.token_mask), torch.zeros(2)
    assert not torch.equal(network(seen, levels, text, batch.token_mask),
                           network(-seen, levels, text, batch.token_mask))  # fmt: skip
    blind = blinded(network)
    assert torch.equal(blind(seen, levels, text, batch.token_mask),
                       blind(-seen, levels, text, batch.token_mask))  # fmt: skip
    assert (blind.log_snr(np.linspace(0, 1, 5)) == RANGE[0]).all()
    assert "enter.weight" not in {n for n, p in blind.named_parameters() if p.requires_grad}
    law = log_law(blind, batch)
    assert torch.equal(law, log_law(blind, other))
    torch.testing.assert_close(law.exp().sum(-1), torch.ones(2, 8))


def test_a_twin_sees_the_tokens_before() -> None:
    torch.manual_seed(0)
    twin = AR(ARConfig(K=9, symbols=5, width=16, heads=2, depth=1)).eval()
    batch, other = _batch(1, 8), _batch(1, 8)
    other.tokens[0, 5] = (other.tokens[0, 5] + 1) % 9
    law, moved = log_law(twin, batch), log_law(twin, other)
    assert law.shape == (1, 8, 9)
    assert torch.equal(law[:, :6], moved[:, :6])
    assert not torch.equal(law[:, 6:], moved[:, 6:])
    torch.testing.assert_close(law.exp().sum(-1), torch.ones(1, 8))


@pytest.mark.parametrize("steps", [2, 6])
def test_the_bound_is_that_of_the_exact_denoiser(steps: int) -> None:
    """For one law everywhere, which is a prior: the posterior of the codebook that has it."""
    prior = np.random.default_rng(2).dirichlet(np.ones(9))
    codebook, network, batch = tk.PointCodebook(GRID.points, prior), _network(), _batch(6, 8)
    law = torch.from_numpy(np.log(prior)).float().expand(6, 8, 9)
    found = foretold(network, GRID, batch, law, Evidence((steps,), 6, 2))
    grid = np.exp(network.log_snr(1 - np.arange(steps) / steps))
    exact = evidence_bound(
        codebook,
        lambda y, snr: log_posterior(codebook, y, snr[:, None]),
        batch.tokens.numpy(),
        grid,
        key=steps,
        n_noise=2,
    )
    np.testing.assert_allclose(found[f"{steps}"], exact.values.mean(axis=0), rtol=1e-4, atol=1e-3)
