"""Averages over simulated observations, for any codebook."""
