"""A corpus of tokens and a codebook: what neighbours tell, how much of it is read, what follows."""

from tokenkl.corpus.study import TokensInContext, tokens_in_context

__all__ = ["TokensInContext", "tokens_in_context"]
