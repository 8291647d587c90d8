"""The largest distance, against all pairs by differences, at any size and far from the origin."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from tokenkl.numerics.distances import largest_distance

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(
    "points",
    [
        RNG.standard_normal((300, 7)),
        RNG.standard_normal((60, 3)) + 1e9,
        RNG.standard_normal((60, 3)) * [1e-9, 1, 1e6],
        np.eye(40),
        RNG.integers(0, 3, (200, 4)).astype(float),
        np.full((5, 2), 0.1),
        np.zeros((1, 3)),
    ],
)
def test_largest_distance(points: np.ndarray) -> None:
    assert largest_distance(points) == cdist(points, points).max()


@pytest.mark.parametrize("scale", [-900, 900])
def test_largest_distance_of_any_size(scale: int) -> None:
    """No square leaves the range of floats."""
    points = RNG.standard_normal((60, 3))
    exact = np.ldexp(cdist(points, points).max(), scale)
    assert largest_distance(np.ldexp(points, scale)) == exact


@pytest.mark.slow
def test_ctrl_c_finds_no_thread_that_goes_on() -> None:
    """Threads of a tree that outlive the call read arrays that are freed, and crash."""
    script = (
        "import signal, sys, time, numpy as np\n"
        # Also where it is ignored in whoever runs the tests, as under nohup.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tokenkl.numerics.neighbours import nearest_distances\n"
        "points = np.random.default_rng(0).standard_normal((400_000, 7))\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    while True: nearest_distances(points)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(1)\n"
        "    sys.exit(130)\n"
    )
    for delay in (2, 3):
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NUMBA_NUM_THREADS": "2"},
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == 130, errors  # not that of a crash
