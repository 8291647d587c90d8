"""Sources: laws of token sequences, with what is exact about them.

`Source` is the protocol; `Independent`, `Markov`, `HiddenMarkov` and `Joint` are its kinds, and
`bilinear` makes laws that live in given coordinates, `bigrams` and `ngrams` laws of counted data.
"""

from tokenkl.sources.base import GIVEN, Given, Source
from tokenkl.sources.counts import bigrams, held_out_entropy, ngrams
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
    "bigrams",
    "bilinear",
    "held_out_entropy",
    "ngrams",
]
