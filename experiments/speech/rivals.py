"""Diffusion and its autoregressive twins, each trained to its own optimum and decoded at its best.

The set-up was written down in docs/speech.md before the first run. `train_rivals` makes the
networks, `hear_rivals` chooses decodings on validation sentences and hears the chosen ones on test
sentences; both go on where they were.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.speech.twin import PACE
from experiments.speech.units import RESULTS
from tokenkl._files import atomic_path
from tokenkl.tts.audio import Utterance
from tokenkl.tts.codec import own_tokenizer
from tokenkl.tts.corpus import CorpusConfig, load_corpus
from tokenkl.tts.data import Example, examples_of
from tokenkl.tts.evaluation import evaluate
from tokenkl.tts.judge import GRAMMARS, Grammar
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import Recipe, Workspace, new_model
from tokenkl.tts.reports import SpeechReport
from tokenkl.tts.speaking import nats, say_all
from tokenkl.tts.training import TrainConfig, is_finished, read_log, read_weights, train
from tokenkl.tts.voice import WEIGHTS, Voice

#: Where what was heard is kept.
FOLDER = RESULTS / "rivals"
#: Of all of them: that of the package.
TOKENIZER = WEIGHTS / "tokenizer.safetensors"

#: The same for all: no decay, and an end at the validation optimum, see `Recipe.patience`.
TRAINING = TrainConfig(
    steps=20_000, batch=8, learning_rate=1.5e-3, decay="constant", valid_every=100,
    checkpoint_every=100,
)  # fmt: skip
DROPOUT = (("dropout", 0.1), ("token_dropout", 0.1))


@dataclasses.dataclass(frozen=True)
class Rival:
    """A system.

    - `model`, `changes`, `training`: of its recipe.
    - `seeds`: of training.
    - `corpus`: sentences that it is trained on in place of those of the plain corpus.
    """

    model: str
    changes: tuple[tuple[str, object], ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    training: TrainConfig = TRAINING
    corpus: CorpusConfig | None = None

    def recipe(self) -> Recipe:
        """What to train."""
        return Recipe(
            text="characters",
            model=self.model,
            changes=(*self.changes, *DROPOUT),
            training=self.training,
            patience=3,
        )


#: Other sentences of the same domain, four times as many.
MORE = CorpusConfig(seed=1, train=4800, valid=0, test=0, combinations=0)

#: Where its training ends, if not at its optimum; the clock allowed no more.
MORE_STEPS = 10_000

DIFFUSION = (("head", "factorised"),)
RIVALS: dict[str, Rival] = {
    "ar": Rival("ar", (("pace", PACE),)),
    "diffusion": Rival("cdcd", DIFFUSION),
    "diffusion-more": Rival(
        "cdcd",
        DIFFUSION,
        seeds=(0,),
        training=dataclasses.replace(TRAINING, steps=MORE_STEPS),
        corpus=MORE,
    ),
    "ar-10x": Rival(
        "ar-10x",
        (("pace", PACE),),
        seeds=(0, 1),  # the second was asked for when the first had been heard
        training=dataclasses.replace(TRAINING, learning_rate=1e-3, mixed_precision="bf16"),
    ),
}


def order() -> list[tuple[str, int]]:
    """Names and training seeds, so that an unfinished run has whole seeds of the small ones."""
    every = [(name, seed) for name, rival in RIVALS.items() for seed in rival.seeds]
    return sorted(every, key=lambda one: (one[0] == "ar-10x", one[1], one[0] == "diffusion-more"))


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How a network speaks: a name, and options of `Voice.tokens`."""

    name: str
    options: dict[str, Any]


def _ar(name: str, **options: float) -> Decoding:
    return Decoding(name, options)


#: Those that are chosen from, by model; of two that are as good the first, so the faster, is taken.
_AR = (
    _ar("0", temperature=0.0),
    _ar("0.3", temperature=0.3),
    _ar("0.5", temperature=0.5),
    _ar("0.8", temperature=0.8),
    _ar("0.8, top-p 0.9", temperature=0.8, top_p=0.9),
    _ar("1, top-p 0.9", temperature=1.0, top_p=0.9),
)
DECODINGS: dict[str, tuple[Decoding, ...]] = {
    "ar": _AR,
    "ar-10x": _AR,
    "cdcd": tuple(
        Decoding(f"{steps} steps, guidance {guidance:g}", {"steps": steps, "guidance": guidance})
        for steps in (2, 5, 10, 25)
        for guidance in (0.0, 0.5)
    ),
}
#: The training seeds that decodings are chosen with. More were planned (docs/speech.md); cut down,
#: before anything was heard, for want of machine time.
CHOOSING = (0,)

#: Of diffusion, beside what is chosen.
ONE_CALL = Decoding("one call", {"steps": 1, "guidance": 0.0})

#: How `say` decodes, in few steps and in as many as by default: what is asked of a network that is
#: to be the voice "characters" of the package. Seeds of sampling; the network that is to be it.
SAID = tuple(
    one
    for one in DECODINGS["cdcd"]
    if one.options["guidance"] == 0.5 and one.options["steps"] <= 10
)
SAMPLINGS, NEXT = (0, 1, 2), ("diffusion-more", 0)

#: Sentences of the test split that get a DNSMOS opinion; of the training split, of which nats are
#: measured; draws of the noise for these.
OPINIONS, TRAINED, DRAWS = 30, 60, 24
SPLITS = ("test", "train")


class Bench:
    """What all systems share: tokenizer, reading of text, sentences, and where things are kept.

    Args:
        workspace: of the runs.
        folder: of the results.
        say: prints a line.
    """

    def __init__(self, workspace: Workspace, folder: Path, say: Callable[[str], None]) -> None:
        self.workspace, self.folder, self.say = workspace, folder, say
        included = Voice.load("characters")
        self.tokenizer, self.encoder = own_tokenizer(included.tokenizer), included.encoder
        folder.mkdir(parents=True, exist_ok=True)

    @functools.cached_property
    def corpus(self) -> dict[str, list[Utterance]]:
        """What is said in every split of the plain corpus."""
        plain = self.workspace.corpus("plain")
        return {split: plain.split(split) for split in ("train", "valid", "test")}

    @functools.lru_cache(maxsize=4)  # noqa: B019  there is one bench
    def examples(self, split: str) -> list[Example]:
        """Of a split of the plain corpus."""
        return self._examples(self.corpus[split])

    def _examples(self, said: Sequence[Utterance]) -> list[Example]:
        return examples_of(self.tokenizer, self.encoder, said, progress=self.workspace.progress)

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def learned(self, rival: Rival) -> list[Example]:
        """What it is trained on: nothing that is said in the validation or test split."""
        if rival.corpus is None:
            return self.examples("train")
        at = self.workspace
        more = load_corpus(rival.corpus, folder=at.corpora, progress=at.progress).split("train")
        kept = {one.text for split in ("valid", "test") for one in self.corpus[split]}
        return self._examples([one for one in more if one.text not in kept])

    def run(self, name: str, seed: int) -> Path:
        """The folder of a training."""
        return self.workspace.folder / f"{name}-{seed}"

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def voice(self, name: str, seed: int) -> Voice:
        """One system with one training seed, trained now or before."""
        recipe, learned = RIVALS[name].recipe(), self.learned(RIVALS[name])
        model = new_model(recipe, self.tokenizer, self.encoder, train=learned, key=seed)
        train(
            model, learned, recipe.training, self.run(name, seed),
            key=seed, valid=self.examples("valid"), patience=recipe.patience,
            record={"recipe": recipe.to_json()}, progress=self.workspace.progress, cpu=True,
        )  # fmt: skip
        lengths = Lengths.fit(self.examples("train"))
        header, _ = read_weights(self.run(name, seed))
        record: dict[str, Any] = {"recipe": recipe.to_json(), "key": seed}
        record["best"] = {"step": header["step"], **header["best"]}
        if (instead := RIVALS[name].corpus) is not None:  # of the sentences that the recipe names
            record["sentences"] = dataclasses.asdict(instead)
        return Voice(self.tokenizer, self.encoder, lengths, recipe.training.layout, model, record)

    def trained(self) -> list[tuple[str, int]]:
        """Names and training seeds of the networks that are there."""
        return [one for one in order() if is_finished(self.run(*one))]

    def next_voice(self) -> Voice:
        """What is to be the voice "characters" of the package, rounded as its file is."""
        folder, name = self.workspace.folder, TOKENIZER.name
        if not (folder / name).is_file():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(TOKENIZER, temporary)
        path = self.workspace.voice_path("-".join(map(str, NEXT)))
        self.voice(*NEXT).save(path, name, half=True)
        return Voice.load(path)

    # ---- Listening

    def hear(
        self,
        voice: Voice,
        name: str,
        seeds: Sequence[int],
        decoding: Decoding,
        split: str,
        *,
        grammars: Sequence[Grammar] = GRAMMARS,
        mos: int = 0,
    ) -> SpeechReport:
        """What the judges make of a split, said with these seeds of sampling."""
        said = self.corpus[split]
        texts = [one.text for one in said]
        quiet = self.workspace.progress
        spoken = say_all(voice, texts, seeds, progress=quiet, **decoding.options)
        report = evaluate(
            spoken, self.tokenizer, said, label=f"{name}, {decoding.name}",
            grammars=grammars, mos=mos, pitch=False, progress=quiet,
        )  # fmt: skip
        return dataclasses.replace(report, heard={})

    def try_decodings(self, name: str, seed: int) -> None:
        """Word errors of the bigram judge on every validation sentence, by decoding."""
        path = self.folder / f"choice-{name}-{seed}.json"
        found = json.loads(path.read_text()) if path.is_file() else {"errors": {}}
        for decoding in DECODINGS[RIVALS[name].model]:
            if decoding.name in found["errors"]:
                continue
            voice = self.voice(name, seed)  # the seed of training is that of sampling, too
            heard = self.hear(voice, name, [seed], decoding, "valid", grammars=("bigram",))
            arrays = heard.measurements
            errors, words = (arrays[one][:, 0].astype(int) for one in ("errors_bigram", "words"))
            found["words"] = words.tolist()
            found["errors"][decoding.name] = errors.tolist()
            write(path, found)
            rate = errors.sum() / words.sum()
            self.say(f"{name}-{seed}, {decoding.name}: {100 * rate:.1f} % on validation sentences")

    def judge(self, name: str, seed: int, decoding: Decoding) -> None:
        """All judges on the test sentences."""
        path = self.folder / report_name(name, seed, decoding)
        if not path.is_file():
            voice = self.voice(name, seed)
            report = self.hear(voice, name, [seed], decoding, "test", mos=OPINIONS)
            report.save(path)
            self.say(f"{report.label}-{seed}: bigram WER {report.value('wer_bigram'):.4f}")

    def likelihood(self, name: str, seed: int) -> None:
        """Nats of every sentence of the test split, and of some it was trained on."""
        path = self.folder / f"nats-{name}-{seed}.json"
        if path.is_file():
            return
        found = self.nats(self.voice(name, seed), self.learned(RIVALS[name]))
        header, _ = read_weights(self.run(name, seed))
        log = read_log(self.run(name, seed))
        found["best"] = {"step": header["step"], **header["best"]}
        found["training_seconds"] = round(float(log["seconds"].iloc[-1]))
        write(path, found)
        self.say(f"{name}-{seed}: nats of {SPLITS} are there, best step {header['step']}")

    def compare(self, name: str, voice: Voice, learned: Sequence[Example]) -> None:
        """The same, and all judges on test sentences, of a voice that speaks as `say` lets it."""
        path = self.folder / f"nats-{name}-0.json"
        if not path.is_file():
            write(path, self.nats(voice, learned))
        for decoding in SAID:
            path = self.folder / report_name(name, 0, decoding)
            if not path.is_file():
                report = self.hear(voice, name, SAMPLINGS, decoding, "test", mos=OPINIONS)
                report.save(path)
                self.say(f"{report.label}: bigram WER {report.value('wer_bigram'):.4f}")

    def nats(self, voice: Voice, learned: Sequence[Example]) -> dict[str, Any]:
        """Nats and tokens of every test sentence, and of the first that were learned."""
        found: dict[str, Any] = {"parameters": sum(p.numel() for p in voice.model.parameters())}
        for split, examples in zip(SPLITS, (self.examples("test"), learned[:TRAINED]), strict=True):
            found[split] = nats(voice, examples, draws=DRAWS).round(4).tolist()
            found[f"{split}_tokens"] = [int(one.tokens.size) for one in examples]
        return found


def report_name(name: str, seed: int, decoding: Decoding) -> str:
    """Of the file with what was heard on test sentences."""
    return f"{name}-{seed}-{decoding.name.replace(', ', '-').replace(' ', '-')}.json"


def chosen(name: str, folder: Path) -> tuple[Decoding, dict[str, tuple[int, int]]]:
    """The decoding with the fewest errors on validation sentences, over all seeds that were heard.

    Also errors and words by decoding.

    Raises:
        ValueError: none was heard.
    """
    records = [
        json.loads(path.read_text()) for path in sorted(folder.glob(f"choice-{name}-?.json"))
    ]
    if not records:
        raise ValueError(f"{folder} has no decodings of {name}; make them with `rivals`.")
    options = DECODINGS[RIVALS[name].model]
    sums = {
        one.name: (
            sum(sum(record["errors"][one.name]) for record in records),
            sum(sum(record["words"]) for record in records),
        )
        for one in options
    }
    return min(options, key=lambda one: sums[one.name][0]), sums


def write(path: Path, record: dict[str, Any]) -> None:
    """As JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record) + "\n")


def train_rivals(bench: Bench, only: Sequence[str]) -> None:
    """All of them, in an order that lets an unfinished run be analysed."""
    for name, seed in order():
        if f"{name}-{seed}" in only:
            bench.voice(name, seed)
            bench.say(f"{name}-{seed} is trained")


def hear_rivals(bench: Bench) -> None:
    """Choose decodings, then hear, of all networks that are there."""
    there = bench.trained()
    for name, seed in there:
        if seed in CHOOSING and name != "diffusion-more":  # which is decoded as the other
            bench.try_decodings(name, seed)
    for name, seed in there:
        diffusion = RIVALS[name].model == "cdcd"
        best, _ = chosen("diffusion" if diffusion else name, bench.folder)
        bench.judge(name, seed, best)
        if diffusion:
            bench.judge(name, seed, ONE_CALL)
    for name, seed in there:
        bench.likelihood(name, seed)


def compare_voices(bench: Bench) -> None:
    """The voice "characters" of C7 (`voices` makes it), and what is to take its place.

    Raises:
        ValueError: one of them is not there.
    """
    earlier = Voice.load(bench.workspace.voice_path("characters"))
    bench.compare("included", earlier, bench.examples("train"))
    if is_finished(bench.run(*NEXT)):
        bench.compare("next", bench.next_voice(), bench.learned(RIVALS[NEXT[0]]))


def time_rivals(bench: Bench, sentences: int = 20) -> None:
    """Seconds of the processor from text to tokens, over seconds of speech; all take turns.

    One process, one thread, one sentence at a time; medians over sentences. Of the processor, so
    that other work on the machine counts for less.
    """
    timed: dict[str, tuple[Voice, dict[str, Any]]] = {}
    for name in dict.fromkeys(name for name, seed in bench.trained() if seed == 0):
        voice = bench.voice(name, 0)
        if RIVALS[name].model != "cdcd":
            timed[name] = voice, chosen(name, bench.folder)[0].options
        elif name == "diffusion":
            for one in (*DECODINGS["cdcd"], ONE_CALL):
                timed[f"{name}, {one.name}"] = voice, one.options
    factors: dict[str, list[float]] = {name: [] for name in timed}
    texts = [one.text for one in bench.corpus["test"][:sentences]]
    for index, text in enumerate([texts[0], *texts]):
        for name, (voice, options) in timed.items():
            started = time.process_time()
            [ids] = voice.tokens([text], key=index, **options)
            if index and ids.size:  # the first round pays for set-up
                factors[name].append((time.process_time() - started) * 25 / ids.size)
    medians = {name: round(float(np.median(each)), 5) for name, each in factors.items()}
    write(bench.folder / "speed.json", {"sentences": sentences, "real_time_factor": medians})
