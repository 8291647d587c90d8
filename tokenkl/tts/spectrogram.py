"""Pictures of speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from tokenkl._files import PathLike
from tokenkl.tts.frontend import MelConfig, log_mel_of, mel_filters

#: Decibels below the loudest point that are told apart.
SPAN = 60.0
#: Frequencies that are named, in kHz.
TICKS = (0.5, 1, 2, 4, 8)


def plot_spectrogram(
    audio: Float[np.ndarray, " samples"],
    path: PathLike,
    *,
    title: str = "",
    config: MelConfig | None = None,
) -> Path:
    """Draw the mel features that the tokenizers see, in decibels below the loudest point.

    Args:
        audio: at the rate of `config`.
        path: .png, .pdf or .svg.
        title: over the picture.
        config: the usual front end when None.

    Raises:
        ValueError: another suffix, or a folder that does not exist.
    """
    from tokenkl.plotting import COLUMN, PAGE, STYLE, new_figure, save_figure

    config = config or MelConfig()
    decibels = 20 / np.log(10) * log_mel_of(audio, config)
    seconds = decibels.shape[0] * config.hop / config.sample_rate
    figure, axes = new_figure(width=float(np.clip(1.3 * seconds, COLUMN, PAGE)), panel_height=1.7)
    panel = axes[0, 0]
    panel.grid(False)
    image = panel.imshow(
        decibels.T - decibels.max(), origin="lower", aspect="auto", cmap="magma", vmin=-SPAN,
        vmax=0, extent=(0, seconds, -0.5, config.n_mels - 0.5), interpolation="nearest",
    )  # fmt: skip
    hertz = np.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1)
    centres = hertz[mel_filters(config).argmax(axis=1)]
    named = [tick for tick in TICKS if 1000 * tick <= config.high]
    panel.set_yticks(np.interp(1000 * np.array(named), centres, np.arange(config.n_mels)))
    panel.set_yticklabels([f"{tick:g}" for tick in named])
    panel.set_xlabel("time (s)")
    panel.set_ylabel("frequency (kHz)")
    if title:
        panel.set_title(title, loc="left", fontsize=STYLE["axes.titlesize"], wrap=True)
    bar = figure.colorbar(image, ax=panel, pad=0.01)
    bar.set_label("dB", fontsize=STYLE["axes.labelsize"])
    bar.ax.tick_params(labelsize=STYLE["ytick.labelsize"])
    return save_figure(figure, Path(path))
