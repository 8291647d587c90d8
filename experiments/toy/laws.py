"""Laws that live in the coordinates of one geometry or another, and networks trained on them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

import tokenkl as tk
from experiments.toy import data, evaluate
from experiments.toy.train import train
from tokenkl._random import generator

#: The law whose energies are free numbers, which no geometry explains.
FREE = "free"
#: Kinds of laws: bilinear in the coordinates of a tokenization, or free.
LAWS = (data.FSQ, data.PERMUTED, data.LATTICE, data.RANDOM, FREE)
#: Tokenizations that meet them, all of FSQ's average power.
GEOMETRIES = (
    data.FSQ,
    data.PERTURBED_MORE,
    data.PERMUTED,
    data.LATTICE,
    data.VQ,
    data.RANDOM,
    data.ONE_HOT,
)


def points_key(seed: int, number: int) -> int:
    """Key of the points that are drawn for one of the laws; its own geometry has the same."""
    return seed + 1000 * (number + 1)


def draw_law(law: str, base: int, n: int, length: int, seed: int, number: int) -> data.Chain:
    """One of the laws of a kind; all kinds of a number share the coupling and the free energies.

    As `data.draw_chain`, with the standardised coordinates of the named geometry in place of
    FSQ's, and the size of the free energies doubled where there is no coupling.
    """
    if law in (data.FSQ, FREE):
        coupled = law == data.FSQ
        key, free = seed + number, 0.5 if coupled else 1.0
        return data.draw_chain(base, n, length, key, coupling=float(coupled), free=free)
    u = data.codebook_points(law, base, n, points_key(seed, number))
    u = (u - u.mean(axis=0)) / u.std(axis=0)
    rng = generator(seed + number, 0)
    matrix = rng.standard_normal((n, n))
    energy = u @ matrix @ u.T / np.sqrt(n)
    energy = energy + 0.5 * rng.standard_normal(energy.shape)
    transition = np.exp(energy - energy.max(axis=1, keepdims=True))
    start = np.exp(0.5 * rng.standard_normal(len(u)))
    return data.Chain(
        length, start / start.sum(), transition / transition.sum(axis=1, keepdims=True)
    )


def lanes(
    names: tuple[str, ...], base: int, n: int, length: int, seed: int, numbers: int
) -> list[tuple[str, int, data.Chain]]:
    """Kind, number and law of all that is trained in one go."""
    return [
        (name, number, draw_law(name, base, n, length, seed, number))
        for number in range(numbers)
        for name in names
    ]


def points_of(
    geometry: str, base: int, n: int, seed: int, of: list[tuple[str, int, data.Chain]]
) -> np.ndarray:
    """The points of a tokenization for every lane."""
    return np.stack(
        [data.codebook_points(geometry, base, n, points_key(seed, number)) for _, number, _ in of]
    )


@dataclasses.dataclass(frozen=True)
class Bench:
    """One tokenization of several laws over base^n tokens, to be trained and measured.

    - `of`: kind, number and law, see `lanes`.
    - `key`: of the noise in training and of what is generated; `seed` is that of the points.
    - `widths`: of the windows whose law is compared; `samples` sequences are generated for it.
    - `pool`: least probability of a group of windows that is counted.
    """

    geometry: str
    of: list[tuple[str, int, data.Chain]]
    base: int
    n: int
    seed: int
    key: int
    steps: tuple[int, ...]
    widths: tuple[int, ...]
    samples: int
    pool: float

    @property
    def laws(self) -> list[data.Chain]:
        """One for every lane."""
        return [chain for _, _, chain in self.of]

    @functools.cached_property
    def points(self) -> Float[np.ndarray, "lanes K m"]:
        """Where the tokens are."""
        return points_of(self.geometry, self.base, self.n, self.seed, self.of)

    @functools.cached_property
    def exact(self) -> evaluate.ExactDenoiser:
        """The denoisers that networks are to learn."""
        return evaluate.exact_denoiser(self.laws, self.points)

    def rows(
        self, quantity: str, values: Any, errors: Any, *, budget: int = 0, steps: int = 0
    ) -> pd.DataFrame:
        """A row for every lane."""
        frame = pd.DataFrame([(law, number) for law, number, _ in self.of], columns=["law", "seed"])
        frame = frame.assign(quantity=quantity, budget=budget, steps=steps)
        frame = frame.assign(value=values, error=errors, base=self.base)
        return frame.assign(length=self.laws[0].length, geometry=self.geometry)

    def kl(
        self, quantity: str, denoiser: Any, steps: Iterable[int], budget: int = 0
    ) -> list[pd.DataFrame]:
        """KL(data || generated) of the DDIM sampler, of whole sequences or of narrower windows."""
        length = self.laws[0].length
        parts = []
        for count in steps:
            every = evaluate.window_counts(
                denoiser,
                self.points,
                steps=count,
                most_steps=max(self.steps),
                sampler="ddim",
                n_samples=self.samples,
                length=length,
                widths=self.widths,
                seed=self.key,
            )
            for width, counts in zip(self.widths, every, strict=True):
                found = [
                    evaluate.window_kl(chain.windows(width), own, self.pool)
                    for chain, own in zip(self.laws, counts, strict=True)
                ]
                name = quantity if width == self.widths[0] else f"{quantity} of {width}"
                values, errors = np.transpose(found)
                parts.append(self.rows(name, values, errors, budget=budget, steps=count))
        return parts

    def trained(
        self,
        network: Callable[..., Any],
        *,
        budgets: tuple[int, ...],
        early: tuple[int, ...],
        batch: int,
        rate: float,
        gap_batch: int,
        progress: Callable[[float], None],
    ) -> list[pd.DataFrame]:
        """Rows "KL" by steps, and "excess", the excess cross-entropy of a token over uniform times.

        `network` is as in `train`. After budgets before the last one only `early` steps are taken.
        """
        networks = train(
            self.points,
            self.laws,
            network,
            power=tk.average_power(tk.FSQ((self.base,) * self.n)),
            budgets=budgets,
            batch=batch,
            rate=rate,
            seed=self.key,
            progress=lambda share: progress(0.6 * share),
        )
        t = 1 - np.arange(25) / 25
        parts = []
        for budget, one in zip(budgets, networks, strict=True):
            parts += self.kl("KL", one, self.steps if budget == budgets[-1] else early, budget)
            gaps, _ = evaluate.denoiser_gaps(
                one, self.exact, self.points, self.laws, t, batch=gap_batch, seed=self.key
            )
            excess = (gaps / self.laws[0].length).mean(axis=1)
            parts.append(self.rows("excess", excess, 0.0, budget=budget))
        return parts

    def nonlinearity(
        self, samples: int, position: int | None, progress: Callable[[float], None]
    ) -> pd.DataFrame:
        """The integral of nu over log snr, from draws at every SNR."""
        found = []
        for index, (chain, own) in enumerate(zip(self.laws, self.points, strict=True)):
            one = tk.nonlinearity_integral(
                tk.PointCodebook(own),
                tk.sources.Markov(chain.transition, chain.length, chain.start),
                position=position,
                method=tk.MonteCarlo(samples),
                key=self.key,
            )
            found.append((float(one.value), float(one.standard_error + one.numerical_error)))
            progress((index + 1) / len(self.of))
        return self.rows("int nu", *np.transpose(found))
