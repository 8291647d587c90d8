"""Sources: laws of token sequences, with what is exact about them.

`Source` is the protocol; `Independent`, `Markov`, `HiddenMarkov` and `Joint` are its kinds, and
`bilinear` makes laws that live in given coordinates.
"""

from tokenkl.sources.base import GIVEN, Given, Source
from tokenkl.sources.independent import Independent
from tokenkl.sources.joint import Joint, bilinear
from tokenkl.sources.markov import HiddenMarkov, Markov
from tokenkl.sources.matrices import Stochastic

__all__ = [
    "GIVEN",
    "Given",
    "HiddenMarkov",
    "Independent",
    "Joint",
    "Markov",
    "Source",
    "Stochastic",
    "bilinear",
]
