"""Tokens in the context of their sequence: what the law of the others adds to an observation."""
