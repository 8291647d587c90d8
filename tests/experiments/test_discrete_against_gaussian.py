"""Labels from the law alone."""

import numpy as np

from experiments.discrete_against_gaussian import FSQ, RELABELLED, Config, codebooks, transition
from tokenkl.sources import Markov


def test_labels_from_the_law_agree_with_it_as_well_as_its_own() -> None:
    """Neighbours' mean points, told by a linear map of the point: as much as of FSQ itself."""
    config = Config()
    chain = Markov(transition(config), 2)
    pair, books = chain.pair(0, 1), codebooks(config, chain)

    def told(points: np.ndarray) -> float:
        first, second = pair.sum(axis=1), pair.sum(axis=0)
        x, y = points - first @ points, points - second @ points
        white = np.linalg.inv(np.linalg.cholesky((first[:, None] * x).T @ x))
        other = np.linalg.inv(np.linalg.cholesky((second[:, None] * y).T @ y))
        sizes = np.linalg.svd(white @ (x.T @ pair @ y) @ other.T, compute_uv=False)
        return float(np.square(sizes).sum())

    own, permuted = told(books[FSQ].points), told(books["permuted"].points)
    assert told(books[RELABELLED].points) > own - 0.2 * (own - permuted)
    assert own > 1.5 * permuted
