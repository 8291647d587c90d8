"""Where networks work: the CPU, or an accelerator that PyTorch finds."""

from __future__ import annotations

import torch

from tokenkl._validation import reject


def as_device(device: torch.device | str, name: str = "device") -> torch.device:
    """A device by its name.

    >>> as_device("cpu")
    device(type='cpu')

    Raises:
        ValueError: a name that is none, or of what is not there.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError):  # each backend has its own
        reject(name, str(device), f"one of this machine: {', '.join(devices())}")
    if found.type == "meta":
        reject(name, str(device), "one that computes")
    return found


def devices() -> tuple[str, ...]:
    """The devices of this machine."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
