"""Is there a better codebook, and how to choose one?"""

from tokenkl.optimality.accuracy_curvature import AccuracyCurvature, accuracy_curvature
from tokenkl.optimality.design import (
    LevelChoice,
    NoiseSchedule,
    information_range,
    information_uniform_schedule,
    recommend_levels,
    snr_of_information,
)
from tokenkl.optimality.distance import mean_nn_distance, min_distance, nn_distances
from tokenkl.optimality.local import LocalCertificate, certify_local, load_certificate
from tokenkl.optimality.measured import MeasuredSchedule, cross_entropy_schedule
from tokenkl.optimality.nn_bounds import nn_distance_bound

__all__ = [
    "AccuracyCurvature",
    "LevelChoice",
    "LocalCertificate",
    "MeasuredSchedule",
    "NoiseSchedule",
    "accuracy_curvature",
    "certify_local",
    "cross_entropy_schedule",
    "information_range",
    "information_uniform_schedule",
    "load_certificate",
    "mean_nn_distance",
    "min_distance",
    "nn_distance_bound",
    "nn_distances",
    "recommend_levels",
    "snr_of_information",
]
