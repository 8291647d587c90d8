"""Laws of short token sequences that are known exactly, and the tokenizations to compare.

The law is a Markov chain over K = L^n tokens. Its energies are of two kinds: a bilinear coupling
of the FSQ coordinates of neighbouring tokens, as tokens have whose geometry means something, and
free random numbers for every token and every pair, which no geometry explains.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import tokenkl as tk
from tokenkl._random import draw_ids, generator


@dataclasses.dataclass(frozen=True)
class Chain:
    """A Markov chain over K tokens: first token, then `transition` from each to the next."""

    length: int
    start: Float[np.ndarray, " K"]
    transition: Float[np.ndarray, "K K"]

    @property
    def K(self) -> int:
        """Number of tokens."""
        return self.start.size

    def joint(self) -> Float[np.ndarray, " states"]:
        """Probability of every sequence; the last token counts fastest."""
        law = self.start
        for _ in range(self.length - 1):
            law = law[..., None] * self.transition
        return law.ravel()

    def marginals(self) -> Float[np.ndarray, "length K"]:
        """Law of the token at every position."""
        rows = [self.start]
        for _ in range(self.length - 1):
            rows.append(rows[-1] @ self.transition)
        return np.stack(rows)

    def windows(self, width: int) -> Float[np.ndarray, "windows states"]:
        """`joint` of every `width` tokens side by side."""
        starts = self.marginals()[: self.length - width + 1]
        return np.stack([Chain(width, start, self.transition).joint() for start in starts])

    def sample(self, size: int, key: int) -> Int[np.ndarray, "size length"]:
        """Independent sequences."""
        states = draw_ids(generator(key), self.joint(), self.K**self.length, size)
        return np.stack(np.unravel_index(states, (self.K,) * self.length), axis=1)

    def entropy(self) -> float:
        """Entropy of a sequence, in nats."""
        law = self.joint()
        return float(-(law * np.log(law)).sum())


def draw_chain(
    base: int, n: int, length: int, key: int, *, coupling: float = 1.0, free: float = 0.5
) -> Chain:
    """A random chain over base^n tokens.

    Args:
        base, n: levels and dimension of the FSQ grid whose coordinates the coupling uses.
        length: tokens in a sequence.
        key: integer seed.
        coupling: size of the bilinear energies u' A v / sqrt(n), u and v scaled to unit variance
            in each coordinate and the entries of A standard normal.
        free: standard deviation of the free energies, of tokens and of pairs.
    """
    rng = generator(key, 0)
    u = tk.FSQ((base,) * n).points
    u = u / u.std(axis=0)
    matrix = rng.standard_normal((n, n))
    energy = coupling * u @ matrix @ u.T / np.sqrt(n)
    energy = energy + free * rng.standard_normal(energy.shape)
    transition = np.exp(energy - energy.max(axis=1, keepdims=True))
    start = np.exp(free * rng.standard_normal(len(u)))
    return Chain(length, start / start.sum(), transition / transition.sum(axis=1, keepdims=True))


#: The tokenizations, in the order of figures and tables.
FSQ, PERTURBED, PERTURBED_MORE = "FSQ", "perturbed 0.1", "perturbed 0.3"
BOXED = "perturbed 0.3, box"
PERMUTED, LATTICE, VQ, RANDOM = "permuted", "lattice", "VQ", "random"
ONE_HOT, LEARNED = "one-hot", "learned"
TOKENIZATIONS = (
    FSQ,
    PERTURBED,
    PERTURBED_MORE,
    PERMUTED,
    LATTICE,
    VQ,
    RANDOM,
    ONE_HOT,
    LEARNED,
    BOXED,
)
#: Those that keep FSQ's average power; the last is clipped to FSQ's box and left as it is.
SAME_POWER = TOKENIZATIONS[:-1]


def codebook_points(name: str, base: int, n: int, key: int) -> Float[np.ndarray, "K m"]:
    """Token coordinates of a tokenization, drawn anew for every key where it is random.

    All but the clipped one are centred and scaled to the average power of FSQ in [-1, 1]^n,
    under equal priors. Points of lattice, VQ and random codebooks go to the token ids whose FSQ
    points they are nearest to in total (optimal assignment), so that they share what the geometry
    of FSQ knows about the law; the permuted FSQ loses it. The learned embedding starts as the
    random one.
    """
    grid = tk.FSQ((base,) * n)
    K = grid.K
    if name == FSQ:
        return grid.points
    if name == BOXED:
        return tk.perturb(grid, 0.3, key, box=1.0).points
    if name in (PERTURBED, PERTURBED_MORE):
        points = tk.perturb(grid, 0.1 if name == PERTURBED else 0.3, key).points
    elif name == PERMUTED:
        points = tk.permute(grid, key).points
    elif name == LATTICE:
        points = _aligned(lattice_cut(n, K), grid.points)
    elif name == VQ:
        data = generator(key, 1).standard_normal((200 * K, n))
        points = _aligned(tk.vq_codebook(data, K, key=key, n_init=2).points, grid.points)
    elif name in (RANDOM, LEARNED):
        points = _aligned(generator(key, 2).standard_normal((K, n)), grid.points)
    elif name == ONE_HOT:
        points = np.eye(K)
    else:
        raise ValueError(f"name must be one of {TOKENIZATIONS}; got {name!r}.")
    return normalised(points, tk.average_power(grid))


def normalised(points: Float[np.ndarray, "K m"], power: float) -> Float[np.ndarray, "K m"]:
    """Centred and scaled to this average power under equal priors."""
    points = points - points.mean(axis=0)
    return points * np.sqrt(power / (points**2).sum(axis=1).mean())


def lattice_cut(n: int, K: int) -> Float[np.ndarray, "K n"]:
    """K points of the densest lattice in two or three dimensions around its best centre.

    Hexagonal (n = 2) or face-centred cubic (n = 3), neighbours at distance 1; the centre is the
    one of 4000 tried whose K nearest points have the least average power.
    """
    generators = {
        2: np.array([[1, 0], [0.5, np.sqrt(3) / 2]]),
        3: np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]]) / np.sqrt(2),
    }[n]
    lattice = np.array(list(itertools.product(range(-4, 5), repeat=n))) @ generators
    best, least = lattice[:K], np.inf
    for centre in generator(0, n).random((4000, n)) @ generators:
        order = np.argsort(((lattice - centre) ** 2).sum(axis=1), kind="stable")[:K]
        power = float(((lattice[order] - lattice[order].mean(axis=0)) ** 2).sum(axis=1).mean())
        if power < least - 1e-12:
            best, least = lattice[order], power
    return best


def _aligned(points: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The points in the order of the grid points that they are assigned to."""
    power = float(((grid - grid.mean(axis=0)) ** 2).sum(axis=1).mean())
    points = normalised(points, power)
    return points[linear_sum_assignment(cdist(grid, points) ** 2)[1]]
