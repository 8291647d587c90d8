"""Kullback-Leibler divergences between laws on path space, in nats."""

from tokenkl.divergence.bridge import path_kl, simulate_path_kl

__all__ = ["path_kl", "simulate_path_kl"]
