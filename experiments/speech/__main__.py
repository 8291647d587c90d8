"""Train and measure the models of the speech experiments; hours. Stop at any time and go on later.

- `python -m experiments.speech geometry`: train, listen, measure;
- `python -m experiments.speech labels`, then `... evidence`: the same at equal power, with and
  without an output prior, by the evidence bound of the sampler;
- `python -m experiments.speech words`: word errors of two of these with 25 seeds;
- `python -m experiments.speech lasting`, then `... lasting-paths`: some of them to their optimum;
  `... lasting-curve`: the same on the way there;
- `python -m experiments.speech laws`: what laws of tokens that see no points foretell of them;
- `python -m experiments.speech steps`, then `... steps-paths`: a task that one call cannot solve;
  `... steps-decoded`: other samplers and decisions; `... steps-ceiling`: what its true tokens are
  worth; `... alignments`: what one call must lose on it, from the corpus alone;
- `python -m experiments.speech calibration`: what some of these networks claim, and what is true;
- `python -m experiments.speech curve`, then `... context-schedules`: schedules from a network's
  cross-entropy and from token ids, and networks trained by them; `... context-crossed`: these
  networks on each other's levels;
- `python -m experiments.speech grids`: what samplers of the networks of `evidence` make of them;
- `python -m experiments.speech predictors`: what is known of the geometries without training;
- `python -m experiments.speech voices`, then `... twin`: the voices, and diffusion against AR;
- `python -m experiments.speech rivals`: diffusion and AR, each at its own optimum and decoding;
  `... rivals-speed`: their times, on a quiet machine;
- `python -m experiments.speech speed`: times of all voices, side by side, on a quiet machine;
- `python -m experiments.speech prosody`: pitch over seeds by sampler, with FSQ's of `lasting`;
- `python -m experiments.speech samples`: something to listen to, with the models of `geometry`;
- `python -m experiments.speech heard`: what the judge hears in these;
- `python -m experiments.speech tokenizers`: what the tokens of `geometry` are worth to the judge;
- `python -m experiments.speech tokens`: the token ids of the corpus, as a file;
- `python -m experiments.speech include`: put the voices into the package.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from experiments.harness import FIGURES
from experiments.speech.alignments import measure_alignments
from experiments.speech.calibration import measure_calibration
from experiments.speech.ceilings import measure_ceiling, measure_tokenizers
from experiments.speech.labels import LABELS, write_labels
from experiments.speech.laws import measure_laws
from experiments.speech.plans import GEOMETRIES, PLANS, SEEDS, SETTINGS, Plan
from experiments.speech.predictors import codebook_with_prior, predict
from experiments.speech.prosody import measure as measure_prosody
from experiments.speech.rivals import (
    Bench,
    compare_voices,
    hear_rivals,
    order,
    time_rivals,
    train_rivals,
)
from experiments.speech.samples import hear_samples, make_samples
from experiments.speech.schedules import measure_curve, measure_grids
from experiments.speech.tokens import write_tokens
from experiments.speech.twin import (
    CELLS,
    VOICES,
    include_voices,
    listen_to_all,
    make_voices,
    time_all,
)
from experiments.speech.units import RESULTS, Material, Unit, run_unit
from tokenkl._files import atomic_path
from tokenkl._progress import progress_bar
from tokenkl._validation import reject
from tokenkl.tts.recipes import Recipe, Workspace


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.speech", description=__doc__)
    parser.add_argument(
        "what", choices=[*PLANS, *ACTIONS], metavar="WHAT",
        help=f"what to train and to measure: {', '.join([*PLANS, *ACTIONS])}",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, default=Path("build/speech"), help="of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="of the results")
    parser.add_argument("--only", default="", help="units whose name begins with one of these")
    parser.add_argument("--share", default="0/1", help="i/n: every n-th unit from the i-th on")
    given = parser.parse_args()
    # Before a folder is made.
    given.chosen, given.share = _chosen(NAMES.get(given.what, []), given.only), _share(given.share)
    torch.set_num_threads(1)  # with more, the bits depend on how many; use --share for more cores
    workspace = Workspace(given.folder)
    if given.what in ACTIONS:
        ACTIONS[given.what](workspace, given)
    else:
        run_plan(PLANS[given.what], workspace, given)


def run_plan(plan: Plan, workspace: Workspace, given: argparse.Namespace) -> None:
    """Every unit that is asked for, one after the other."""
    first, every = given.share
    units = [unit for unit in plan.units if unit.label in given.chosen][first::every]

    @functools.lru_cache(maxsize=2)
    def material(recipe: Recipe) -> Material:
        return Material(workspace, recipe)

    def shared(recipe: Recipe) -> Material:
        """Units with the same tokens and the same reading of text have it in common."""
        return material(
            Recipe(
                corpus=recipe.corpus,
                tokenizer=recipe.tokenizer,
                tokenizer_steps=recipe.tokenizer_steps,
                text=recipe.text,
            )
        )

    with progress_bar(given.what) as report:
        for index, unit in enumerate(units):
            report(index, len(units))
            folder = given.results / plan.folder
            run_unit(unit, plan.settings, plan.cells, workspace, folder, shared, _say)


def _chosen(names: Sequence[str], only: str) -> list[str]:
    """Those that begin with one of the words of --only.

    Raises:
        ValueError: none does, of those that there are.
    """
    chosen = [name for name in names if name.startswith(tuple(only.split(",")))]
    if names and not chosen:
        reject("--only", repr(only), f"beginnings of some of {', '.join(names)}")
    return chosen


def _share(text: str) -> tuple[int, int]:
    """The two numbers of --share.

    Raises:
        ValueError: they are none.
    """
    first, _, every = text.partition("/")
    if not (first.isdecimal() and every.isdecimal() and int(first) < int(every)):
        reject("--share", repr(text), "i/n with 0 <= i < n, like 0/2")
    return int(first), int(every)


def _say(line: str) -> None:
    print(line, flush=True)


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


def _bench(workspace: Workspace, given: argparse.Namespace) -> Bench:
    return Bench(workspace, given.results / "rivals", _say)


def _rivals(workspace: Workspace, given: argparse.Namespace) -> None:
    bench = _bench(workspace, given)
    train_rivals(bench, given.chosen)
    hear_rivals(bench)


def _labels(workspace: Workspace, given: argparse.Namespace) -> None:
    for name, tokenizer in LABELS.items():
        if name in given.chosen:
            at = Material(workspace, Unit(name, 0, (("tokenizer", tokenizer),)).recipe(SETTINGS))
            write_labels(name, at.train, _say)


ACTIONS: dict[str, Callable[[Workspace, argparse.Namespace], None]] = {
    "predictors": lambda at, given: predict_all(at, given.results / "predictors.json"),
    "voices": lambda at, given: make_voices(at, given.chosen),
    "twin": lambda at, given: listen_to_all(at, given.results / "twin", given.only, _say),
    "rivals": _rivals,
    "rivals-included": lambda at, given: compare_voices(_bench(at, given)),
    "rivals-speed": lambda at, given: time_rivals(_bench(at, given)),
    "speed": lambda at, given: _say(str(time_all(at, given.results / "speed.json"))),
    "prosody": lambda at, given: measure_prosody(at, given.results / "prosody.json", _say),
    "samples": lambda at, given: make_samples(
        at, FIGURES / "speech_samples", FIGURES / "speech_samples.png"
    ),
    "heard": lambda at, given: hear_samples(FIGURES / "speech_samples"),
    "tokenizers": lambda at, given: measure_tokenizers(at, given.results / "tokenizers.json", _say),
    "labels": _labels,
    "calibration": lambda at, given: measure_calibration(
        at, "evidence", given.results / "calibration.json", _say
    ),
    "alignments": lambda at, given: _say(
        str(measure_alignments(at, given.results / "alignments.json"))
    ),
    "steps-ceiling": lambda at, given: _say(
        str(measure_ceiling(at, PLANS["steps"], given.results / "steps-ceiling.json"))
    ),
    "steps-paths": lambda at, given: measure_calibration(
        at, "steps", given.results / "steps-paths.json", _say, also_train=False
    ),
    "lasting-paths": lambda at, given: measure_calibration(
        at, "lasting", given.results / "lasting-paths.json", _say, also_train=False
    ),
    "laws": lambda at, given: measure_laws(at, given.results / "laws.json", _say),
    "curve": lambda at, given: measure_curve(at, given.results / "curve.json", _say),
    "grids": lambda at, given: measure_grids(at, given.results / "grids.json", _say),
    "tokens": lambda at, given: write_tokens(given.results, _say),
    "include": lambda at, given: include_voices(at, _bench(at, given).next_voice()),
}

#: What --only chooses from.
NAMES: dict[str, list[str]] = {
    **{name: [unit.label for unit in plan.units] for name, plan in PLANS.items()},
    "rivals": [f"{name}-{seed}" for name, seed in order()],
    "labels": list(LABELS),
    "voices": list(VOICES),
    "twin": [cell.name for cell in CELLS],
}


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
