"""What is seen of one token: through Gaussian noise, through a mask, or after uniform replacement.

A channel has a noise variable, samples tokens with observations, and knows the posterior and the
profile of what the observation says about the token (docs/theory/channels.md).
"""

from tokenkl.channels.base import Channel
from tokenkl.channels.discrete import DiscreteChannel
from tokenkl.channels.gaussian import Gaussian
from tokenkl.channels.masking import Masking
from tokenkl.channels.uniform import UniformNoise

__all__ = ["Channel", "DiscreteChannel", "Gaussian", "Masking", "UniformNoise"]
