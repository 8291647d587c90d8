"""tokenkl: what a tokenizer's geometry does to continuous diffusion over categorical data.

Names are grouped in the order in which data flows: a codebook places tokens, a schedule turns time
into a signal-to-noise ratio, information and divergence say what is lost, optimality compares.

They are listed in `__init__.pyi`, and imported when they are first asked for: JAX alone takes a
second, which `tokenkl --help` does without. `tokenkl.torch` is one of them, but none of those that
`from tokenkl import *` takes, since PyTorch is an extra.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__.remove("torch")
__version__ = "0.1.0"
