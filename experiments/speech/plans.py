"""Which models are trained, and how each is measured."""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments.speech.labels import LABELS
from experiments.speech.noise import CONTEXTUAL, CORPUS, TOLD
from experiments.speech.units import OPTIMUM, Cell, Evidence, Settings, Unit

SEEDS = (0, 1, 2)

#: Numbers of sampling steps at which every geometry is heard.
STEPS = (2, 3, 5, 8, 12, 25)

#: Points of the tokens, and the recipe that gives them. All but the last two have the same tokens.
GEOMETRIES: dict[str, tuple[tuple[str, str], ...]] = {
    "fsq": (),
    "perturbed": (("geometry", "perturbed"),),
    "permuted": (("geometry", "permuted"),),
    "e8": (("geometry", "e8"),),
    "one-hot": (("geometry", "one-hot"),),
    "spherical": (("geometry", "spherical"),),
    "learned": (("geometry", "learned"),),
    "vq": (("tokenizer", "vq-6561"),),
    "rvq": (("tokenizer", "rvq-81x81"),),
}


SETTINGS = Settings()


#: Those that claim C6 is about have three seeds, the others two.
LEADING = ("fsq", "perturbed", "permuted", "e8")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Units, what is measured of each, and the folder of their results."""

    units: tuple[Unit, ...]
    cells: tuple[Cell, ...]
    settings: Settings = SETTINGS
    folder: str = "units"


def _seeds(name: str, *changes: tuple[str, object]) -> tuple[Unit, ...]:
    return tuple(Unit(name, seed, changes) for seed in SEEDS)


#: Training steps: hardly intelligible, in between (where most is heard), and all that helps.
LITTLE, MIDDLE, FULL = SETTINGS.training.snapshots

CELLS = (
    *(Cell(MIDDLE, steps) for steps in STEPS),
    *(Cell(FULL, steps) for steps in (2, 5)),
    Cell(LITTLE, 5),
)

#: Where geometry is not confounded with power, nor with how fast a head learns to round. Sizes and
#: hypotheses were written down in docs/speech.md before the first run.
EVIDENCE = Settings(
    changes=tuple((name, value) for name, value in SETTINGS.changes if name != "output_prior"),
    view="power",
    training=dataclasses.replace(SETTINGS.training, snapshots=(200,)),
    first=SETTINGS.sentences,  # sentences that nothing was chosen on
    sentences=48,
    evidence=Evidence(),
)
EVIDENCE_SEEDS = range(8)

#: Points of the tokens at equal power, or clipped to the box; labels from bigrams.
VIEWS: dict[str, dict[str, Any]] = {
    "fsq": {},
    "perturbed-power": {"geometry": "perturbed"},
    "permuted": {"geometry": "permuted"},
    "relabelled": {},
    "e8-power": {"geometry": "e8"},
    "perturbed-box": {"geometry": "perturbed", "view": "box"},
    "e8-box": {"geometry": "e8", "view": "box"},
    "spherical": {"geometry": "spherical"},
    "learned": {"geometry": "learned"},
    "vq": {"tokenizer": "vq-6561"},
    "vq-on-grid": {"tokenizer": "vq-6561"},
}
#: Suffix of the units without output prior.
PLAIN = "-plain"


def _evidence_units() -> tuple[Unit, ...]:
    """Seed by seed, so that an unfinished run has all geometries, with and without the prior."""
    units = []
    for seed in EVIDENCE_SEEDS:
        for name, changes in VIEWS.items():
            for prior in (True, False):
                recipe = (*changes.items(), ("changes", (("output_prior", prior),)))
                labels = name if name in LABELS else None
                units.append(Unit(name + ("" if prior else PLAIN), seed, recipe, labels))
    return tuple(units)


#: One question of words, decided: FSQ against perturbed points at equal power. Sentences are of the
#: split whose combinations of words no training sentence has.
WORDS = dataclasses.replace(EVIDENCE, heard="combinations", first=0, sentences=120, evidence=None)
WORD_SEEDS = range(25)
WORD_RIVALS = ("perturbed-power", "fsq")


def _word_units() -> tuple[Unit, ...]:
    """Seed by seed; in names apart from the networks of "evidence", which hold other records."""
    prior = ("changes", (("output_prior", True),))
    return tuple(
        Unit(f"{name}-words", seed, (*VIEWS[name].items(), prior))
        for seed in WORD_SEEDS
        for name in WORD_RIVALS
    )


#: The leading ones of these again, each to its validation optimum by the rule of "rivals" (dropout,
#: an average over many steps, patience), and on the way there.
LASTING = dataclasses.replace(
    EVIDENCE,
    changes=(
        *EVIDENCE.changes, ("output_prior", True), ("dropout", 0.1), ("token_dropout", 0.1),
    ),
    training=dataclasses.replace(
        EVIDENCE.training, steps=6000, warm_up=50, ema=0.999, valid_every=100, log_every=100,
        checkpoint_every=100, snapshots=(200, 400, 800),
    ),
    patience=3,
    bound_sentences=8,
    bound_draws=4,
    snr_points=3,
)  # fmt: skip
LASTING_NAMES = ("fsq", "perturbed-power", "permuted", "relabelled", "perturbed-box")
LAST = "-lasting"


def _lasting_units() -> tuple[Unit, ...]:
    """Seed by seed, in names apart from those of other plans."""
    return tuple(
        Unit(name + LAST, seed, tuple(VIEWS[name].items()), name if name in LABELS else None)
        for seed in EVIDENCE_SEEDS
        for name in LASTING_NAMES
    )


#: A task on which steps matter: when a word is spoken is not known from the text, so that one call,
#: which has nothing but the law of each token, cannot solve it. Sentences are some that nothing was
#: chosen on.
BUDGET = 500
PAUSED = Settings(
    corpus="paused",
    text="characters",
    changes=(
        ("head", "joint"),
        ("width", 128),
        ("depth", 4),
        ("text_width", 128),
        ("text_blocks", 2),
        ("dropout", 0.05),
    ),
    view="power",
    training=dataclasses.replace(
        SETTINGS.training, steps=BUDGET, warm_up=50, ema=0.99, log_every=50,
        checkpoint_every=100, snapshots=(BUDGET,),
    ),
    first=40,
    sentences=36,
    evidence=Evidence(sentences=16),
    bound_sentences=8,
    bound_draws=8,
    snr_points=3,
    guidance=0.0,
    judges=("bigram",),
)  # fmt: skip
PAUSED_SEEDS = (0, 1, 2)
#: Of the names of its units, which are apart from those of other plans.
SUFFIX = "-paused"
PAUSED_STEPS = (1, 2, 5, 10, 25)
#: Heard as the evidence bound has it: by the ancestral sampler, without guidance.
ANCESTRAL = (("sampler", "ancestral"),)
#: Of FSQ, asked for when the first units were there: DDIM in place of the ancestral sampler, and
#: tokens drawn from the last law in place of its most likely ones, at one call and at ten.
DRAWN = (("decision", "sample"),)
DECODED = (
    Cell(BUDGET, 10),
    Cell(BUDGET, 10, options=(*ANCESTRAL, *DRAWN)),
    Cell(BUDGET, 1, options=DRAWN),
)


def _paused_units() -> tuple[Unit, ...]:
    """Seed by seed, E8 after the others."""
    return tuple(
        Unit(name + SUFFIX, seed, tuple(VIEWS[name].items()))
        for names in (("fsq", "perturbed-power", "permuted"), ("e8-power",))
        for seed in PAUSED_SEEDS
        for name in names
    )


#: Schedules that know the context, and how networks are trained by them: as in "schedules", and
#: heard on sentences that nothing was chosen on.
SCHEDULES = dataclasses.replace(
    SETTINGS,
    training=dataclasses.replace(SETTINGS.training, steps=MIDDLE, snapshots=(MIDDLE,)),
    first=SETTINGS.sentences,
    sentences=16,
)
#: Those of names and files: the first ones are trained with all seeds, then the others one by one.
SCHEDULED, LATER = ("linear-vp", "information", CONTEXTUAL), (TOLD, CORPUS)


def _scheduled() -> tuple[Unit, ...]:
    def unit(name: str, seed: int) -> Unit:
        if name in (CONTEXTUAL, TOLD, CORPUS):
            return Unit(name, seed, noise=name)
        return Unit(name, seed, (("schedule", name),))

    units = [unit(name, seed) for seed in SEEDS for name in SCHEDULED]
    return (*units, *(unit(name, seed) for name in LATER for seed in SEEDS))


#: Of the first three names of that plan, to tell training from sampling.
CROSSED = tuple(Cell(MIDDLE, 5, schedule=name) for name in ("linear-vp", CONTEXTUAL))

PLANS: dict[str, Plan] = {
    # In this order, so that an unfinished run has all geometries, and then what C6 is about.
    "geometry": Plan(
        tuple(
            Unit(name, seed, GEOMETRIES[name])
            for seed, names in (
                (0, tuple(GEOMETRIES)),
                (1, LEADING),
                (2, LEADING),
                (1, tuple(name for name in GEOMETRIES if name not in LEADING)),
            )
            for name in names
        ),
        CELLS,
    ),
    "heads": Plan(
        _seeds("factorised", ("changes", (("head", "factorised"),))),
        CELLS,
    ),
    "schedules": Plan(
        _seeds("fsq-information", ("schedule", "information")),
        tuple(Cell(MIDDLE, steps) for steps in (2, 5, 25)),
    ),
    "evidence": Plan(_evidence_units(), (Cell(200, 5),), EVIDENCE, "evidence"),
    "words": Plan(_word_units(), (Cell(200, 5),), WORDS, "words"),
    "lasting": Plan(
        _lasting_units(),
        (
            Cell(OPTIMUM, 5),
            *(Cell(OPTIMUM, steps) for steps in (2, 12)),
            Cell(LASTING.training.snapshots[0], 5),
        ),
        LASTING,
        "lasting",
    ),
    # On the way there, after all else.
    "lasting-curve": Plan(
        _lasting_units(),
        tuple(Cell(budget, 5) for budget in LASTING.training.snapshots[1:]),
        LASTING,
        "lasting",
    ),
    "steps": Plan(
        _paused_units(),
        tuple(Cell(BUDGET, steps, options=ANCESTRAL) for steps in PAUSED_STEPS),
        PAUSED,
        "steps",
    ),
    "steps-decoded": Plan(
        tuple(unit for unit in _paused_units() if unit.name == f"fsq{SUFFIX}"),
        DECODED,
        PAUSED,
        "steps",
    ),
    "context-schedules": Plan(
        _scheduled(),
        tuple(Cell(MIDDLE, steps) for steps in (2, 5, 25)),
        SCHEDULES,
        "schedules",
    ),
    "context-crossed": Plan(
        tuple(unit for unit in _scheduled() if unit.name in SCHEDULED),
        CROSSED,
        SCHEDULES,
        "schedules",
    ),
}
