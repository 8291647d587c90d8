"""The Gaussian channel by its functions, under the name that papers and notebooks import."""

from tokenkl.channels.gaussian import denoiser, log_posterior, posterior_covariance, sample, score

__all__ = ["denoiser", "log_posterior", "posterior_covariance", "sample", "score"]
