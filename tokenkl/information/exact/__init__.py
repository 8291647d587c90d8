"""Closed forms and quadrature, where the structure of a codebook allows them."""
