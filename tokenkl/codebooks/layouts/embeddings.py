"""Embedding tables of language models, by the names that their libraries give them."""

from __future__ import annotations

import dataclasses
import math
import re

from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.layouts import plain
from tokenkl.codebooks.layouts.base import Part, Shapes

#: From the name of a table that the whole model shares to those of its halves.
NAMES = (
    r"shared\.weight",
    r"(embed_tokens|wte|word_embeddings|tok_embeddings|embed_in|token_embeddings?|token_embedding_table)\.weight",
    r"token_embd\.weight",
)
#: In a configuration: models that multiply their embeddings by the square root of the dimension.
SCALED = re.compile(r'"scale_embedding"\s*:\s*true\b|"model_type"\s*:\s*"gemma\w*"')


class Embeddings:
    """The table of the tokens that go in; not of positions, and not of those that come out."""

    name = "embeddings of a language model"

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        for ending in NAMES:
            pattern = re.compile(rf"(?P<owner>(?:.*\.)?){ending}")
            matches = [pattern.fullmatch(name) for name, shape in shapes.items() if len(shape) == 2]
            found = {match[0]: [match[0]] for match in matches if match}
            if found:
                return found
        return {}

    def read(self, part: Part) -> Codebook:
        # What a model says of lengths is of its quantizer.
        lengths = part.lengths or "stored"
        if any(map(SCALED.search, part.arrays.notes.values())):
            factor = math.sqrt((part.shape("") or (1,))[-1])
            part.remarks.append(f"as stored, which the model multiplies by sqrt(n) = {factor:.6g}")
        return plain.read(dataclasses.replace(part, owner="", lengths=lengths), part.owner)
