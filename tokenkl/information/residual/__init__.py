"""Residual codebooks too large to list, by particle filters over their stages."""
