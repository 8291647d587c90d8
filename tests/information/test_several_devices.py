"""Several devices share the samples of a block, and find what one device finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import jax, numpy as np
from tokenkl.information.sampling import xla

rng = np.random.default_rng(0)
points = rng.standard_normal((300, 5))
log_prior = np.log(rng.dirichlet(np.ones(300)))
ids, noise = rng.integers(300, size=53), rng.standard_normal((53, 5))
given = points, log_prior, ids, noise, np.array([0.3, 1.0, 4.0]), True, True
shards = xla._shards()
assert shards is not None and shards.num_devices == 4
seen = []
block = xla._block
xla._block = lambda *given: seen.append(block(*given)) or seen[-1]
several = xla.block_statistics(*given)
xla.PAIRS = 300 * 4  # blocks of 4 on each of 4: whole ones, and one that is filled up
in_blocks = xla.block_statistics(*given)
assert [len(one.sharding.device_set) for one in seen] == [4] * 5
xla._shards = lambda: None
one = xla.block_statistics(*given)
for found in several, in_blocks:
    assert found.shape == one.shape == (3, 5, 53)
    print(abs(found - one).max(axis=(0, 2)).max())
"""


@pytest.mark.slow  # JAX anew, with four devices
def test_four_devices_find_what_one_finds() -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert all(float(word) < 1e-5 for word in done.stdout.split()), done.stdout
