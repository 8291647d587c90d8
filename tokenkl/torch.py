"""Information about a token as torch functions: tensors with gradients, for training loops.

`weight` holds the tokens (the `weight` of an `nn.Embedding`, say), and the channel is the one of
`tokenkl.profile`: Y = sqrt(snr) e_k + eps with eps ~ N(0, I). Every function draws tokens and noise
once and averages what the posterior of each observation says. With the same `key` these random
numbers are the same, whatever the weights, so that the average is a smooth function, and its
gradients in weight, snr and prior are those of the average itself: both are unbiased. Accuracy is
the mean of the largest posterior probability, not of the indicator of a correct guess: that has the
same mean, and its slope shows where the mean goes, where the slope of the indicator is 0.

Work is in float64 on the device of the weights (on the CPU where the device has none), in blocks
that backward computes anew where keeping them would be large. Needs the extra `torch`; not imported
by `import tokenkl`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tokenkl._extras import MissingExtra

try:
    import torch
except ImportError as error:
    raise MissingExtra("tokenkl.torch", "torch", "torch") from error

from torch.autograd.function import once_differentiable

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import check_count, check_prior, check_snr, reject
from tokenkl.codebooks import PointCodebook
from tokenkl.estimate import Estimate
from tokenkl.information import QUANTITIES
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.outside import findings
from tokenkl.quantities import QUANTITIES as TABLE
from tokenkl.quantities import check_quantities
from tokenkl.quantizers import LatticeQuantizer, LeechQuantizer

__all__ = [
    "LatticeQuantizer",
    "LeechQuantizer",
    "Sampled",
    "accuracy",
    "conditional_entropy",
    "error_probability",
    "mmse",
    "mutual_information",
    "profile",
    "sampling_error",
]

#: Samples where no number is given.
DEFAULT_SAMPLES = 2**11
#: Samples that choose the route to the information, and are no part of the average.
PILOT = 2**8
#: Posterior probabilities in one block, and so many in all that they are kept for backward.
BLOCK, KEPT = 2**16, 2**22
#: Samples in a block of many tokens, which are read once for all of them.
FEWEST = 16
#: Stands for minus infinity, times which 0 is 0.
LOWEST = -1e300
#: Coordinates whose squares and their sums fit float64.
LARGEST = 1e100
#: Streams of random numbers below the key.
SAMPLE, PILOT_SAMPLE = (), (1,)


class Sampled(NamedTuple):
    """A quantity as `profile` gives it: with a gradient, and with what is known of its error."""

    value: torch.Tensor
    estimate: Estimate


def mutual_information(
    weight: torch.Tensor,
    snr: Any,
    prior: Any = None,
    *,
    key: Any,
    n_samples: int = DEFAULT_SAMPLES,
) -> torch.Tensor:
    """I(token; Y) in nats, an unbiased average over samples, with gradients.

    Of two averages with this mean, H(prior) less the entropy of the posterior, and the divergence
    of the posterior from the prior, that with the smaller variance is taken at every SNR, as other
    samples (the first 256) have it.

    Args:
        weight: (K, n) coordinates of the tokens, an `nn.Parameter` or any tensor of real numbers.
            Equal rows are tokens that nothing tells apart.
        snr: signal-to-noise ratios alpha^2 / sigma^2, at least 0: a number, an array or a tensor,
            which may have a gradient where it is above 0.
        prior: (K,) probabilities, strictly positive, summing to 1; equal when None. A tensor may
            have a gradient, as `logits.softmax(0)`.
        key: integer seed or JAX key, for the same random numbers in every call; or a
            `torch.Generator`, for fresh ones.
        n_samples: how many, at least 2; the error falls with its root. `profile` says how large
            it is.

    Returns:
        A tensor of the shape of `snr`, on the device of `weight`, in its precision but at least
        float32.

    Raises:
        ValueError: weights that are not finite or not (K, n), an snr that is negative or not
            finite, a prior that is no law over the tokens, or a key that is none.

    Example:
        >>> import torch, tokenkl as tk
        >>> tokens = torch.nn.Embedding.from_pretrained(torch.eye(4), freeze=False)
        >>> information = tk.torch.mutual_information(tokens.weight, snr=4.0, key=0)
        >>> information.backward()
        >>> tokens.weight.grad.shape
        torch.Size([4, 4])
        >>> exact = tk.mutual_information(tk.OneHot(4), 4.0)
        >>> abs(information.item() - float(exact)) < 0.03
        True
    """
    return _average("mutual_information", weight, snr, prior, key, n_samples)


def conditional_entropy(
    weight: torch.Tensor,
    snr: Any,
    prior: Any = None,
    *,
    key: Any,
    n_samples: int = DEFAULT_SAMPLES,
) -> torch.Tensor:
    """H(token | Y) in nats; arguments, result and errors as in `mutual_information`."""
    return _average("conditional_entropy", weight, snr, prior, key, n_samples)


def accuracy(
    weight: torch.Tensor,
    snr: Any,
    prior: Any = None,
    *,
    key: Any,
    n_samples: int = DEFAULT_SAMPLES,
) -> torch.Tensor:
    """E max_k p(k | Y), the probability that the best guess is right.

    Arguments, result and errors as in `mutual_information`.
    """
    return _average("accuracy", weight, snr, prior, key, n_samples)


def error_probability(
    weight: torch.Tensor,
    snr: Any,
    prior: Any = None,
    *,
    key: Any,
    n_samples: int = DEFAULT_SAMPLES,
) -> torch.Tensor:
    """1 - E max_k p(k | Y), without cancellation where errors are few.

    Arguments, result and errors as in `mutual_information`.
    """
    return _average("error_probability", weight, snr, prior, key, n_samples)


def sampling_error(
    weight: torch.Tensor,
    snr: Any,
    prior: Any = None,
    *,
    key: Any,
    n_samples: int = DEFAULT_SAMPLES,
) -> torch.Tensor:
    """1 - E sum_k p(k | Y)^2, the probability that a token drawn from the posterior is wrong.

    Arguments, result and errors as in `mutual_information`.
    """
    return _average("sampling_error", weight, snr, prior, key, n_samples)


def mmse(
    weight: torch.Tensor,
    snr: Any,
    prior: Any = None,
    *,
    key: Any,
    n_samples: int = DEFAULT_SAMPLES,
) -> torch.Tensor:
    """E || e_k - E[e_k | Y] ||^2, in squared units of the weights.

    Arguments, result and errors as in `mutual_information`.
    """
    return _average("mmse", weight, snr, prior, key, n_samples)


def profile(
    weight: torch.Tensor,
    snr: Any,
    quantities: str | Sequence[str] = QUANTITIES,
    prior: Any = None,
    *,
    key: Any,
    n_samples: int = DEFAULT_SAMPLES,
) -> dict[str, Sampled]:
    """Several quantities from the same samples, each with its `Estimate`.

    The estimate has the value in float64 with its standard error, and says where too few samples
    carry it for that error to be trusted, as those of `tokenkl.profile` do; that function needs
    fewer samples for the same error, and is the one to take where no gradient is wanted. Arguments
    and errors as in `mutual_information`; `quantities` is one or more of `tokenkl.QUANTITIES` and
    "sampling_error".

    Example:
        >>> import torch, tokenkl as tk
        >>> found = tk.torch.profile(torch.eye(4), 4.0, ["accuracy", "mmse"], key=0)
        >>> value, estimate = found["mmse"]  # a tensor, and what is known of its error
        >>> round(float(estimate), 2), round(float(estimate.standard_error), 3)
        (0.25, 0.005)
    """
    quantities = check_quantities(quantities)
    run = _Run(quantities, weight, snr, prior, key, n_samples)
    tokens = run.weight.detach().cpu().double().numpy()
    law = None if prior is None else run.prior.detach().cpu().numpy()
    levels = run.snr.detach().cpu().numpy()
    found = findings(
        Problem(PointCodebook(tokens, law, allow_duplicates=True), levels.ravel()),
        run.statistics.detach().cpu().numpy(),
        quantities,
        None if run.direct is None else run.direct.cpu().numpy(),
        "Monte-Carlo in torch",
    )
    draws = () if isinstance(key, torch.Generator) else draws_of(key)
    out = {}
    for name, one in found.items():
        words = {"quantity": name, "unit": TABLE[name].unit, "seed": seed_of(key), "draws": draws}
        out[name] = Sampled(run.average(name), one.estimate(levels.shape, **words))
    return out


def _average(name: str, *given: Any) -> torch.Tensor:
    return _Run((name,), *given).average(name)


class _Run:
    """What was given, as tensors of the work, and the statistics of every sample and level."""

    def __init__(
        self,
        quantities: Sequence[str],
        weight: torch.Tensor,
        snr: Any,
        prior: Any,
        key: Any,
        n_samples: int,
    ) -> None:
        check_count(n_samples, "n_samples", 2)
        self.weight = _check_weight(weight)
        K = weight.shape[0]
        # Some devices have no float64.
        device = torch.device("cpu") if weight.device.type == "mps" else weight.device
        place: dict[str, Any] = {"device": device, "dtype": torch.float64}
        self.snr = torch.as_tensor(snr if _has_gradient(snr) else check_snr(snr), **place)
        if self.snr.requires_grad and not (check_snr(snr) > 0).all():
            reject("snr", 0.0, "above 0 everywhere where it has a gradient")
        law = np.full(K, 1 / K) if prior is None else check_prior(prior, K)
        self.prior = torch.as_tensor(prior if _has_gradient(prior) else law, **place)
        self.prior = self.prior / self.prior.sum()
        self.log_prior = self.prior.log()
        points = self.weight.to(**place)
        self.points = points - points.mean(0)
        #: Statistics that cost more are found where they are asked for.
        self.wanted = {"mmse", "sampling_error"} & set(quantities)
        #: Where the information comes from the divergence from the prior; None where nobody asks.
        self.direct: torch.Tensor | None = None
        if {"mutual_information", "conditional_entropy"} & set(quantities):
            with torch.no_grad():
                values, _ = self._sample(key, PILOT_SAMPLE, PILOT)
            spread, mean = torch.var_mean(values, -1)
            # Equal priors have equal spreads: then the smaller one, which keeps more digits.
            cost = spread + 1e-9 * mean**2
            self.direct = cost[:, 3] < cost[:, 1]
        self.statistics, self.share = self._sample(key, SAMPLE, n_samples)

    def average(self, name: str) -> torch.Tensor:
        """The mean of a quantity, in the shape of the SNRs."""
        mean = (self.statistics * self.share).mean(-1)
        error, entropy, variance, divergence, sampling = mean.unbind(1)
        if self.direct is not None:
            whole = -(self.prior * self.log_prior).sum()
            divergence = torch.where(self.direct, divergence, whole - entropy)
            entropy = torch.where(self.direct, whole - divergence, entropy)
        value = {
            "accuracy": 1 - error,
            "error_probability": error,
            "conditional_entropy": entropy,
            "mutual_information": divergence,
            "mmse": variance,
            "sampling_error": sampling,
        }[name]
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        return value.reshape(self.snr.shape).to(self.weight.device, dtype)

    def _sample(
        self, key: Any, stream: tuple[int, ...], size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Statistics (levels, 5, samples), and the prior of each token over what drew it."""
        K, n = self.points.shape
        uniform, noise = _draws(key, stream, size, n)
        edges = self.prior.detach().cumsum(0)
        ids = torch.searchsorted(edges / edges[-1], uniform.to(edges), right=True)
        ids = ids.clamp(max=K - 1)
        order = ids.argsort()  # so that a block has few different tokens
        ids, noise = ids[order], noise.to(edges)[order]
        given = self.points, self.log_prior, self.snr.reshape(-1), ids, noise, self.wanted
        values: torch.Tensor = _Statistics.apply(*given)
        return values, (self.prior / self.prior.detach())[ids]


class _Statistics(torch.autograd.Function):
    """Error, entropy and variance of posteriors, divergence from the prior, error of a draw.

    (levels, 5, samples), as `information.sampling.kernel` has them. Where there are many, backward
    finds the posteriors anew, so that no more than a block of them is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        points: torch.Tensor,
        log_prior: torch.Tensor,
        snr: torch.Tensor,
        ids: torch.Tensor,
        noise: torch.Tensor,
        wanted: set[str],
    ) -> torch.Tensor:
        ctx.save_for_backward(points, log_prior, snr, ids, noise)
        ctx.wanted, ctx.kept = wanted, None
        blocks: Iterable[_Block] = _blocks(points, log_prior, snr, ids, noise, wanted)
        is_small = ids.numel() * snr.numel() * log_prior.numel() <= KEPT
        if is_small and any(ctx.needs_input_grad):
            ctx.kept = blocks = list(blocks)
        return torch.cat([block.statistics() for block in blocks], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        points, log_prior, snr, ids, noise = ctx.saved_tensors
        totals = [torch.zeros_like(one) for one in (points, log_prior, snr)]
        blocks = ctx.kept or _blocks(points, log_prior, snr, ids, noise, ctx.wanted)
        ctx.kept = None  # whoever keeps the loss does not keep them
        pieces = grad.split(_size_of_block(points, snr), -1)
        for block, piece in zip(blocks, pieces, strict=True):
            for total, part in zip(totals, block.gradients(piece), strict=True):
                total += part
        return (*totals, None, None, None)


def _size_of_block(points: torch.Tensor, snr: torch.Tensor) -> int:
    each = points.shape[0] * max(snr.numel(), 1)
    return max(BLOCK // each, min(FEWEST, KEPT // each), 1)


def _blocks(
    points: torch.Tensor,
    log_prior: torch.Tensor,
    snr: torch.Tensor,
    ids: torch.Tensor,
    noise: torch.Tensor,
    wanted: set[str],
) -> Iterator[_Block]:
    size = _size_of_block(points, snr)
    for some, their_noise in zip(ids.split(size), noise.split(size), strict=True):
        yield _Block(points, log_prior, snr, some, their_noise, wanted)


class _Block:
    """Posteriors of some samples, (levels, samples, K): the best token has logit 0 and weight 1.

    Logits of a sample are h <eps, e_j - e_k> - h^2 |e_j - e_k|^2 / 2 + log pi_j up to a constant.
    Squares come from differences of tokens, since what cancels in them is large.
    """

    def __init__(
        self,
        points: torch.Tensor,
        log_prior: torch.Tensor,
        snr: torch.Tensor,
        ids: torch.Tensor,
        noise: torch.Tensor,
        wanted: set[str],
    ) -> None:
        self.points, self.log_prior, self.ids, self.wanted = points, log_prior, ids, wanted
        self.snr, self.h = snr[:, None, None], snr.sqrt()[:, None, None]
        self.noise = noise
        self.true, self.place = torch.unique_consecutive(ids, return_inverse=True)
        by_differences = "donot_use_mm_for_euclid_dist"
        squared = torch.cdist(points[self.true], points, compute_mode=by_differences).square_()
        self.squared = squared
        fixed = (log_prior - self.snr / 2 * squared).clamp_(min=LOWEST)[:, self.place]
        along = noise @ points.T
        along -= along.gather(1, ids[:, None])
        self.logits = fixed.addcmul_(self.h, along)
        top, self.best = self.logits.max(-1, keepdim=True)
        self.logits -= top
        others = self.logits.exp().scatter_(-1, self.best, 0.0)
        self.odds = others.sum(-1)  # against the best token, a sum of small terms where it is small
        self.total = 1 + self.odds
        self.sampling = torch.zeros_like(self.odds)
        if "sampling_error" in wanted:
            split = (others * (self.total[..., None] - others)).sum(-1)
            self.sampling = (self.odds + split) / self.total.square()
        self.weight = others.scatter_(-1, self.best, 1.0)
        self.error = self.odds / self.total
        mean_logit = (self.weight * self.logits).sum(-1) / self.total
        self.log_total = self.odds.log1p()
        self.entropy = self.log_total - mean_logit
        self.divergence = -self.entropy - self.weight @ log_prior / self.total
        self.variance = torch.zeros_like(self.error)
        if "mmse" in wanted:
            self.mean = self.weight @ points / self.total[..., None]
            self.away = self.mean - points[ids]  # from the true token
            second = (self.weight * squared[self.place]).sum(-1) / self.total
            self.variance = second - self.away.square().sum(-1)

    def statistics(self) -> torch.Tensor:
        found = self.error, self.entropy, self.variance, self.divergence, self.sampling
        return torch.stack(found, 1)

    def gradients(self, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """In points, log-prior and SNR, of the sum of `grad` times the statistics.

        In a logit l_j, of p_j = w_j / total: the error has the slope p_b p_j, and -p_b P_e at the
        best token; entropy and divergence have those of sums of p log p; a mean of f_j under p has
        p_j (f_j - mean).
        """
        each = (grad / self.total[:, None]).unbind(1)
        error, entropy, variance, divergence, sampling = each
        constant = (
            entropy * (self.log_total - self.entropy)
            - divergence * (self.log_total + self.divergence)
            - variance * self.variance
        )
        slope = self.logits * (divergence - entropy)[..., None] + constant[..., None]
        slope -= divergence[..., None] * self.log_prior
        if "mmse" in self.wanted:
            # |e_j - m|^2 is |e_j - e_k|^2 and what is linear in e_j.
            away = self.away
            rest = away.square().sum(-1) + 2 * (away * self.points[self.ids]).sum(-1)
            distance = self.squared[self.place] - 2 * away @ self.points.T + rest[..., None]
            slope += variance[..., None] * distance
        # 2 p_j (1 - p_j - S), at the best token by P_e, where that is small.
        own = 2 * sampling * (self.error - self.sampling) - error * self.error
        own = own[..., None] + slope.gather(-1, self.best)
        slope += (error / self.total + 2 * sampling * (1 - self.sampling))[..., None]
        if "sampling_error" in self.wanted:
            slope -= 2 * (sampling / self.total)[..., None] * self.weight
        slope = slope.scatter_(-1, self.best, own).mul_(self.weight)
        # From slopes in logits to those in what they are made of.
        flat, weight = slope.flatten(0, 1), self.weight.flatten(0, 1)
        in_prior = flat.sum(0) - divergence.flatten() @ weight
        in_points = flat.T @ (self.h * self.noise).flatten(0, 1)
        by_token = torch.zeros(len(self.snr), *self.squared.shape).to(slope)
        by_token.index_add_(1, self.place, slope)
        in_squared, true = -(self.snr / 2 * by_token).sum(0), self.points[self.true]
        in_points += 2 * (in_squared.sum(0)[:, None] * self.points - in_squared.T @ true)
        at_true = in_squared.sum(1, keepdim=True) * true - in_squared @ self.points
        in_points.index_add_(0, self.true, 2 * at_true)
        # Slopes add up to 0 but for rounding, which would count from the origin.
        step = slope @ self.points - slope.sum(-1, keepdim=True) * self.points[self.ids]
        in_h = (step * self.noise).sum((1, 2))
        in_snr = in_h / (2 * self.h[:, 0, 0]) - (by_token * self.squared).sum((1, 2)) / 2
        if "mmse" in self.wanted:
            share = variance.flatten()[:, None] * weight
            moved = share.sum(0)[:, None] * self.points - share.T @ self.mean.flatten(0, 1)
            in_points += 2 * moved
        return in_points, in_prior, in_snr


def _draws(
    key: Any, stream: tuple[int, ...], size: int, n: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform numbers for tokens, and noise; where a generator makes them, on its device."""
    if isinstance(key, torch.Generator):
        place: dict[str, Any] = {"generator": key, "device": key.device}
        if key.device.type != "mps":
            place["dtype"] = torch.float64
        return torch.rand(size, **place), torch.randn(size, n, **place)
    rng = generator(key, *stream)
    uniform, noise = rng.random(size), rng.standard_normal((size, n))
    return torch.from_numpy(uniform), torch.from_numpy(noise)


def _has_gradient(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _check_weight(weight: Any) -> torch.Tensor:
    """A (K, n) tensor of finite real numbers."""
    expected = "a (K, n) tensor of floating-point numbers with K >= 1 and n >= 1"
    if not isinstance(weight, torch.Tensor):
        reject("weight", weight, expected)
    if weight.ndim != 2 or 0 in weight.shape or not weight.is_floating_point():
        reject("weight", f"one of {weight.dtype} and shape {tuple(weight.shape)}", expected)
    fits = weight.detach().isfinite() & (weight.detach().abs() <= LARGEST)
    if not fits.all():
        shown = f"a tensor holding {weight[~fits][0].item()}"
        reject("weight", shown, f"finite, and not beyond {LARGEST:g}, everywhere")
    return weight
