"""The numbers behind the explorer: `python -m website.explorer` writes explorer.json beside it.

Exact values of grids and of one-hot tokens, and sampled ones, with their standard errors, of cuts
of lattices; at every decibel of three views, which say what is held fixed when two codebooks are
compared. The page holds all of them, so that it works from disk.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenkl import Codebook

STORED = Path(__file__).with_name("explorer.json")
#: Where the page has room for the numbers.
PLACE = "<!-- explorer values -->"
DECIBELS = tuple(range(-20, 41))
#: What is held fixed, and the average power tr Cov(e) of a codebook in n dimensions then.
VIEWS = {
    "box": "coordinates from -1 to 1",
    "coordinate": "average power 1 a coordinate",
    "power": "average power 1 in all",
}
QUANTITIES = ("accuracy", "conditional_entropy", "mutual_information", "mmse")
STEPS = (5, 10, 25)
SAMPLES = 2048
DIGITS = 5


@dataclasses.dataclass(frozen=True)
class Case:
    """A codebook of the page: who uses it, and the group of the menu that it is in."""

    group: str
    label: str
    codebook: Codebook

    def seen(self, view: str) -> tuple[float, float]:
        """Decibels that are added to those of the page, and the power by which MMSEs are told."""
        power = float(self.codebook.average_power())
        wanted = {"box": power, "coordinate": float(self.codebook.n), "power": 1.0}[view]
        return 10 * math.log10(wanted / power), power


def cases() -> Iterator[Case]:
    import tokenkl as tk
    from experiments.fsq_in_the_wild import LEVEL_SETS

    for one in LEVEL_SETS:
        if not one.source.startswith("unverified"):
            grid = tk.FSQ(one.levels, grid=one.grid or "symmetric")
            yield Case("Published", f"{one.tokenizers}: {_levels(one.levels)}", grid)
    for levels in ((2,) * 10, (3,) * 6, (4,) * 5, (6, 6, 6, 5)):
        yield Case("Balanced grids", f"FSQ {_levels(levels)}", tk.FSQ(levels))
    yield Case("Lattices", "E8 cut, 6,561 points of 8 dimensions", tk.e8_codebook())
    yield Case("Lattices", "E6 ball, 729 points of 6 dimensions", tk.e6_codebook())
    d4 = tk.PointCodebook(tk.d_codebook(4, 5).points)
    yield Case("Lattices", f"D4 cut, {d4.K} points of 4 dimensions", d4)
    for K in (256, 1024, 6561, 65_536):
        yield Case("One-hot", f"one-hot, {K:,} tokens", tk.OneHot(K))


def numbers(case: Case, decibels: tuple[int, ...] = DECIBELS) -> dict[str, Any]:
    """What the page knows about a codebook: values for every view, quantity and level."""
    import numpy as np

    import tokenkl as tk

    codebook = case.codebook
    views = {view: case.seen(view) for view in VIEWS}
    levels = [np.array(decibels) + shift for shift, _ in views.values()]
    # All levels at once: those of a sampled codebook share their draws.
    snr = 10 ** (np.concatenate(levels) / 10)
    method = tk.MonteCarlo(n_samples=SAMPLES) if case.group == "Lattices" else tk.Exact()
    profile = tk.profile(codebook, snr, QUANTITIES, method=method, key=0).bits
    entropy = float(codebook.prior_entropy()) / math.log(2)
    nearest = np.abs(np.asarray(profile["mutual_information"].value) - entropy / 2).argmin()
    near = 10 * math.log10(snr[nearest])
    half = tk.snr_of_information(codebook, near=near, method=method, key=0)
    record: dict[str, Any] = {
        "group": case.group,
        "label": case.label,
        "K": codebook.K,
        "n": codebook.n,
        "bits": _short(entropy),
        **_steps(codebook, method),
        "views": {},
    }
    for index, (view, (shift, power)) in enumerate(views.items()):
        here = slice(index * len(decibels), (index + 1) * len(decibels))
        seen: dict[str, Any] = {"half": round(float(half) - shift, 2)}
        if np.any(half.standard_error):
            seen["half_error"] = _short(float(half.standard_error), 2)
        for name in QUANTITIES:
            estimate = profile[name]
            scale = 1 / power if name == "mmse" else 1.0
            seen[name] = _all(np.asarray(estimate.value)[here] * scale)
            error = np.broadcast_to(estimate.standard_error, snr.shape)[here] * scale
            if error.any():
                seen[f"{name}_error"] = _all(error, 2)
        record["views"][view] = seen
    return record


def _steps(codebook: Codebook, method: Any) -> dict[str, list[float]]:
    """Path KL of the best steps from no signal to where 0.1 % of the bits is left: at any scale."""
    import tokenkl as tk

    _, high = tk.optimality.information_range(codebook, 1e-6, key=0)
    grids = tk.optimal_step_grids(codebook, list(STEPS), 0.0, high, method=method, key=0)
    found = {"steps": [_short(float(one.kl.value)) for one in grids]}
    errors = [float(one.kl.standard_error) for one in grids]
    if any(errors):
        found["steps_error"] = [_short(error, 2) for error in errors]
    return found


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """The stored numbers, on the page that has a place for them."""
    if PLACE not in html:
        return html
    stored = STORED.read_text(encoding="utf-8").replace("</", "<\\/")
    script = f'<script type="application/json" id="explorer-values">{stored}</script>'
    return html.replace(PLACE, script)


def main() -> None:
    found = [numbers(case) for case in cases()]
    head = {"decibels": DECIBELS, "views": VIEWS, "steps": STEPS}
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in found)
    text = f"{json.dumps(head)[:-1]}, " + f'"codebooks": [\n{lines}\n]}}\n'
    STORED.write_text(text, encoding="utf-8")


def _levels(levels: tuple[int, ...]) -> str:
    if len(set(levels)) == 1:
        return f"{levels[0]}^{len(levels)}"
    return "x".join(map(str, levels))


def _all(values: Any, digits: int = DIGITS) -> list[float]:
    return [_short(float(one), digits) for one in values]


def _short(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}")


if __name__ == "__main__":
    main()
