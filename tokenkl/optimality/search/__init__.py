"""Search for codebooks that are better than what is known, and what is known: the atlas."""

from tokenkl.optimality.search.runs import Run, SearchResult, search

__all__ = ["Run", "SearchResult", "search"]
