"""The tokenizers of the speech experiments, and what their true tokens are worth to the judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from experiments.speech.plans import SETTINGS, Plan
from tokenkl._files import atomic_path
from tokenkl.tts.evaluation import ceilings_and_floors
from tokenkl.tts.recipes import Recipe, Workspace
from tokenkl.tts.tokenizers import evaluate_tokenizer
from tokenkl.usage import token_usage

TOKENIZERS = ("fsq-3^8", "vq-6561", "rvq-81x81")


def measure_tokenizers(workspace: Workspace, path: Path, say: Callable[[str], None]) -> None:
    """Mel error, usage on the training split, and word errors of true tokens; one file."""
    found = {}
    corpus = workspace.corpus(SETTINGS.corpus)
    for name in TOKENIZERS:
        recipe = Recipe(
            corpus=SETTINGS.corpus, tokenizer=name, tokenizer_steps=SETTINGS.tokenizer_steps
        )
        tokenizer = workspace.tokenizer(recipe)
        report = evaluate_tokenizer(tokenizer, corpus.split("test"))
        usage = token_usage(
            [tokenizer.tokenize(u.audio) for u in corpus.split("train")], tokenizer.K
        )
        few = evaluate_tokenizer(
            tokenizer, corpus.split("test")[: SETTINGS.sentences], grammars=("unigram",)
        )
        found[name] = {
            "mel_l1": report.mel_l1,
            "used": usage.used,
            "perplexity": usage.perplexity,
            **{f"wer_{g}": errors.rate for g, errors in report.word_errors.items()},
            **{
                f"wer_{g}_interval": [errors.interval(0).low, errors.interval(0).high]
                for g, errors in report.word_errors.items()
            },
            "wer_unigram_of_cells": few.word_errors["unigram"].rate,
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
        say(f"{name}: {found[name]}")


def measure_ceiling(workspace: Workspace, plan: Plan, path: Path) -> dict[str, dict[str, float]]:
    """Word errors of true audio and true tokens on the sentences that a plan hears, as JSON."""
    settings = plan.settings
    said = workspace.corpus(settings.corpus).split(settings.heard or "test")
    reports = ceilings_and_floors(
        said[settings.first : settings.first + settings.sentences],
        workspace.tokenizer(plan.units[0].recipe(settings)),
        which=("true audio", "true tokens"), grammars=settings.judges, pitch=False,
        progress=workspace.progress,
    )  # fmt: skip
    metrics = [f"wer_{judge}" for judge in settings.judges]
    found = {
        name: {metric: round(report.value(metric), 5) for metric in metrics}
        for name, report in reports.items()
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(found) + "\n")
    return found
