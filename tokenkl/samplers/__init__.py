"""From noise to data in steps, for theory, toy models and speech alike.

A state is x = alpha e + sigma eps; a `Level` is alpha and sigma. Words that all samplers share:

- *grid*: the levels of a run, from the noisiest to the clearest; its step i goes from i to i + 1.
- *start*: standard deviation of the first state, in units of the noise there; 1 is pure noise.
- *decision*: how a token follows from the last posterior. "map" is the most probable one, "sample"
  a draw, and "nearest" the one nearest to the posterior mean, for those that know distances.
"""

from tokenkl.samplers.base import Level, Sampler
from tokenkl.samplers.kinds import DDIM, Ancestral
from tokenkl.samplers.words import as_decision, as_sampler

__all__ = ["DDIM", "Ancestral", "Level", "Sampler", "as_decision", "as_sampler"]
