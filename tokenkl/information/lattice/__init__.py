"""Lattice cuts too large to list, by exact decoding."""
