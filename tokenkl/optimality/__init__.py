"""Is there a better codebook?"""

from tokenkl.optimality.distance import mean_nn_distance, min_distance, nn_distances

__all__ = [
    "mean_nn_distance",
    "min_distance",
    "nn_distances",
]
