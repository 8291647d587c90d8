"""Quantizers of faiss, whose files say what they are."""

from __future__ import annotations

from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.layouts import combine
from tokenkl.codebooks.layouts.base import Part, Shapes


class Faiss:
    """Centroids of parts (PQ), or stages that add up (RQ)."""

    name = "quantizer of faiss"

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        found = {}
        if len(shapes.get("pq.centroids", ())) == 3:
            found["pq."] = ["pq.centroids"]
        if len(shapes.get("rq.0", ())) == 2:
            found["rq."] = [name for name in shapes if name.startswith("rq.")]
        return found

    def read(self, part: Part) -> Codebook:
        if part.owner == "pq.":
            return combine.beside(part, [combine.points(part, c) for c in part.read("centroids")])
        return combine.added(part, [part.read(str(stage)) for stage in range(part.length())])
