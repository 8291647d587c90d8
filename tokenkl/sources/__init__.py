"""Sources: laws of token sequences, with what is exact about them.

`Source` is the protocol; `Independent`, `Markov`, `HiddenMarkov` and `Joint` are its kinds, and
`bilinear` makes laws that live in given coordinates, `bigrams` and `ngrams` laws of counted data.
`FromModel` and `FromMasked` are what a model states; `Contexts` are laws of one token in many
contexts, of a source, a model or a file.
"""

from tokenkl.sources.base import GIVEN, Given, Source
from tokenkl.sources.contexts import Contexts, load_contexts
from tokenkl.sources.counts import bigrams, held_out_entropy, ngrams
from tokenkl.sources.independent import Independent
from tokenkl.sources.joint import Joint, bilinear
from tokenkl.sources.markov import HiddenMarkov, Markov
from tokenkl.sources.matrices import Stochastic
from tokenkl.sources.models import FromMasked, FromModel

__all__ = [
    "GIVEN",
    "Contexts",
    "FromMasked",
    "FromModel",
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
    "load_contexts",
    "ngrams",
]
