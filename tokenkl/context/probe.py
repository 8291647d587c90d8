"""How well affine logits name noisy tokens of real sequences: a linear probe, cross-validated."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Int
from scipy import special
from scipy.optimize import minimize

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import (
    MAX_ELEMENTS,
    as_float_array,
    check_choice,
    check_count,
    check_ids,
    check_snr,
    reject,
)
from tokenkl.codebooks import Codebook
from tokenkl.codebooks.base import check_codebook
from tokenkl.context.affine import in_their_span, log_likelihood
from tokenkl.estimate import Estimate
from tokenkl.sources import Source

#: Ridges that are tried, each in units of one observed token.
RIDGES = (1000.0, 100.0, 10.0, 1.0)
#: Steps of the optimiser, for every ridge; what it has not reached counts as excess.
MOST_STEPS = 100
#: Numbers in one block of logits.
BLOCK = 2**22
#: What two probes are compared in.
Compared = Literal["cross_entropy", "excess"]


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """Held-out cross-entropies in nats per token, of the shape of the SNRs that were asked for.

    - `cross_entropy`: of the probe, E[-log q(k_i | Y)]. It is above the least of affine logits by
      what a finite corpus teaches badly, so that it is an upper bound of that least on average.
    - `alone`: of the token's own posterior, with the counted prior and no neighbours.
    - `excess`: of the probe over the posterior of a reference law, where one was given. If tokens
      follow the law it is nu, and more by what was taught badly; else it may be negative.
    - `sums`: of the three over every sequence, by SNR; of `excess` NaN without a reference; `sizes`
      are the numbers of tokens.

    Errors are those of a mean over sequences, which are taken as independent.
    """

    cross_entropy: Estimate
    alone: Estimate
    excess: Estimate | None
    sums: Float[np.ndarray, "3 snr sequences"]
    sizes: Int[np.ndarray, " sequences"]

    @property
    def gain(self) -> Estimate:
        """What neighbours and features tell: `alone` less `cross_entropy`, paired by sequence."""
        return self._mean(self.sums[1] - self.sums[0], "gain of the probe")

    def minus(self, other: Probe, of: Compared = "cross_entropy") -> Estimate:
        """The cross-entropy, or the excess, less another's, paired by sequence.

        Of two codebooks or labelings probed on the same tokens with the same key: noise, folds and
        sequences are common, so that the difference is known better than either.

        Raises:
            ValueError: probes of other sequences, SNRs or keys, or an excess without reference.
        """
        check_choice(of, get_args(Compared), "of")
        same = self.sums.shape == other.sums.shape and np.array_equal(self.sizes, other.sizes)
        if not same or self.cross_entropy.draws != other.cross_entropy.draws:
            reject("other", "a probe of other sequences, SNRs or key", "one with the same three")
        if of == "excess" and (self.excess is None or other.excess is None):
            reject("of", of, "'cross_entropy' where a probe had no reference")
        row = 0 if of == "cross_entropy" else 2
        return self._mean(self.sums[row] - other.sums[row], f"difference in {of}")

    def _mean(self, sums: Float[np.ndarray, "snr sequences"], quantity: str) -> Estimate:
        like = self.cross_entropy
        return _over_sequences(sums, self.sizes, np.shape(like.value), quantity, like)


def probe_nonlinearity(
    codebook: Codebook,
    tokens: Int[Any, "sequences length"] | Sequence[Any],
    snr: Float[Any, " *shape"],
    *,
    key: Any,
    features: Float[Any, "sequences length d"] | Sequence[Any] | None = None,
    window: int = 2,
    folds: int = 5,
    reference: Source | None = None,
) -> Probe:
    """Fit logits that are affine in noisy neighbours to token data, and see them on held-out data.

        log q(k | Y) = sqrt(snr) <Y_i, e_k> - snr |e_k|^2 / 2 + c_k + <B_k, (Y_j, features_i)> + ..,

    j the `window` neighbours on either side (0 beyond the ends of a sequence). c and B are fitted
    with a ridge that is chosen inside each training part; every sequence is seen by the fit that it
    had no part in. The cross-entropy holds H(k_i | Y), which data alone do not tell: compare two
    codebooks (`Probe.minus`), or give a `reference`.

    Args:
        codebook: points of the tokens.
        tokens: ids, one sequence in each row, or a list of sequences of any lengths.
        snr: signal-to-noise ratios, at least 0; results have their shape.
        key: integer seed or JAX key of noise and folds.
        features: what else is known at every token, such as its text, shaped as the tokens are with
            an axis more.
        window: neighbours on either side, at least 0.
        folds: parts of the sequences, each held out once, at least 2.
        reference: a law of sequences of that length, whose posterior is seen on the same noise.

    Raises:
        ValueError: an argument out of its range, fewer than two sequences for every fold, or shapes
            that do not fit.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=20)
        >>> found = tk.probe_nonlinearity(tk.FSQ((2,)), chain.sample(50, key=0), 0.5, key=1)
        >>> float(found.gain) > 0.1
        True
    """
    check_codebook(codebook)
    levels = check_snr(snr)
    check_count(window, "window", 0)
    check_count(folds, "folds", 2)
    data = _Data.of(codebook, tokens, features)
    if len(data.sizes) < 2 * folds:
        reject("tokens", f"{len(data.sizes)} sequences", f"at least {2 * folds}, two for each fold")
    points = in_their_span(codebook.points)
    noise = generator(key, 0).standard_normal((data.ids.size, codebook.n))[:, : points.shape[1]]
    fold = generator(key, 1).permutation(np.arange(len(data.sizes)) % folds)[data.sequence]
    if reference is not None:
        _check_reference(reference, codebook, data)
    rows, start = [], None
    for level in np.ravel(levels):
        seen = np.sqrt(level) * points[data.ids] + noise
        inputs = data.inputs(seen, window)
        own = np.column_stack([np.sqrt(level) * points, -level * (points**2).sum(axis=1) / 2])
        problem = _Fit(np.column_stack([seen, np.ones(len(seen))]), own, inputs, data)
        losses, alone, start = _held_out(problem, fold, folds, start)
        floor = np.full_like(losses, np.nan)
        if reference is not None:
            floor = _reference_loss(reference, points, float(level), seen, data)
        rows.append([data.sums(one) for one in (losses, alone, losses - floor)])
    sums = np.array(rows).reshape(levels.size, 3, len(data.sizes)).transpose(1, 0, 2)
    like = Estimate(levels, method="linear probe", seed=seed_of(key), draws=draws_of(key))
    names = ("cross-entropy of the probe", "cross-entropy alone", "excess of the probe")
    found = [
        _over_sequences(one, data.sizes, levels.shape, name, like)
        for one, name in zip(sums, names, strict=True)
    ]
    excess = found[2] if reference is not None else None
    return Probe(found[0], found[1], excess, sums, data.sizes)


class _Data(NamedTuple):
    """All tokens in one row, with the sequence and the place in it of each."""

    ids: Int[np.ndarray, " N"]
    sequence: Int[np.ndarray, " N"]
    sizes: Int[np.ndarray, " S"]
    features: Float[np.ndarray, "N d"]

    @staticmethod
    def of(codebook: Codebook, tokens: Any, features: Any) -> _Data:
        rows = _rows_of(tokens, "tokens", "sequences of ids, one in each row")
        parts = [check_ids(row, codebook.K, "tokens") for row in rows]
        if not parts or any(row.ndim != 1 or row.size == 0 for row in parts):
            reject("tokens", "no such sequences", "sequences of ids, one in each row")
        sizes = np.array([row.size for row in parts])
        beside = np.zeros((int(sizes.sum()), 0))
        if features is not None:
            expected = "one row for every token of every sequence"
            given = _rows_of(features, "features", expected)
            each = [as_float_array("features", row, ndim=2) for row in given]
            if [len(row) for row in each] != sizes.tolist() or len({r.shape[1] for r in each}) > 1:
                reject("features", "of other shapes", expected)
            beside = np.concatenate(each)
        sequence = np.repeat(np.arange(len(sizes)), sizes)
        return _Data(np.concatenate(parts), sequence, sizes, beside)

    def inputs(self, seen: Float[np.ndarray, "N m"], window: int) -> Float[np.ndarray, "N d"]:
        """1, noisy neighbours, and features, the latter two in units of their deviations."""
        columns = [self.features]
        for shift in (*range(-window, 0), *range(1, window + 1)):
            moved = np.zeros_like(seen)
            here = slice(max(0, -shift), len(seen) - max(0, shift))
            there = slice(max(0, shift), len(seen) + min(0, shift))
            same = (self.sequence[here] == self.sequence[there])[:, None]
            moved[here] = np.where(same, seen[there], 0.0)
            columns.append(moved)
        found = np.concatenate(columns, axis=1)
        spread = found.std(axis=0)
        found = (found - found.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        if found.size > MAX_ELEMENTS:
            expected = f"few enough for {MAX_ELEMENTS:,} numbers"
            reject("tokens", f"{len(seen):,} with {found.shape[1]} inputs each", expected)
        return np.column_stack([np.ones(len(seen)), found])

    def sums(self, losses: Float[np.ndarray, " N"]) -> Float[np.ndarray, " S"]:
        return np.bincount(self.sequence, losses, len(self.sizes))


class _Fit(NamedTuple):
    """Losses of logits own + inputs . theta, and their gradients, over some of the tokens."""

    seen: Float[np.ndarray, "N m1"]
    own: Float[np.ndarray, "K m1"]
    inputs: Float[np.ndarray, "N d"]
    data: _Data

    def losses(self, theta: Float[np.ndarray, "K d"], rows: np.ndarray) -> np.ndarray:
        found = np.empty(len(rows))
        for part in _blocks(len(rows), len(self.own)):
            logs = self._logs(theta, rows[part])
            found[part] = -logs[np.arange(len(logs)), self.data.ids[rows[part]]]
        return found

    def best(
        self, rows: np.ndarray, ridge: float, start: Float[np.ndarray, "K d"]
    ) -> Float[np.ndarray, "K d"]:
        """The least mean loss plus ridge |theta|^2 / 2 N, around the counted prior."""
        centre = self.prior(rows)

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            theta = flat.reshape(centre.shape)
            total, slope = 0.0, np.zeros_like(theta)
            for part in _blocks(len(rows), len(self.own)):
                here = rows[part]
                logs = self._logs(theta, here)
                places = (np.arange(len(here)), self.data.ids[here])
                total -= float(logs[places].sum())
                np.exp(logs, out=logs)
                logs[places] -= 1
                slope += logs.T @ self.inputs[here]
            away = theta - centre
            value = (total + ridge * float((away**2).sum()) / 2) / len(rows)
            return value, ((slope + ridge * away) / len(rows)).ravel()

        options = {"maxiter": MOST_STEPS, "ftol": 1e-9, "gtol": 1e-7}
        found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
        best: np.ndarray = found.x.reshape(centre.shape)
        return best

    def prior(self, rows: np.ndarray) -> Float[np.ndarray, "K d"]:
        """No slopes, and the logarithms of counted frequencies, a token more for all together."""
        K = len(self.own)
        counts = np.bincount(self.data.ids[rows], minlength=K) + 1 / K
        found = np.zeros((K, self.inputs.shape[1]))
        found[:, 0] = np.log(counts / counts.sum())
        return found

    def _logs(self, theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
        logits = self.seen[rows] @ self.own.T + self.inputs[rows] @ theta.T
        found: np.ndarray = special.log_softmax(logits, axis=1)
        return found


def _held_out(
    fit: _Fit, fold: np.ndarray, folds: int, starts: list[np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Losses of every token under the fit without its fold, those without slopes, and the fits."""
    losses, alone, found = np.empty(len(fold)), np.empty(len(fold)), []
    for held in range(folds):
        train, test = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
        inner = fold[train] == (held + 1) % folds
        some, check = train[~inner] if folds > 2 else train, train[inner]
        theta = fit.prior(some) if starts is None else starts[held]
        ridge, least, kept = RIDGES[0], np.inf, theta
        for one in RIDGES:
            if folds == 2:  # no part is left to choose on
                ridge = RIDGES[1]
                break
            theta = fit.best(some, one, theta)
            mean = float(fit.losses(theta, check).mean())
            if mean > least:
                break
            ridge, least, kept = one, mean, theta
        theta = fit.best(train, ridge, kept)
        found.append(theta)
        losses[test] = fit.losses(theta, test)
        alone[test] = fit.losses(fit.prior(train), test)
    return losses, alone, found


def _check_reference(reference: Source, codebook: Codebook, data: _Data) -> None:
    if not isinstance(reference, Source):
        reject("reference", reference, "one of tokenkl.sources, such as tk.sources.Markov(...)")
    if reference.K != codebook.K:
        reject("reference", f"over {reference.K} tokens", f"over {codebook.K}, as codebook")
    if (data.sizes != reference.length).any():
        lengths = f"sequences of {data.sizes.min()} to {data.sizes.max()} tokens"
        reject("tokens", lengths, f"of length {reference.length}, as reference")


def _reference_loss(
    reference: Source, points: np.ndarray, snr: float, seen: np.ndarray, data: _Data
) -> Float[np.ndarray, " N"]:
    """-log p(k_i | Y) of every token by the reference."""
    length, K = reference.length, reference.K
    ids, found = data.ids.reshape(-1, length), np.empty((len(data.sizes), length))
    seen = seen.reshape(*ids.shape, seen.shape[1])
    for part in _blocks(len(ids), length * K):
        given = log_likelihood(points, snr, seen[part])
        message, _ = reference.messages(given)
        logs = special.log_softmax(message + given, axis=-1)
        found[part] = -np.take_along_axis(logs, ids[part][..., None], axis=-1)[..., 0]
    return found.ravel()


def _over_sequences(
    sums: Float[np.ndarray, "snr S"],
    sizes: Int[np.ndarray, " S"],
    shape: tuple[int, ...],
    quantity: str,
    like: Estimate,
) -> Estimate:
    """Mean over tokens, its error from the scatter of sequences."""
    count, total = len(sizes), sizes.sum()
    mean = sums.sum(axis=1) / total
    scatter = ((sums - mean[:, None] * sizes) ** 2).sum(axis=1) * count / (count - 1)
    return Estimate(
        mean.reshape(shape)[()],
        standard_error=(np.sqrt(scatter) / total).reshape(shape)[()],
        n_samples=count,
        degrees_of_freedom=count - 1.0,
        method="linear probe",
        quantity=quantity,
        unit="nats",
        seed=like.seed,
        draws=like.draws,
    )


def _rows_of(value: Any, name: str, expected: str) -> list[Any]:
    try:
        return list(value)
    except TypeError:
        reject(name, value, expected)


def _blocks(size: int, width: int) -> list[slice]:
    rows = max(1, BLOCK // width)
    return [slice(start, start + rows) for start in range(0, size, rows)]
