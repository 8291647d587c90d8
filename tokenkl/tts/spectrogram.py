"""Pictures of speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from tokenkl._files import PathLike
from tokenkl.tts.frontend import MelConfig, frontend

#: Decibels below the loudest point that are told apart.
SPAN = 60.0


def spectrogram(
    audio: Float[np.ndarray, " samples"], config: MelConfig | None = None
) -> Float[np.ndarray, "frames bins"]:
    """Power in dB relative to the loudest point, cut off `SPAN` below it."""
    front = frontend(config)
    with torch.no_grad():
        padded = front.pad(torch.from_numpy(np.asarray(audio, np.float32)))
        magnitude = front.stft(padded).abs().numpy()
    loudest = max(float(magnitude.max()), 1e-12)
    return 20 * np.log10(np.maximum(magnitude / loudest, 10 ** (-SPAN / 20)))


def plot_spectrogram(
    audio: Float[np.ndarray, " samples"],
    path: PathLike,
    *,
    title: str = "",
    config: MelConfig | None = None,
) -> Path:
    """Draw time against frequency.

    Args:
        audio: at the rate of `config`.
        path: .png, .pdf or .svg.
        title: over the picture.
        config: window and hop; the usual front end when None.

    Raises:
        ValueError: another suffix, or a folder that does not exist.
    """
    from tokenkl.plotting import COLUMN, PAGE, new_figure, save_figure

    config = config or MelConfig()
    decibels = spectrogram(audio, config)
    seconds = decibels.shape[0] * config.hop / config.sample_rate
    figure, axes = new_figure(width=float(np.clip(1.3 * seconds, COLUMN, PAGE)), panel_height=1.7)
    panel = axes[0, 0]
    panel.grid(False)
    image = panel.imshow(
        decibels.T, origin="lower", aspect="auto", cmap="magma", vmin=-SPAN, vmax=0,
        extent=(0, seconds, 0, config.sample_rate / 2000),
    )  # fmt: skip
    panel.set_xlabel("time (s)")
    panel.set_ylabel("frequency (kHz)")
    if title:
        panel.set_title(title, loc="left", wrap=True)
    figure.colorbar(image, ax=panel, label="dB", pad=0.01)
    return save_figure(figure, Path(path))
