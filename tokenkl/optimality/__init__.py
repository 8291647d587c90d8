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
from tokenkl.optimality.enclosed import Enclosed
from tokenkl.optimality.local import LocalCertificate, certify_local, load_certificate
from tokenkl.optimality.measured import MeasuredSchedule, cross_entropy_schedule
from tokenkl.optimality.nn_bounds import nn_distance_bound
from tokenkl.optimality.prove_less import LessCertificate, load_inequalities, prove_less
from tokenkl.optimality.second_moments import second_moment
from tokenkl.optimality.surplus import ThinnedBoard, drop_surplus
from tokenkl.optimality.which_grid import GridChoice, WhichGrid, which_grid

__all__ = [
    "AccuracyCurvature",
    "Enclosed",
    "GridChoice",
    "LessCertificate",
    "LevelChoice",
    "LocalCertificate",
    "MeasuredSchedule",
    "NoiseSchedule",
    "ThinnedBoard",
    "WhichGrid",
    "accuracy_curvature",
    "certify_local",
    "cross_entropy_schedule",
    "drop_surplus",
    "information_range",
    "information_uniform_schedule",
    "load_certificate",
    "load_inequalities",
    "mean_nn_distance",
    "min_distance",
    "nn_distance_bound",
    "nn_distances",
    "prove_less",
    "recommend_levels",
    "second_moment",
    "snr_of_information",
    "which_grid",
]
