"""The base of everything that is an immutable pytree: equinox's, with Python's own methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx


class Module(eqx.Module):
    """An `equinox.Module` whose attributes are looked up as those of any object.

    Equinox wraps every method in a module of its own whenever it is asked for, so that a method may
    be an argument of a compiled function. That takes 50 microseconds, more than most of what is
    called here. `jax.jit(codebook.denoiser)`, `jax.vmap` and `jax.grad` take Python's methods, too;
    what a compiled function is given is the codebook.
    """

    if not TYPE_CHECKING:
        __getattribute__ = object.__getattribute__
