"""`tokenkl tts train`: from a corpus to a voice."""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenkl.cli._app import check_folder, short_path
from tokenkl.cli._options import Seed
from tokenkl.cli.tts._group import tts_app

if TYPE_CHECKING:
    import pandas as pd

    from tokenkl.tts.recipes import Recipe, Workspace


@tts_app.command(short_help="Train a voice, or go on with a run.")
def train(
    preset: Annotated[
        str,
        typer.Option(metavar="NAME", help="tiny (2 minutes), small (about 15), or paper (GPUs)."),
    ] = "small",
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Where tokenizers, runs and voices are kept.")
    ] = Path("runs/tts"),
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the run; made from the options without it."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="KIND", help="phonemes or characters.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="cdcd, ar or ar-10x; cdcd without it.")
    ] = None,
    geometry: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Points of the tokens: tokenizer (without it), perturbed, permuted, e8, one-hot, "
            "spherical or learned.",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Noise levels in training: linear-vp (without it), information, or as in "
            "`tokenkl steps --schedule`.",
        ),
    ] = None,
    head: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a cdcd: joint or factorised.")
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="plain, jittered, paused (digits), or few (200 sentences, for trials).",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="fsq-3^8, fsq-3^5, fsq-8x5x5x5, vq-6561, rvq-81x81 or e8-6561."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A corpus on disk in place of the synthetic one."),
    ] = None,
    data_kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Of --data: ljspeech, libritts, cdcd, or tokens (.npz files with token ids of any "
            "codec and their texts; --codebook names their points).",
        ),
    ] = None,
    codebook: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Points of --data-kind tokens: any file that `tokenkl info` reads."
        ),
    ] = None,
    token_rate: Annotated[
        float | None,
        typer.Option(metavar="X", help="Tokens a second of --data-kind tokens; 25 without it."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of the text over the tokens: aligned (needs durations), stretch or pad.",
        ),
    ] = None,
    on_bad: Annotated[
        str, typer.Option(metavar="WHAT", help="refuse or skip bad files of --data.")
    ] = "refuse",
    speakers: Annotated[
        bool,
        typer.Option(
            "--speakers",
            help="Tell the model who speaks, and let `say --speaker` choose; every recording of "
            "--data needs a speaker.",
        ),
    ] = False,
    longest: Annotated[
        float, typer.Option(metavar="X", help="Seconds; longer recordings of --data are left out.")
    ] = 30.0,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps of the model's training.")
    ] = None,
    tokenizer_steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps of the tokenizer's.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Utterances in one step.")
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Tokens in one step; 15000 (600 s) in paper."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="no, bf16 (slow on most CPUs) or fp16 (GPUs only)."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="X", help="The highest one; 0.001 in small.")
    ] = None,
    ema: Annotated[
        float | None, typer.Option(metavar="X", help="Decay of the average of the weights.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Stop after N validations without a smaller loss, and keep the best weights.",
        ),
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of the model's blocks.")
    ] = None,
    depth: Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of blocks.")] = None,
    dropout: Annotated[
        float | None, typer.Option(metavar="P", help="Of what every block adds, in training.")
    ] = None,
    token_dropout: Annotated[
        float | None, typer.Option(metavar="P", help="Share of tokens hidden in training.")
    ] = None,
    drop_text: Annotated[
        float | None,
        typer.Option(metavar="P", help="Share of examples without text, for guidance (cdcd)."),
    ] = None,
    output_prior: Annotated[
        bool | None,
        typer.Option(
            "--output-prior/--no-output-prior",
            help="Add the exact ln p(x | token) to the logits (cdcd); wherever it can be, without.",
            show_default=False,
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Points of --geometry at equal power, or clipped to the box."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="X", help="Stop training with a checkpoint after so long."),
    ] = None,
    seed: Seed = 0,
    half: Annotated[
        bool, typer.Option("--half", help="Store the voice in half precision.")
    ] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="As --device cpu.")] = False,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of tokenizer and model: cpu or cuda; the GPU without it, where there is one.",
        ),
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Make corpus, tokenizer and tokens, and do not train.")
    ] = False,
) -> None:
    """Train a voice: corpus, tokenizer and model, whatever is missing of them.

    The same command goes on with a run that was stopped, and ends with the same weights. On
    several GPUs: accelerate launch -m tokenkl tts train --preset paper ...

    \b
    Example: tokenkl tts train --preset tiny
    """
    from tokenkl._validation import reject

    given = {
        "corpus": corpus, "text": text, "model": model, "geometry": geometry, "head": head,
        "schedule": schedule, "tokenizer": tokenizer, "view": view, "layout": layout,
    }  # fmt: skip
    sizes = {
        "width": width, "depth": depth, "dropout": dropout, "token_dropout": token_dropout,
        "drop_text": drop_text, "output_prior": output_prior,
    }  # fmt: skip
    training = {
        "steps": steps, "batch": batch, "batch_tokens": batch_tokens, "mixed_precision": precision,
        "learning_rate": learning_rate, "ema": ema,
        "max_seconds": None if minutes is None else 60 * minutes,
    }  # fmt: skip
    source = _source(data, data_kind, on_bad, longest, codebook, token_rate)
    recipe = _recipe(preset, given, training, tokenizer_steps, source, sizes)
    if speakers and source is None:
        reject("--speakers", "given", "left out without --data: the synthetic corpus has one")
    recipe = dataclasses.replace(recipe, patience=patience, speakers=speakers)
    told = {
        **sizes,
        "learning_rate": learning_rate,
        "ema": ema,
        "patience": patience,
        "speakers": speakers or None,
    }
    where = _device(device, cpu)
    called = name or _name(preset, given, source, seed, told)
    _check_name(called)
    check_folder(folder)
    from tokenkl.tts.recipes import Workspace, is_main_process

    _say(f"Run {called} in {short_path(folder)}: {_described(recipe)}.")
    workspace = Workspace(folder, device=where)
    try:
        workspace.claim(recipe, called, key=seed)
        if prepare:
            made = workspace.material(recipe)
            _say(f"Ready: {len(made.train)} examples. The same command without --prepare trains.")
            return
        voice = workspace.voice(recipe, called, key=seed, half=half, cpu=where == "cpu")
    except KeyboardInterrupt:
        if is_main_process():
            _say_stopped(workspace, recipe, called)
        raise
    if is_main_process():
        _finish(workspace, recipe, called, list(voice.record.get("held_out", {}).values()))


def _device(device: str | None, cpu: bool) -> str:
    """Where to train: "cpu" or "cuda"."""
    from tokenkl._validation import check_choice, reject
    from tokenkl.tts.devices import as_device, devices

    if device is None:
        return "cpu" if cpu else devices()[-1]
    # Of several, `accelerate launch` gives one to each process.
    as_device(check_choice(device, ("cpu", "cuda"), "--device"), "--device")
    if cpu and device != "cpu":
        reject("--device", device, "left out beside --cpu")
    return device


# ---- From options to a recipe --------------------------------------------------------------------


#: Kinds of --data.
KINDS = ("ljspeech", "libritts", "cdcd", "tokens")


def _source(
    data: Path | None,
    kind: str | None,
    on_bad: str,
    longest: float,
    codebook: Path | None = None,
    token_rate: float | None = None,
) -> Any:
    from tokenkl._validation import check_choice, check_positive, reject

    check_choice(on_bad, ("refuse", "skip"), "--on-bad")
    if kind is not None:
        check_choice(kind, KINDS, "--data-kind")
    for option, value in (("--codebook", codebook), ("--token-rate", token_rate)):
        if value is not None and kind != "tokens":
            reject(option, value, "left out without --data-kind tokens")
    if data is None:
        if kind is not None:
            reject("--data-kind", kind, "given with --data, the folder of the corpus")
        return None
    if kind is None:
        reject("--data-kind", "nothing", f"given with --data: one of {', '.join(KINDS)}")
    if not (data.is_dir() or (kind == "tokens" and data.is_file())):
        expected = "a folder that exists" + (", or an .npz file" if kind == "tokens" else "")
        reject("--data", str(data), expected)
    from tokenkl.tts.recordings import Source

    check_positive(longest, "--longest")
    more: dict[str, Any] = {}
    if kind == "tokens":
        if codebook is None:
            reject("--codebook", "nothing", "given with --data-kind tokens: the file of the points")
        if not codebook.exists():
            reject("--codebook", str(codebook), "a file or a folder that exists")
        rate = check_positive(25.0 if token_rate is None else token_rate, "--token-rate")
        more = {"codebook": str(codebook), "token_rate": rate}
    return Source(kind, str(data), on_bad, longest, **more)  # type: ignore[arg-type]


def _recipe(
    preset: str,
    given: dict[str, str | None],
    training: dict[str, Any],
    tokenizer_steps: int | None,
    source: Any,
    sizes: dict[str, Any] | None = None,
) -> Recipe:
    from tokenkl._validation import check_choice, check_positive, reject
    from tokenkl.tts.data import LAYOUTS
    from tokenkl.tts.geometry import GEOMETRIES
    from tokenkl.tts.recipes import CORPORA, MODELS, RECIPES
    from tokenkl.tts.tokenizers import TOKENIZERS

    choices = {
        "corpus": CORPORA, "text": ("phonemes", "characters"), "model": MODELS,
        "geometry": GEOMETRIES, "head": ("joint", "factorised"), "tokenizer": tuple(TOKENIZERS),
        "view": ("power", "box"), "layout": LAYOUTS,
    }  # fmt: skip
    check_choice(preset, tuple(RECIPES), "--preset")
    for option, allowed in choices.items():
        if given.get(option) is not None:
            check_choice(given[option], allowed, f"--{option}")
    if training["max_seconds"] is not None:
        check_positive(training["max_seconds"] / 60, "--minutes")
    if given["schedule"] not in (None, "information"):
        from tokenkl.schedule import parse_schedule

        parse_schedule(given["schedule"] or "")
    if source is not None and given["corpus"] is not None:
        reject("--corpus", given["corpus"], "left out where --data is given")
    of_tokens = source is not None and source.kind == "tokens"
    if of_tokens:
        for option, value in (
            ("tokenizer", given["tokenizer"]),
            ("tokenizer-steps", tokenizer_steps),
        ):
            if value is not None:
                reject(f"--{option}", value, "left out for tokens, which have their codec")
    start = RECIPES[preset]
    if of_tokens and not source.codec().digits():  # the presets' head is one by digits
        changed = {**dict(start.changes), "head": "joint"}
        start = dataclasses.replace(start, changes=tuple(changed.items()))
    changes: dict[str, Any] = {
        option: value
        for option, value in given.items()
        if value is not None and option not in ("head", "model")
    }
    if source is not None:
        changes |= {"data": source, "text": given["text"] or "characters"}
    model = given["model"] or start.model
    changes["changes"] = _model_changes(start, model, given, sizes or {})
    if changes.get("text", start.text) != start.text and given.get("layout") is None:
        changes["layout"] = None  # that of the new kind of text
    if tokenizer_steps is not None:
        changes["tokenizer_steps"] = tokenizer_steps
    new = {option: value for option, value in training.items() if value is not None}
    if "batch" in new and "batch_tokens" not in new:
        new["batch_tokens"] = None
    for option in ("learning_rate", "ema"):
        if option in new:
            _try(option, dataclasses.replace, start.training, **{option: new[option]})
    changes["training"] = dataclasses.replace(start.training, **new)
    recipe = dataclasses.replace(start, model=model, **changes)
    _check_points(recipe)
    return recipe


def _model_changes(
    start: Recipe, model: str, given: dict[str, str | None], sizes: dict[str, Any]
) -> tuple[tuple[str, Any], ...]:
    """Of the configuration of the model: those of the preset, the head, and the sizes."""
    from tokenkl._validation import reject
    from tokenkl.tts.ar import AR_SIZES
    from tokenkl.tts.cdcd import CDCDConfig

    changes = dict(start.changes)
    new = {option: value for option, value in sizes.items() if value is not None}
    make: Any = functools.partial(CDCDConfig, dim=1)
    if model == "cdcd":
        new |= {} if given["head"] is None else {"head": given["head"]}
    else:
        make = AR_SIZES["10x" if model == "ar-10x" else "1x"]
        foreign = {**given, "drop_text": new.get("drop_text")}
        foreign["output_prior"] = None if "output_prior" not in new else "given"
        for option in ("head", "geometry", "schedule", "view", "drop_text", "output_prior"):
            if foreign.get(option) is not None:
                expected = f"left out for --model {model}, which has none"
                reject(f"--{option.replace('_', '-')}", foreign[option], expected)
        changes = {part: changes[part] for part in ("width", "heads", "depth") if part in changes}
    heads = changes.get("heads", make(K=1, symbols=1).heads)
    if "width" in new and new["width"] % (2 * heads):
        reject("--width", new["width"], f"a multiple of {2 * heads}, for {heads} heads")
    for option in ("width", "depth", "dropout", "token_dropout", "drop_text"):
        if option in new:
            _try(option, make, K=1, symbols=1, **{option: new[option]}, heads=heads)
    return tuple({**changes, **new}.items())


def _try(option: str, make: Callable[..., object], *args: Any, **options: Any) -> None:
    """Have a configuration refuse a value, under the name that it has on the command line."""
    try:
        make(*args, **options)
    except ValueError as error:
        raise ValueError(str(error).replace(option, f"--{option.replace('_', '-')}", 1)) from error


def _check_points(recipe: Recipe) -> None:
    """Refuse a view or an output prior that would be refused after the tokenizer is trained."""
    from tokenkl._validation import reject
    from tokenkl.tts.tokenizers import TOKENIZERS

    if recipe.geometry == "one-hot" and recipe.view == "box":
        reject("--view", "box", "power for --geometry one-hot, which has no box")
    changes = dict(recipe.changes)
    if recipe.data is not None and recipe.data.kind == "tokens":
        is_grid = recipe.data.codec().is_grid
    else:
        is_grid = TOKENIZERS[recipe.tokenizer].kind == "fsq"
    on_grid = recipe.geometry == "tokenizer" and is_grid
    if changes.get("output_prior") and changes.get("head") == "factorised" and not on_grid:
        expected = "left out, or given with --head joint: these points are no grid of their digits"
        reject("--output-prior", "given", expected)


def _name(
    preset: str, given: dict[str, str | None], source: Any, seed: int, told: dict[str, Any]
) -> str:
    """From what differs from the preset, so that different runs have different names."""
    parts = [preset, *([] if source is None else [source.label])]
    parts += [value.replace(":", "_").replace(",", "_") for value in given.values() if value]
    parts += [_part(option, value) for option, value in told.items() if value is not None]
    return "-".join(parts + ([f"seed{seed}"] if seed else []))


def _part(option: str, value: float | bool) -> str:
    if isinstance(value, bool):
        return option if value else f"no_{option}"
    return f"{option}{value:g}"


def _check_name(name: str) -> None:
    from tokenkl._validation import reject

    if Path(name).name != name or name.startswith("."):
        reject("--name", name, "a plain name, of a folder to be made in --folder")


def _described(recipe: Recipe) -> str:
    corpus = recipe.corpus if recipe.data is None else f"{recipe.data.kind} {recipe.data.folder}"
    points = f", {recipe.geometry} points" if recipe.model == "cdcd" else ""
    made_by = f"tokenizer {recipe.tokenizer}"
    if recipe.data is not None and recipe.data.codebook is not None:
        made_by = f"codebook {recipe.data.codebook}"
    return (
        f"{recipe.model} on {recipe.text}{points}, {made_by}, corpus {corpus}, "
        f"{recipe.training.steps} steps"
    )


# ---- What is said at the end ---------------------------------------------------------------------


def _say(message: str) -> None:
    from tokenkl.tts.recipes import is_main_process

    if is_main_process():
        typer.echo(message, err=True)


def _again() -> str:
    """The command that was given, to be typed again."""
    launched = "WORLD_SIZE" in os.environ
    start = ["accelerate", "launch", "-m", "tokenkl"] if launched else ["tokenkl"]
    return shlex.join([*start, *sys.argv[1:]])


def _say_stopped(workspace: Workspace, recipe: Recipe, name: str) -> None:
    from tokenkl.tts.tokenizer_checkpoints import steps_done as tokenizer_steps
    from tokenkl.tts.training import steps_done

    if workspace.unfinished is not None:
        made, of = tokenizer_steps(workspace.unfinished), recipe.tokenizer_steps
        when = f"after {made} of {of} steps" if made else "before the first step"
        _say(f"Stopped {when} of the tokenizer's training; `{_again()}` goes on from there.")
        return
    done = steps_done(workspace.folder / name)
    when = f"after {done} of {recipe.training.steps} steps" if done else "before the first step"
    _say(f"Stopped {when} of training; `{_again()}` goes on from there.")


def _normal(recipe: Recipe) -> pd.DataFrame | None:
    """The losses to be expected, for recipes near enough to those that there are bands of."""
    from tokenkl.tts.training_log import reference_band

    comparable = recipe.corpus == "plain" and recipe.model == "cdcd" and recipe.data is None
    changes = dict(recipe.changes)
    plain = not changes.get("output_prior", True)  # as those were
    if comparable and plain and changes.get("head") == "factorised":
        return reference_band(recipe.text)
    return None


def _finish(workspace: Workspace, recipe: Recipe, name: str, held_out: list[str]) -> None:
    from tokenkl.tts.training import is_finished, plot_losses, read_weights, steps_done

    run = workspace.folder / name
    picture = plot_losses({name: run}, run / "loss.png", _normal(recipe))
    done, steps = steps_done(run), recipe.training.steps
    if not is_finished(run):
        _say(f"Stopped by --minutes after {done} of {recipe.training.steps} steps.")
        typer.echo(f"Loss: {picture}")
        typer.echo(f"Next: {_again()}")
        return
    if recipe.patience is not None:
        header = read_weights(run)[0]
        why = (
            f"{recipe.patience} validations without a smaller loss" if done < steps else "all made"
        )
        _say(
            f"Ended after {done} of {steps} steps, {why}; the weights are those of step "
            f"{header['step']}, with the smallest validation loss, {header['best']['loss']:.3f} "
            "nats per token."
        )
    typer.echo(f"Loss: {picture}")
    path = workspace.voice_path(name)
    if not path.is_file():
        typer.echo(f"Weights: {run / 'ema.safetensors'} (token files have no audio to learn from)")
        return
    typer.echo(f"Voice: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    example = "give eight silver flowers behind the village"
    if recipe.data is not None:
        example = held_out[0] if held_out else "a sentence like those of the corpus"
    where = shlex.quote(str(path))
    of_tokens = recipe.data is not None and not recipe.data.has_audio
    out = "out.npy" if of_tokens else "out.wav"
    typer.echo(f"Next: tokenkl tts say {shlex.quote(example)} --voice {where} -o {out}")
    if recipe.data is None or len(held_out) > 1:
        typer.echo(f"      tokenkl tts eval {where}")
