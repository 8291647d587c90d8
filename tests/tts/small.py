"""Settings of a diffusion model that says nothing, and is made in no time."""

from typing import Any

SMALL: dict[str, Any] = {
    "width": 16,
    "heads": 2,
    "depth": 1,
    "text_width": 8,
    "text_blocks": 1,
    "time_width": 8,
}
