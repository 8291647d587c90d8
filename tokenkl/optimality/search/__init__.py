"""Search for codebooks that are better than what is known, and what is known: the atlas."""

from tokenkl.optimality.search.atlas import BestKnown, best_codebook
from tokenkl.optimality.search.runs import Run, SearchResult, search

__all__ = ["BestKnown", "Run", "SearchResult", "best_codebook", "search"]
