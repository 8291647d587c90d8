"""Train and measure the models of the speech experiments; hours. Stop at any time and go on later.

- `python -m experiments.speech geometry`: train, listen, measure;
- `python -m experiments.speech predictors`: what is known of the geometries without training;
- `python -m experiments.speech voices`, then `... twin`: the voices, and diffusion against AR;
- `python -m experiments.speech prosody`: F0 over seeds by sampler, with the models of `geometry`;
- `python -m experiments.speech samples`: something to listen to, with the models of `geometry`;
- `python -m experiments.speech tokenizers`: what the tokens of `geometry` are worth to the judge;
- `python -m experiments.speech include`: put the voices into the package.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path

import torch

from experiments.harness import FIGURES
from experiments.speech.ceilings import measure_tokenizers
from experiments.speech.plans import GEOMETRIES, PLANS, SEEDS, SETTINGS
from experiments.speech.predictors import codebook_with_prior, predict
from experiments.speech.prosody import measure
from experiments.speech.samples import make_samples
from experiments.speech.twin import include_voices, listen_to_all, make_voices
from experiments.speech.units import RESULTS, Material, Unit, run_unit
from tokenkl._files import atomic_path
from tokenkl._progress import progress_bar
from tokenkl.tts.recipes import Recipe, Workspace


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.speech", description=__doc__)
    parser.add_argument(
        "plan",
        choices=[
            *sorted(PLANS),
            "predictors",
            "voices",
            "twin",
            "prosody",
            "samples",
            "tokenizers",
            "include",
        ],
        help="what to train and to measure",
    )
    parser.add_argument("--folder", type=Path, default=Path("build/speech"), help="of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="of the results")
    parser.add_argument("--only", default="", help="units whose name begins with this")
    parser.add_argument("--share", default="0/1", help="i/n: every n-th unit from the i-th on")
    given = parser.parse_args()
    torch.set_num_threads(1)  # with more, the bits depend on how many; use --share for more cores
    workspace = Workspace(given.folder)
    if given.plan == "predictors":
        predict_all(workspace, given.results / "predictors.json")
        return
    if given.plan == "voices":
        make_voices(workspace, given.only)
        return
    if given.plan == "prosody":
        for seed in SEEDS:
            measure(
                workspace, given.results / "prosody", seed, lambda line: print(line, flush=True)
            )
        return
    if given.plan == "samples":
        make_samples(workspace, FIGURES / "speech_samples", FIGURES / "speech_samples.png")
        return
    if given.plan == "tokenizers":
        path = given.results / "tokenizers.json"
        measure_tokenizers(workspace, path, lambda line: print(line, flush=True))
        return
    if given.plan == "include":
        include_voices(workspace)
        return
    if given.plan == "twin":
        folder = given.results / "twin"
        listen_to_all(workspace, folder, given.only, lambda line: print(line, flush=True))
        return
    plan = PLANS[given.plan]
    first, every = (int(part) for part in given.share.split("/"))
    units = [unit for unit in plan.units if unit.label.startswith(given.only)][first::every]
    folder = given.results / plan.folder

    @functools.lru_cache(maxsize=2)
    def material(tokenizer: str, text: str, recipe: Recipe) -> Material:
        return Material(workspace, recipe)

    def shared(recipe: Recipe) -> Material:
        settings = plan.settings
        return material(
            recipe.tokenizer,
            recipe.text,
            Recipe(
                corpus=settings.corpus,
                tokenizer=recipe.tokenizer,
                tokenizer_steps=settings.tokenizer_steps,
                text=recipe.text,
            ),
        )

    with progress_bar(given.plan) as report:
        for index, unit in enumerate(units):
            report(index, len(units))
            run_unit(
                unit, plan.settings, plan.cells, workspace, folder, shared,
                lambda line: print(line, flush=True),
            )  # fmt: skip


def predict_all(workspace: Workspace, path: Path) -> None:
    """Of every geometry, for the key of every seed; geometries are kept as they are finished."""
    found: dict[str, list[dict[str, float]]] = {}
    if path.is_file():
        found = json.loads(path.read_text())
    with progress_bar("predictors") as report:
        for index, (name, changes) in enumerate(GEOMETRIES.items()):
            report(index, len(GEOMETRIES))
            if name in found:
                continue
            recipe = Unit(name, 0, changes).recipe(SETTINGS)
            at = Material(workspace, recipe)
            random = recipe.geometry not in ("tokenizer", "e8", "one-hot")
            found[name] = [
                predict(codebook_with_prior(recipe.geometry, at, key=seed), at, key=seed)
                for seed in (SEEDS if random else SEEDS[:1])
            ]
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    except ValueError as error:
        sys.exit(f"Error: {error}")
