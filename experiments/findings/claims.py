"""What came of the paper's claims, and what we found besides: every number out of a stored record.

`tokenkl findings` makes a page of it, and docs/findings.md (`--report docs/findings.md`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

import experiments
from experiments import harness
from experiments.ranks import spearman
from tokenkl.optimality.proved import CENTRE_STAYS, E8_LADDER, E8_OVERTAKES

#: Points that are probed, and what they are called.
PROBED = {
    "fsq": "FSQ",
    "e8-power": "E8",
    "perturbed-power": "perturbed",
    "relabelled": "relabelled",
    "permuted": "permuted",
}
WORDS, BOUND = "WER minus linear-vp's", "bound minus linear-vp's"

Verdict = Literal["confirmed", "false", "refined", "not seen", "open", "beyond the paper"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One claim and its answer.

    - `claim`: the paper's (C1 to C7, arXiv 2606.09962) in our words, or the question.
    - `answer`: sentences, with the numbers of the records.
    - `figures`: names of experiments, which are their figures and commands.
    - `pages`: documents with more, from docs/.
    """

    key: str
    title: str
    claim: str
    verdict: Verdict
    answer: tuple[str, ...]
    figures: tuple[str, ...]
    pages: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(f"tokenkl reproduce {name}" for name in self.figures)


class Records:
    """Facts and tables of the experiments, read once each.

    Raises:
        ValueError: an experiment has no whole results, or those of other settings.
    """

    def __init__(self, folder: Path = harness.FIGURES) -> None:
        self.folder = folder

    def facts(self, name: str) -> dict[str, Any]:
        return self._stored(name)[0]

    def rows(self, experiment: str, /, **where: Any) -> pd.DataFrame:
        """The rows of a table with these values."""
        table = self._stored(experiment)[1]
        for column, value in where.items():
            table = table[table[column] == value]
        return table

    @functools.cache  # noqa: B019  (a command makes one, and ends)
    def _stored(self, name: str) -> tuple[dict[str, Any], pd.DataFrame]:
        record, table, _ = harness.stored(experiments.load(name), folder=self.folder)
        if record["overrides"]:
            raise ValueError(
                f"{name} in {self.folder} has other settings; run `tokenkl reproduce {name}` first."
            )
        return record["facts"], table


def findings(records: Records) -> list[Finding]:
    """Claims first, in the paper's order, and then what it does not speak of."""
    return [
        _path_kl(records),
        _local(records),
        _distance(records),
        _accuracy(records),
        _toy(records),
        _steps(records),
        _speech(records),
        _speech_evidence(records),
        _twin(records),
        _views(records),
        _frequencies(records),
        _wild(records),
        _which_grid(records),
        _random_search(records),
        _regimes(records),
        _structured(records),
        _quantizers(records),
        _unequal(records),
        _grids(records),
        _capacity(records),
        _lipschitz(records),
        _brackets(records),
        _ladder(records),
        _laws(records),
        _labels(records),
        _reach(records),
        _processes(records),
        _index(records),
        _speech_context(records),
        _trained_labels(records),
        _probe(records),
        _schedules(records),
        _calls(records),
        _lasting(records),
    ]


# ---- The paper's claims -------------------------------------------------------------------------


def _path_kl(records: Records) -> Finding:
    facts = records.facts("path_kl")
    return Finding(
        "C1",
        "Path KL of two tokens",
        "Reverse-time bridges from a common start to two tokens: the KL of their paths is the "
        "squared distance of the tokens times a number that depends on the schedule alone.",
        "confirmed",
        (
            "It is half the squared distance times a difference of SNRs, for seven schedules.",
            f"Simulated over closed form: {facts['pooled_ratio']:.4f} ± "
            f"{facts['pooled_ratio_half_width']:.4f} over {facts['n_points']} cases of "
            f"{facts['n_paths']:,} paths; {facts['intervals_of_the_mean_that_cover']} of "
            f"{facts['n_points']} intervals of 95 % hold the formula.",
        ),
        ("path_kl",),
        ("theory/index.md",),
    )


def _local(records: Records) -> Finding:
    four, *_ = records.facts("nn_distance")["cases"]
    facts = records.facts("local_certificates")
    strict = [name.removeprefix("FSQ ") for name in facts["strict_exactly"]]
    return Finding(
        "C2",
        "FSQ as a local maximum of the mean distance of nearest neighbours",
        "In the box, FSQ with two and with three levels is a local maximum of D, the mean distance "
        "of tokens to their nearest neighbours.",
        "confirmed",
        (
            "A strict one, for any number of levels that is the same in all dimensions (proved; "
            f"certificates in exact arithmetic for {', '.join(strict)}).",
            f"Of {four['ascent_starts']} ascents from random tokens in the plane "
            f"{100 * four['ascent_share_within_1e-3']:.3g} % end at FSQ's value and none above.",
        ),
        ("local_certificates", "nn_distance"),
        ("theory/optimality.md",),
    )


def _unequal(records: Records) -> Finding:
    rises = records.facts("local_certificates")["not_a_maximum"]
    each = ", ".join(
        f"{name.removeprefix('FSQ ')} by {100 * one['relative_rise']:.0f} %"
        for name, one in rises.items()
    )
    return Finding(
        "Unequal levels",
        "FSQ with unequal levels, as published tokenizers have it",
        "Is it a local maximum of D as well?",
        "beyond the paper",
        (
            "No: the first order is 0, the second rises. Tokens of odd and of even index sum, "
            "shifted apart along the coarser dimensions, are further from all neighbours (proved; "
            "certified in exact arithmetic).",
            f"Along these directions D rises: {each}. It is a distance, not an accuracy.",
        ),
        ("local_certificates",),
        ("theory/optimality.md",),
    )


def _distance(records: Records) -> Finding:
    facts = records.facts("nn_distance")
    gains = {(one["n"], one["L"]): one["gain"] for one in records.facts("atlas")["beaten"]}
    best = {(one["base"], one["n"]): one["explicit_max"] for one in facts["cases"]}
    (first,) = (c for c in facts["cases"] if (c["base"], c["n"]) == (2, 5))
    return Finding(
        "C3",
        "FSQ as the global maximum of the mean distance",
        "No codebook in the box has a larger D; 10,000 random ones never had.",
        "false",
        (
            f"Random codebooks say little: they reach at most {100 * facts['largest_random']:.0f} "
            "% of FSQ's D in any case tried.",
            f"Explicit ones beat FSQ from {first['K']} tokens in {first['n']} dimensions on: by "
            f"{_gain(best[2, 5])} there, {_gain(best[2, 8])} at 2^8, {_gain(best[3, 4])} at 3^4, "
            f"and {_gain(best[3, 8])} at 3^8 by 6561 points of the E8 lattice.",
            f"Search finds better ones in the plane and in space too: 36 tokens by "
            f"{_gain(1 + gains[2, 6])}, 64 tokens in three dimensions by {_gain(1 + gains[3, 4])}. "
            "Four and nine tokens in the plane and eight in space cannot be beaten (proved).",
        ),
        ("nn_distance", "atlas"),
        ("theory/optimality.md",),
    )


def _accuracy(records: Records) -> Finding:
    facts = records.facts("accuracy")
    moved = records.facts("medium_noise")["cases"]
    return Finding(
        "C4",
        "FSQ and the accuracy of the best guess",
        "With equal priors FSQ has the largest accuracy at every noise level.",
        "false",
        (
            "In the plane nothing that we tried beats FSQ 2^2: "
            f"{100 * facts['fsq_accuracy_at_published_snr']:.2f} % at alpha/sigma = 0.3, as "
            f"published, and {facts['ascents_that_end_on_fsq']} of {facts['ascents']} ascents end "
            "there.",
            "For 6561 tokens in eight dimensions the E8 cut is better above "
            f"{facts['crossing_db']:.1f} dB ({facts['crossing_db_low']:.1f} to "
            f"{facts['crossing_db_high']:.1f}); from {_decibels_above(E8_LADDER[0])} dB on that is "
            "certified in ball arithmetic, and that it is worse at "
            f"{10 * math.log10(float(E8_OVERTAKES[0])):.2f} dB.",
            "For 2^n tokens it is enough to move one vertex of the cube to its centre: certified "
            f"from {_decibels_above(CENTRE_STAYS[5])} dB on for n = 5, from "
            f"{_decibels_above(CENTRE_STAYS[8])} dB on for n = 8.",
            "At the other end, nine points without a centre beat FSQ 3^2 below "
            f"{facts['nine_sign_change_db']:.1f} dB; certified at two levels.",
            "Nor does it take strong noise: FSQ 3^n with its centre moved to an edge is better "
            "from about "
            + ", ".join(f"s = {_up(one['better_from_s'])} (n = {one['n']})" for one in moved)
            + " on. Its gain is largest where FSQ's accuracy is "
            f"{100 * min(one['accuracy_there'] for one in moved):.0f} to "
            f"{100 * max(one['accuracy_there'] for one in moved):.0f} %, and small: at most "
            f"{1e4 * max(one['largest_gain_at_most'] for one in moved):.1f} in ten thousand. "
            "Certified for each n at two levels, one on either side.",
        ),
        ("accuracy", "medium_noise"),
        ("theory/optimality.md",),
    )


def _up(noise: float) -> str:
    """A noise level with four digits, rounded up."""
    return f"{math.ceil(1e4 * noise) / 1e4:.4f}"


def _decibels_above(snr: str) -> str:
    """Decibels with two digits, rounded up: what holds from an SNR on holds from there on."""
    return f"{math.ceil(1000 * math.log10(float(snr))) / 100:.2f}"


def _toy(records: Records) -> Finding:
    two, three = (records.facts("toy_generation")[f"base_{base}"]["minus_fsq"] for base in (2, 3))
    published = records.facts("toy_generation")["paper_log_kl"]
    gaps = {base: second - first for base, (first, second) in published.items()}
    return Finding(
        "C5",
        "Small trained models: FSQ against perturbed tokens",
        "A small model learns and generates FSQ tokens with a smaller KL than perturbed ones: "
        f"{gaps['2']:.2f} lower in log KL with two levels, {gaps['3']:.2f} with three.",
        "refined",
        (
            "Ten seeds, coordinates perturbed by 0.3. Two levels: "
            f"{_interval(two['ddim 5']['perturbed 0.3'])} at 5 steps, not seen at 25 "
            f"({_interval(two['ddim 25']['perturbed 0.3'])}).",
            f"Three levels: {_interval(three['ddim 5']['perturbed 0.3'])} at 5 steps and "
            f"{_interval(three['ddim 25']['perturbed 0.3'])} at 25: it stays.",
            "Permuting ids changes no quantity of the points, and costs "
            f"{_interval(two['ddim 25']['permuted'])} and "
            f"{_interval(three['ddim 25']['permuted'])} at 25 steps where the law knows the "
            f"geometry; {_interval(two['neutral law, ddim 25']['permuted'])} where it does not.",
            "No quantity of the codebook alone predicts the ranking in both bases.",
        ),
        ("toy_generation",),
        ("toy.md",),
    )


def _steps(records: Records) -> Finding:
    facts = records.facts("sampler_kl")
    ratio, gap = facts["path_kl_over_fsq"], facts["gap_perturbed_minus_fsq_nats"]
    cheapest = min(ratio, key=lambda name: ratio[name]["5"])
    return Finding(
        "C6a",
        "Few sampling steps, without learning",
        "FSQ beats perturbed tokens at every number of steps, and the gap closes with the steps.",
        "refined",
        (
            "With the exact denoiser the path KL of every tokenization falls like 1/N.",
            f"The gap closes in nats ({gap['25']:.2f} at 25 steps, {gap['1000']:.4f} at 1000) and "
            f"not as a ratio ({ratio['perturbed']['1000']:.3f} at 1000).",
            f"At few steps FSQ is not the cheapest: at 5 {cheapest} has "
            f"{ratio[cheapest]['5']:.2f} times its path KL, the E8 cut "
            f"{ratio['E8 cut']['5']:.2f}, perturbed FSQ {ratio['perturbed']['5']:.2f}.",
        ),
        ("sampler_kl",),
        ("theory/sampler.md",),
    )


def _speech(records: Records) -> Finding:
    facts = records.facts("speech_geometry")

    def minus_fsq(name: str) -> str:
        where = {"kind": "WER minus FSQ", "name": name, "budget": 100, "steps": 5}
        [row] = records.rows("speech_geometry", **where).itertuples()
        return _interval([100 * row.value, 100 * row.low, 100 * row.high], digits=1)

    sounds = [
        one["value"]
        for one in facts["correlations"]
        if one["predictor"] == "neighbours sound unlike"
    ]
    return Finding(
        "C6b",
        "Speech: the same tokens as other points",
        "FSQ beats perturbed tokens at 5, 8, 12 and 25 steps; ids shuffled against the points cost "
        "13 points of word error.",
        "refined",
        (
            "Small models of one synthetic voice, three seeds, 5 steps. Perturbed: "
            f"{minus_fsq('perturbed')} points of word error more than FSQ: not seen.",
            f"Permuted: {minus_fsq('permuted')} points: confirmed. The E8 cut, with a larger D: "
            f"{minus_fsq('e8')}.",
            "How alike neighbouring tokens sound predicts the order (rank correlations "
            f"{min(sounds):.2f} to {max(sounds):.2f} over seven geometries); D does not.",
            "Powers were not made equal, so that what is said of perturbed and E8 points is about "
            f"power, too; and {facts['sentences']} sentences show no difference of one point.",
        ),
        ("speech_geometry",),
        ("speech.md",),
    )


def _speech_evidence(records: Records) -> Finding:
    facts, table = records.facts("speech_evidence"), records.rows("speech_evidence")

    def of(kind: str, name: str, prior: bool = True, steps: int | None = 5) -> Any:
        chosen = table[(table.kind == kind) & (table.name == name) & (table.prior == prior)]
        [row] = (chosen if steps is None else chosen[chosen.steps == steps]).itertuples()
        return row

    def nats(name: str, steps: int | None = 5, kind: str = "evidence minus rival") -> str:
        row = of(kind, name, steps=steps)
        return _interval([row.value, row.low, row.high], digits=2)

    def points(name: str, prior: bool = True) -> str:
        row = of("WER minus rival", name, prior)
        return _interval([100 * row.value, 100 * row.low, 100 * row.high], digits=1)

    words = of("WER minus rival, words", "perturbed-power")
    seeds = [int(row.seeds) for row in table[table.kind == "evidence minus rival"].itertuples()]
    verdicts = _verdicts(facts)
    return Finding(
        "C6c",
        "Speech at equal power, with the rounding given",
        "What is left of FSQ's advantage when all geometries have its power and the network is "
        "given ln p(state | token)?",
        "refined",
        (
            f"Nats per token more than FSQ in the evidence bound of 5 steps, {min(seeds)} to "
            f"{max(seeds)} paired seeds: perturbed {nats('perturbed-power')}, E8 "
            f"{nats('e8-power')}, permuted {nats('permuted')}, relabelled {nats('relabelled')}.",
            f"At 25 steps: {nats('perturbed-power', 25)}, {nats('e8-power', 25)}, "
            f"{nats('permuted', 25)}, {nats('relabelled', 25)}.",
            "In the limit of many steps: "
            + ", ".join(
                nats(name, None, "many steps minus rival")
                for name in ("perturbed-power", "e8-power", "permuted", "relabelled")
            )
            + ".",
            f"Points of word error of perturbed ones at 5 steps, {int(words.seeds)} seeds on "
            f"{facts['sentences_of_words']} sentences that nothing was chosen on: "
            f"{_interval([100 * words.value, 100 * words.low, 100 * words.high], digits=1)}.",
            f"Read along the path, beyond text and rounding: FSQ "
            f"{nats('fsq', None, 'read along the path')} nats a token, permuted ids "
            f"{nats('permuted', None, 'read along the path')}.",
            f"Points of word error of permuted ids at 5 steps: {points('permuted')} with the "
            f"output prior, {points('permuted', prior=False)} without.",
            f"Hypotheses written down before the runs: {verdicts}.",
        ),
        ("speech_evidence",),
        ("speech.md",),
    )


def _twin(records: Records) -> Finding:
    first, facts = records.facts("speech_twin"), records.facts("speech_rivals")
    best, times = facts["chosen"]["diffusion"], facts["speed"]["real_time_factor"]

    def row(kind: str, name: str, metric: str) -> Any:
        [found] = records.rows("speech_rivals", kind=kind, name=name, metric=metric).itertuples()
        return found

    def errors(kind: str, name: str) -> str:
        return f"{100 * row(kind, name, 'wer_bigram').value:.1f} %"

    def gap(metric: str, scale: float = 1, digits: int = 2) -> str:
        found = row("difference", "diffusion minus ar", metric)
        return _interval([scale * x for x in (found.value, found.low, found.high)], digits=digits)

    seeds = int(row("difference", "diffusion minus ar", "wer_bigram").seeds)
    large = row("test", "ar-10x", "wer_bigram")
    return Finding(
        "C7",
        "Diffusion against an autoregressive twin",
        "Diffusion speaks as well as a ten times larger language model over the same tokens, five "
        "to ten times faster.",
        "refined",
        (
            f"Twins of equal size, {seeds} trainings each to its own validation optimum, decoding "
            f"chosen on validation sentences: {errors('test', 'diffusion')} word errors against "
            f"{errors('test', 'ar')} (bigram judge, {facts['sentences']} sentences, no "
            f"alignment), a difference of {gap('wer_bigram', 100, 1)} points.",
            f"DNSMOS: {gap('mos')} more than the twin; error of the length: "
            f"{gap('length_error', 100, 1)} points more; nats a token (diffusion: a bound): "
            f"{gap('bound')} more.",
            f"The twin takes {times['ar'] / times[f'diffusion, {best}']:.1f} times "
            f"as long as diffusion at {best}; one call of diffusion makes "
            f"{errors('one call', 'diffusion')} word errors.",
            "On four times the sentences (one training, diffusion alone): "
            f"{errors('test', 'diffusion-more')} word errors, and "
            f"{row('nats', 'diffusion-more', 'test').value:.2f} nats in place of "
            f"{row('nats', 'diffusion', 'test').value:.2f}.",
            "A first comparison, with the twin at temperature 0.8 and diffusion beyond its "
            f"validation optimum, had {_points_of_twins(records):.1f} points for diffusion "
            f"({first['sentences']} sentences).",
            f"A twin of ten times the size, {large.seeds} trainings each to its own optimum: "
            f"{errors('test', 'ar-10x')} word errors at the same likelihood as the small one "
            f"({row('nats', 'ar-10x', 'test').value:.2f} and {row('nats', 'ar', 'test').value:.2f} "
            f"nats), and {times['ar-10x'] / times['diffusion, 5 steps, guidance 0.5']:.1f} times "
            "as long as diffusion at 5 steps, guidance 0.5. It saw 1200 sentences alone.",
        ),
        ("speech_rivals", "speech_twin"),
        ("speech.md",),
    )


def _points_of_twins(records: Records) -> float:
    [ar], [diffusion] = (
        records.rows("speech_twin", name=name, metric="wer_bigram").value
        for name in ("ar-0.8", "characters-10")
    )
    return 100 * float(ar - diffusion)


# ---- Beyond the paper ---------------------------------------------------------------------------


def _views(records: Records) -> Finding:
    facts = records.facts("four_views")
    boxed = max(one["largest_gain_bits"] for one in facts["view_i"].values())
    power = facts["view_ii"]
    half = facts["view_iii_db_for_half_the_bits"]
    return Finding(
        "1",
        "What is held fixed decides",
        "Which tokenization tells most about the token?",
        "beyond the paper",
        (
            "In the same box FSQ 3^6, at every noise level"
            f" (the best rival: {boxed:.4f} bits at its best).",
            "At the same power it loses up to "
            f"{power['E6 ball']['largest_gain_bits']:.2f} bits to a ball of the E6 lattice, and "
            f"{power['VQ, Gaussian data']['largest_gain_bits']:.2f} bits to plain k-means.",
            f"If dimensions are free, one-hot tokens win: half of the bits at "
            f"{half['one-hot']:.1f} dB of power, where FSQ 3^6 needs {half['FSQ $3^6$']:.1f}.",
        ),
        ("four_views",),
    )


def _frequencies(records: Records) -> Finding:
    facts = records.facts("unequal_priors")
    half = facts["db_of_power_at_half_the_information"]
    saved = half["FSQ $3^8$, equal"] - half["FSQ $3^8$, Bible words"]

    def bits(view: str, where: str) -> str:
        return f"{facts[f'{view}: frequent {where}']['entropy_bits_against_random']:+.1f}"

    return Finding(
        "2",
        "Real token frequencies",
        "The paper's priors are equal. What changes if they are not?",
        "beyond the paper",
        (
            f"With the frequencies of words in a text FSQ 3^8 needs {saved:.1f} dB less for half "
            "of its information.",
            "Which token sits where matters. Entropy left against a random assignment, in the "
            f"same box: {bits('same_box', 'in the centre')} bits with frequent words in the centre "
            f"and {bits('same_box', 'at the corners')} at the corners; at the same power "
            f"{bits('same_power', 'in the centre')} and {bits('same_power', 'at the corners')}.",
        ),
        ("unequal_priors",),
    )


def _wild(records: Records) -> Finding:
    facts = records.facts("fsq_in_the_wild")
    at = sorted(one["half_information_snr_db"] for one in facts["summary"])
    return Finding(
        "3",
        "Published FSQ tokenizers",
        "Where do the tokenizers in use lose their information?",
        "beyond the paper",
        (
            f"{len(at)} level sets lose half of it between {at[0]:.1f} and {at[-1]:.1f} dB,"
            f" {facts['smallest_excess_over_gaussian_bound_db']:.1f} to "
            f"{facts['largest_excess_over_gaussian_bound_db']:.1f} dB from the Gaussian limit for "
            "their bits per coordinate.",
        ),
        ("fsq_in_the_wild",),
    )


def _random_search(records: Records) -> Finding:
    facts = records.facts("random_search")
    table = pd.DataFrame(facts["neighbourhoods"])
    rare = table[table.decades.notna()]
    box, around = rare[rare.width.isna()], rare[rare.width.notna()]
    small = table[table.width < 1]

    def needed(row: Any) -> str:
        decades, low, high = row.decades
        return (
            f"10^{decades:.0f} (10^{low:.0f} to 10^{high:.0f}) for {100 * row.reached:.0f} % of "
            f"FSQ's D at {row.L}^{row.n}"
        )

    largest = small[small.width == small.width.max()]
    never = sum(one["value"] is None for one in rare.extrapolated)
    return Finding(
        "Random search",
        "What random codebooks can and cannot see",
        "That random and perturbed codebooks never beat FSQ speaks for its being the best.",
        "false",
        (
            f"Of {facts['draws']:,} codebooks from the box the best reach "
            f"{_percents(box.best_of_draws)} of FSQ's D; of as many that are shifted by up to "
            f"{small.width.max():g} of a gap, {_percents(largest.best_of_draws)}.",
            "How rare better ones are was measured by nested sampling, and no experiment can draw "
            f"so many: from the box, {'; '.join(map(needed, box.itertuples()))}.",
            f"The tail of the draws does not tell: a law of extremes fitted to it says never in "
            f"{never} of {len(rare)} cases, at distances that are there.",
            f"Of ascents from up to {small.width.max():g} of a gap, as good as none end above FSQ: "
            f"{int(small.ascents_above.sum())} of {int(small.ascents.sum())}; from one gap around "
            f"{int(around.ascents_above.sum())} of {int(around.ascents.sum())} do, from "
            f"the box {int(box.ascents_above.sum())} of {int(box.ascents.sum())}.",
        ),
        ("random_search",),
        ("optimality.md",),
    )


def _percents(values: Any) -> str:
    return f"{100 * min(values):.0f} to {100 * max(values):.0f} %"


def _regimes(records: Records) -> Finding:
    facts = records.facts("regime_map")
    table = pd.DataFrame(facts["summary"])

    def told(objective: str, constraint: str) -> str:
        rows = table[(table.objective == objective) & (table.constraint == constraint)]
        most = rows.loc[rows.gain_db.idxmax()]
        by = (
            f", by up to {most.gain_db:.2f} dB ({int(most.L)}^{int(most.n)} at "
            f"{100 * most.at_rate:.0f} % errors)"
            if most.gain_db > 0
            else ""
        )
        return (
            f"{objective}, same {constraint}: beaten in {rows.beaten.sum()} of "
            f"{rows.levels.sum()} cases{by}"
        )

    sampler = table[table.objective == "sampler"].set_index(["L", "n"]).ratio
    lower = [f"{100 * (1 - x):.0f} % ({L}^{n})" for (L, n), x in sampler.items() if x < 1]
    closed = pd.DataFrame(facts["gaussian_gap_closed"]).groupby("K").closed.max()
    return Finding(
        "Regimes",
        "Where FSQ is the best that can be found",
        "Small grids at four noise levels: does a search for accuracy, for information or for a "
        "sampler of four steps end above FSQ, and by how much?",
        "beyond the paper",
        (
            *(
                f"{told(objective, 'box')}; {told(objective, 'power')}."
                for objective in ("accuracy", "information")
            ),
            "All of the gain in the box is where FSQ errs at 60 %: tokens then share places at the "
            "corners. Differences below four standard errors are not seen, such as those of "
            "medium noise.",
            "What four steps cost at equal power, with the entropy that they leave, can be lowered "
            f"by {', '.join(lower)}; for two levels nothing lower was found.",
            "At equal power in the plane, of what FSQ's information lacks to the Gaussian limit "
            "the best found wins back at most "
            + ", ".join(f"{100 * share:.0f} % with {K} tokens" for K, share in closed.items())
            + ". None of this proves that nothing better exists.",
        ),
        ("regime_map",),
        ("optimality.md",),
    )


def _structured(records: Records) -> Finding:
    table = pd.DataFrame(records.facts("structured_regimes")["summary"])

    def told(constraint: str, quantity: str) -> str:
        rows = table[(table.constraint == constraint) & (table.quantity == quantity)]
        most = rows.loc[rows.largest_gain_db.idxmax()]
        return (
            f"{quantity}, same {constraint}: ahead in {rows.ahead.sum()} of {rows.cases.sum()} "
            f"cases and behind in {rows.behind.sum()}, by four standard errors; at best "
            f"{most.largest_gain_db:+.2f} dB ({most.at_levels}^{most.n}, "
            f"{100 * most.at_rate:.0f} % errors)."
        )

    return Finding(
        "Regimes, five to eight dimensions",
        "Cuts of D_n+ and E8 against FSQ of as many tokens",
        "Two, three and four levels at seven noise levels, where FSQ errs at 60 to 1 %: who needs "
        "less SNR?",
        "beyond the paper",
        (
            *(told(c, q) for c in ("power", "box") for q in ("accuracy", "information")),
            "In the box the cuts' tokens are inside, where FSQ's reach the corners: what they gain "
            "in distance they lose in power, but for many levels, many dimensions and rare errors.",
        ),
        ("structured_regimes",),
        ("optimality.md",),
    )


def _which_grid(records: Records) -> Finding:
    facts = records.facts("which_grid")
    rare = facts["gains"]["0.01"]
    own = "8x5x5x5"

    def range_of(name: str, gains: dict[str, Any]) -> str:
        found = [one[name]["gain_db"] for one in gains.values() if name in one]
        return f"{min(found):.1f} to {max(found):.1f} dB"

    def told(one: dict[str, Any]) -> str:
        return f"{one['gain_db']:.2f} dB ({one['levels']}, {one['K']} tokens)"

    best = facts["best"]["0.5"]
    cut = {where: rare[where]["3^8"]["E8 cut"]["gain_db"] for where in ("box", "power")}
    balanced = rare["box"][own]["balanced"]
    return Finding(
        "Level sets",
        "What to use instead of published level sets",
        "Which points of as many tokens and coordinates stand more noise?",
        "beyond the paper",
        (
            f"In the place of [8,5,5,5] at 1 % token error: balanced levels save {told(balanced)} "
            f"in the same box, with {0.01 / balanced['error_there']:.0f} times fewer errors at "
            f"equal noise; a checkerboard saves {told(rare['box'][own]['checkerboard'])} there and "
            f"{rare['power'][own]['checkerboard']['gain_db']:.2f} dB at equal power; equal spacing "
            f"alone saves {rare['power'][own]['equal spacing']['gain_db']:.2f} dB at equal power.",
            f"Over {len(rare['box'])} published level sets checkerboards save "
            f"{range_of('checkerboard', rare['box'])} in the box and "
            f"{range_of('checkerboard', rare['power'])} at equal power.",
            "Where half of the tokens are wrong, the best choice saves "
            f"{max(best['box'][0], 0):.1f} to {best['box'][1]:.1f} dB in the box, "
            f"{best['power'][0]:.1f} to {best['power'][1]:.1f} dB at equal power.",
            f"The E8 cut of 6561 tokens saves {cut['power']:.2f} dB on FSQ 3^8 at equal power and "
            f"loses {-cut['box']:.2f} dB in the same box.",
        ),
        ("which_grid",),
        ("which-grid.md", "theory/lattices.md"),
    )


def _quantizers(records: Records) -> Finding:
    facts = records.facts("quantizers")

    def of(case: str, name: str, what: str, source: str = "normal") -> float:
        return float(facts[case][source][name][what])

    small, large = "1000 in 4", "6561 in 8"
    fsq, board = "FSQ 8x5x5x5, clipped", "checkerboard 7x7x7x6"
    noise = of(small, fsq, "noise_db") - of(small, board, "noise_db")
    less = of(small, fsq, "distortion_db") - of(small, board, "distortion_db")
    e8_noise = of(large, "FSQ 3^8, clipped", "noise_db") - of(large, "E8 cut", "noise_db")
    e8_less = of(large, "FSQ 3^8, clipped", "distortion_db") - of(large, "E8 cut", "distortion_db")
    ways = [f"FSQ 3^8, {how}" for how in ("clipped", "tanh", "iFSQ")]
    usage = [of(large, way, "usage") for way in ways]
    distortions = [of(large, way, "distortion_db") for way in ways]
    spread = max(distortions) - min(distortions)
    filled = [of(large, name, "distortion_db", "uniform") for name in ("E8 cut", ways[0])]
    return Finding(
        "Quantizers",
        "Cuts of lattices as quantizers",
        "What do they distort, and what noise do their codes stand, beside FSQ, BSQ and k-means?",
        "beyond the paper",
        (
            "Normal inputs, about 1000 tokens in four coordinates: the checkerboard distorts "
            f"{less:.2f} dB less than FSQ 8x5x5x5, and its codes stand {noise:.2f} dB more noise "
            "at 1 % token error and equal power.",
            f"6561 tokens in eight: the E8 cut distorts {e8_less:.2f} dB less than FSQ 3^8 and "
            f"stands {e8_noise:.2f} dB more noise.",
            "Uniform inputs, which fill the box: the E8 cut distorts "
            f"{filled[0] - filled[1]:.2f} dB more than FSQ 3^8.",
            "Each at its best input scale, FSQ 3^8 uses "
            f"{100 * usage[0]:.0f} % of its tokens (perplexity) clipped, {100 * usage[1]:.0f} % "
            f"behind tanh and {100 * usage[2]:.0f} % behind the sigmoid of iFSQ, with distortions "
            f"within {spread:.2f} dB of each other.",
        ),
        ("quantizers",),
        ("which-grid.md",),
    )


def _grids(records: Records) -> Finding:
    times = records.facts("step_grids")["times_the_optimum"]
    all_of_them = [
        factor for book in times.values() for grid in book.values() for factor in grid.values()
    ]
    return Finding(
        "4",
        "The best sampling steps",
        "At which noise levels should a sampler stop?",
        "beyond the paper",
        (
            "With a density that follows sqrt(-d mmse / d snr) where steps are many. The usual "
            f"grids cost {min(all_of_them):.1f} to {max(all_of_them):.0f} times the best grid's "
            "path KL, and which of them is best depends on the codebook.",
        ),
        ("step_grids",),
        ("design.md",),
    )


def _capacity(records: Records) -> Finding:
    facts = records.facts("capacity")
    return Finding(
        "5",
        "Two levels attain the capacity of the box",
        "Do any tokens in the box tell more than FSQ's?",
        "beyond the paper",
        (
            f"None does up to alpha/sigma = {facts['threshold']:.4f} "
            f"({facts['threshold_db']:.2f} dB): two levels attain the amplitude-limited capacity "
            f"of Smith. Three levels overtake two from {facts['base_2_beaten_by_base_3_from_db']:g}"
            " dB on, and the best base loses at most "
            f"{100 * facts['largest_relative_loss_of_the_best_base']:.1f} % of the capacity.",
        ),
        ("capacity",),
    )


def _lipschitz(records: Records) -> Finding:
    facts = records.facts("score_lipschitz")
    growth = facts["random_by_dimension"]
    low, high = min(growth, key=int), max(growth, key=int)
    return Finding(
        "6",
        "Lipschitz constants of the score",
        "How steep is what a network has to learn?",
        "beyond the paper",
        (
            "FSQ's posterior variance in any direction is at most "
            f"{facts['largest_over_snr']['FSQ base 2']:g} in the box, in any number of dimensions; "
            f"that of {facts['tokens_of_random']} random tokens grows from {growth[low]:.2f} in "
            f"{low} dimension to {growth[high]:.2f} in {high}, at {facts['growth_db']:g} dB.",
        ),
        ("score_lipschitz",),
    )


def _brackets(records: Records) -> Finding:
    facts = records.facts("bounds")
    shares = {
        name: 100 * facts[f"{name}, accuracy"]["share_of_levels_within_5_percent"]
        for name in ("FSQ $3^8$", "one-hot 6561", "E8 cut")
    }
    listed = ", ".join(f"{_plain(name)}: {share:.0f} %" for name, share in shares.items())
    return Finding(
        "7",
        "Proved brackets from the geometry alone",
        "What can be said of accuracy and entropy without sampling?",
        "beyond the paper",
        (
            f"{facts['brackets_that_hold']} of {facts['brackets']} brackets hold the value.",
            "They close where errors are rare and where the SNR is low. Noise levels at which the "
            f"accuracy is known within 0.05: {listed}.",
        ),
        ("bounds",),
        ("theory/bounds.md",),
    )


def _ladder(records: Records) -> Finding:
    times = records.facts("bound_ladder")["times_too_large"]
    last = {
        rung: [steps[max(steps, key=int)] for steps in (book[rung] for book in times.values())]
        for rung in next(iter(times.values()))
    }
    N = max(next(iter(times.values()))["entropy"], key=int)

    def between(rung: str) -> str:
        ends = (float(f"{end(last[rung]):.2g}") for end in (min, max))
        return " to ".join(dict.fromkeys(f"{one:,g}" for one in ends))

    return Finding(
        "8",
        "What is known of the cost of few steps",
        "How far above the exact path KL are the bounds on it?",
        "beyond the paper",
        (
            f"At {N} steps equal in log SNR, for FSQ, one-hot, the E8 cut and a Markov source: "
            f"the bound by the entropy is {between('entropy')} times too large, that by the "
            f"dimension {between('dimension')}, that by a Lipschitz constant of the denoiser "
            f"{between('Lipschitz denoiser')}.",
            "On such steps the cost tends to half the entropy times the log of the range, over N, "
            "for every codebook; published rates have unknown constants.",
        ),
        ("bound_ladder",),
        ("theory/bounds.md",),
    )


def _laws(records: Records) -> Finding:
    cases = records.facts("context_laws")
    cells = [won for one in cases.values() for won in one["winners"].values()]
    named = sum(one["named"] == one["won"] for one in cells)
    gaps = [one["fsq_minus_own"] for one in cells if "fsq_minus_own" in one]
    worse = sum(low > 0 for _, low, _ in gaps)
    each = []
    for name, one in cases.items():
        terms = {term: _interval(found) for term, found in one["two_terms"].items()}
        each.append(
            f"{name}: Spearman of int nu and the trained excess "
            f"{_interval(one['spearman_nu_excess'])}; KL = exact + c int nu, with c of FSQ's law, "
            f"{terms['c']}, on the other laws: Spearman {terms['spearman']}, rms of log KL "
            f"{terms['rms']}; the exact term alone {terms['rms_of_exact_alone']}."
        )
    return Finding(
        "9",
        "Whose law is it?",
        "Does the excess of an affine denoiser in context, for which nothing is trained, say which "
        "tokenization a network learns on which law?",
        "beyond the paper",
        (
            f"It names the winner of KL at 25 steps in {named} of {len(cells)} cells of cases and "
            f"laws. On laws in another geometry's coordinates FSQ is worse than that geometry, "
            f"beyond the interval over seeds, in {worse} of {len(gaps)}.",
            *each,
        ),
        ("context_laws",),
        ("toy.md", "theory/context.md"),
    )


def _labels(records: Records) -> Finding:
    facts = records.facts("context_relabel")
    parts = []
    for name, one in facts.items():
        known, given = one["known law"], one["given"]
        enough = min(
            int(tokens)
            for tokens, found in one["found"].items()
            if found["readability"] > 0.95 * known["readability"]
        )
        share = known["nonlinearity"] / given["nonlinearity"]
        parts.append(f"{name}: {enough:,} tokens, int nu {share:.2f} of the given labels'")
    return Finding(
        "10",
        "Labels out of a corpus",
        "Laws live in the coordinates of a grid whose ids were permuted. From how many tokens are "
        "labels found that neighbours can be read by?",
        "beyond the paper",
        ("As readable as with the known law, within 5 %, from: " + "; ".join(parts) + ".",),
        ("context_relabel",),
        ("design.md", "theory/context.md"),
    )


def _index(records: Records) -> Finding:
    facts = records.facts("context_index")
    names = {"share that is not read": "the share that is not read", "nu": "nu"}
    names |= {"less that is read": "how little is read", "exact nu": "exact nu"}
    at_25 = facts["all"]["KL, 25 steps"]
    parts = [f"{label} {_interval(at_25[name])}" for name, label in names.items()]
    winners = [f"{label} {facts['winners'][name]}" for name, label in names.items()]
    pairs = facts["FSQ or permuted"]
    return Finding(
        "13",
        "One number out of bigrams",
        "Which number that bigrams give, without training, ranks tokenizations as the KL of "
        "trained networks does?",
        "beyond the paper",
        (
            f"Rank correlation with the KL at 25 steps within a law: {'; '.join(parts)}.",
            f"Of {facts['of']} cells the winner is named by: {', '.join(winners)}.",
            f"Between FSQ and permuted ids, {pairs['pairs']} pairs, the share is right in "
            f"{100 * pairs['share that is not read']:.0f} %.",
        ),
        ("context_index",),
        ("design.md",),
    )


def _speech_context(records: Records) -> Finding:
    facts = records.facts("context_speech")
    share = [one for one in facts["correlations"] if one["predictor"] == "share that is read"]
    parts = [f"{one['outcome']} {one['value']:.2f} (p = {one['p']:.2g})" for one in share]
    path = [one for one in facts["correlations"] if one["predictor"] == "path KL, 5 steps"]
    others = [f"{one['outcome']} {one['value']:.2f}" for one in path]
    table = records.rows("context_speech")
    read, bound = (
        table[table.kind == kind].set_index("name").value.drop("one-hot")
        for kind in ("share that is read", "bound, 200 training steps")
    )
    without = float(spearman(-read[bound.index].to_numpy(), bound.to_numpy()))
    return Finding(
        "14",
        "Bigrams of speech tokens",
        "Does the share of what neighbours tell that affine functions read foretell which geometry "
        "of speech tokens is learned best?",
        "beyond the paper",
        (
            f"Rank correlation of the share with what was measured, {share[0]['geometries']} "
            f"geometries: {'; '.join(parts)}.",
            f"Without one-hot, asked for afterwards: {without:.2f} with the bound after 200 steps.",
            f"Of the path KL of 5 steps given the phoneme, {path[0]['geometries']} geometries: "
            f"{'; '.join(others)}.",
            f"Order by the share: {', '.join(facts['order'])}.",
        ),
        ("context_speech",),
        ("speech.md", "context.md"),
    )


def _processes(records: Records) -> Finding:
    facts = records.facts("discrete_against_gaussian")
    joint = facts["joint ancestral length 3 best"]
    data = facts["data ddim length 3 best"]
    names = ("masked", "uniform", "FSQ", "permuted", "relabelled", "one-hot")

    def listed(row: dict[str, Any], steps: str) -> str:
        return ", ".join(f"{name} {row[name][steps][0]:.3g}" for name in names)

    return Finding(
        "11",
        "Discrete against Gaussian diffusion",
        "One Markov source, exact denoisers: what do N evaluations cost each process?",
        "beyond the paper",
        (
            f"States and tokens, 8 evaluations, nats: {listed(joint, '8')}.",
            f"The generated tokens alone (DDIM for Gaussians), 8 evaluations: {listed(data, '8')}. "
            "Uniform noise is closest, since a token that was drawn wrong is drawn again.",
        ),
        ("discrete_against_gaussian",),
        ("discrete.md",),
    )


def _reach(records: Records) -> Finding:
    facts = records.facts("context_prediction")
    last = {
        (one["network"], one["length"], one["width"], one["base"]): one
        for one in facts["conditions"]
    }
    each: dict[str, list[str]] = {}
    for (network, length, width, base), one in last.items():
        found = one["found"]
        words = f"{network}, {one['budget']:,} steps, {length} tokens"
        if width < length:
            words += f" by windows of {width}"
        each.setdefault(words, []).append(
            f"base {base} {_interval(found['rms'])}, with a constant in the place of int nu "
            f"{found['rms_of_a_constant'][0]:.2f}"
        )
    slopes = "; ".join(
        f"{grid}: {_interval(one['slope_of_budget'])} and {_interval(one['slope_of_width'])}"
        for grid, one in facts["rules"].items()
    )
    kappas = "; ".join(
        f"{grid}: {_interval(one['kappa_of_perceptrons'])}, the standard deviation of its "
        f"logarithm {one['sd_of_log_kappa'][0]:.2f}, of log c {one['sd_of_log_c'][0]:.2f}"
        for grid, one in facts["rules"].items()
    )
    third = [
        one["found"]["rms_of_three_terms"][0] / one["found"]["rms"][0] for one in last.values()
    ]
    return Finding(
        "12",
        "How far does the two-term law reach?",
        "KL after N steps = that of the exact denoiser + c int nu dlog snr, with c from FSQ's law "
        "alone: on other laws, for other widths, budgets, transformers and longer sequences?",
        "beyond the paper",
        (
            *(f"rms of log KL, {words}: {'; '.join(found)}." for words, found in each.items()),
            f"Slopes of log c in log budget and log width, perceptrons: {slopes}.",
            "c over the share of int nu that the networks have not learned (their excess "
            f"cross-entropy on FSQ's law): {kappas}.",
            f"With a third term for the number of free slopes the rms is {min(third):.2f} to "
            f"{max(third):.2f} times as large.",
        ),
        ("context_prediction",),
        ("toy.md", "theory/context.md"),
    )


def _trained_labels(records: Records) -> Finding:
    facts = records.facts("context_labels")
    parts, predicted = [], []
    for grid, one in facts["grids"].items():
        gains = [
            f"{kind} {_interval(gap)}" for kind, gap in one["log KL, 25 steps, minus given"].items()
        ]
        parts.append(f"{grid}: {', '.join(gains)}.")
        predicted.append(f"{grid}: c = {one['c']:.2f}, rms {one['rms']:.2f}")
    verdicts = _verdicts(facts)
    return Finding(
        "15",
        "Networks with labels out of a corpus",
        "Labels are found from some thousands of tokens. Do networks learn better with them, and "
        "by as much as is predicted?",
        "beyond the paper",
        (
            "Logarithm of KL at 25 steps minus that with the given labels, over laws: "
            + " ".join(parts),
            "KL by two terms, with c from the given labels alone: " + "; ".join(predicted) + ".",
            f"Hypotheses written down before the runs: {verdicts}.",
        ),
        ("context_labels",),
        ("design.md", "theory/context.md"),
    )


def _probe(records: Records) -> Finding:
    facts, table = records.facts("context_probe"), records.rows("context_probe")
    rows = table[table.level.isna()].set_index(["kind", "prior", "name"])

    def listed(kind: str, prior: str) -> str:
        parts = []
        for name, label in PROBED.items():
            if (kind, prior, name) not in rows.index:
                continue
            row = rows.loc[(kind, prior, name)]
            parts.append(f"{label} {_interval([row.value, row.low, row.high], digits=3)}")
        return ", ".join(parts)

    networks = facts["networks"]["read along the path"]
    learned = ", ".join(f"{label} {networks[name]:.2f}" for name, label in PROBED.items())
    ranks = "; ".join(
        f"{one['predictor']} with {one['outcome']} {one['value']:.2f}"
        for one in facts["correlations"]
        if (one["predictor"] == "int nu") == (one["outcome"] != "read along the path")
        and one["predictor"] != "gain"
    )
    verdicts = _verdicts(facts)
    return Finding(
        "16",
        "An affine probe of speech tokens",
        "Does a probe of noisy neighbours, fitted to the tokens given the phoneme, foretell what "
        "trained networks read of each set of points?",
        "beyond the paper",
        (
            f"Read along the path given the phoneme, nats a token: "
            f"{listed('read along the path', 'phoneme')}; by networks: {learned}.",
            f"int nu of the fit, given the phoneme: {listed('int nu', 'phoneme')}.",
            f"Rank correlations over the five: {ranks}.",
            f"Hypotheses written down before the run: {verdicts}.",
        ),
        ("context_probe",),
        ("speech.md",),
    )


def _schedules(records: Records) -> Finding:
    facts, table = records.facts("context_schedule"), records.rows("context_schedule")

    def listed(kind: str, name: str, scale: float, digits: int, **where: Any) -> str:
        rows = table[(table.kind == kind) & (table.name == name)]
        for column, value in where.items():
            rows = rows[rows[column] == value]
        return ", ".join(
            _interval([scale * row.value, scale * row.low, scale * row.high], digits=digits)
            for row in rows.sort_values("steps").itertuples()
        )

    gaps = [
        f"{name} {listed(WORDS, name, 100, 0, levels='own')}, in the bound "
        f"{listed(BOUND, name, 1, 2)}"
        for name in facts["seeds"]
        if name != "linear-vp"
    ]
    seeds = " or ".join(map(str, sorted(set(facts["seeds"].values()))))
    medians = ", ".join(f"{name} {value:.1f}" for name, value in facts["medians"].items())
    verdicts = _verdicts(facts)
    return Finding(
        "17",
        "Schedules that know the context",
        "Does a schedule that knows the context repair what the information-uniform one lost on "
        "speech?",
        "beyond the paper",
        (
            f"Medians of the laws, dB: {medians}.",
            "Points of word error at 2, 5 and 25 steps, and nats a token in the bound, more than "
            f"linear-VP's, trained by each ({seeds} seeds): " + "; ".join(gaps) + ".",
            "The sampler alone, nats a token at 5, 12 and 25 steps minus equal steps: contextual "
            f"{listed('bound on a grid', 'contextual', 1, 2)}; the grid with the smallest bound "
            f"by the curve {listed('bound on a grid', 'best', 1, 2)}.",
            f"Hypotheses written down before the runs: {verdicts}.",
        ),
        ("context_schedule",),
        ("speech.md",),
    )


# ---- Documents ----------------------------------------------------------------------------------


def markdown(found: Iterable[Finding]) -> str:
    """docs/findings.md; links are from docs/."""
    lines = [
        "# Findings",
        "",
        "Claims are those of arXiv 2606.09962, in our words. Every number is out of a record in "
        "`figures/`, which the command beside it makes anew; this page is made by",
        "`tokenkl findings --report docs/findings.md`. Intervals are 95 %.",
    ]
    for one in found:
        lines += ["", f"## {one.key}. {one.title}: {one.verdict}", "", f"*{one.claim}*", ""]
        lines += [f"- {sentence}" for sentence in one.answer]
        links = [f"`figures/{name}.png`" for name in one.figures]  # outside of docs/
        links += [f"`{command}`" for command in one.commands]
        links += [f"[{page}]({page})" for page in one.pages]
        lines += ["", " · ".join(links)]
    return "\n".join(lines) + "\n"


def _gain(ratio: float) -> str:
    return f"{100 * (ratio - 1):.1f} %"


def _calls(records: Records) -> Finding:
    facts, table = records.facts("speech_steps"), records.rows("speech_steps")
    names = {name: label for name, label in PROBED.items() if name in set(table.name)}

    def of(kind: str, name: str, scale: float, digits: int, **where: Any) -> str:
        rows = table[(table.kind == kind) & (table.name == name)]
        for column, value in where.items():
            rows = rows[rows[column] == value]
        [row] = rows.itertuples()
        return _interval([scale * row.value, scale * row.low, scale * row.high], digits=digits)

    def listed(kind: str, scale: float, digits: int, **where: Any) -> str:
        found = table[table.kind == kind]
        return ", ".join(
            f"{label} {of(kind, name, scale, digits, **where)}"
            for name, label in names.items()
            if (found.name == name).any()
        )

    calls = sorted({int(steps) for steps in table[table.kind == "WER"].steps})
    by_calls = ", ".join(of("WER", "fsq", 100, 0, steps=steps) for steps in calls)
    seeds = {int(row.seeds) for row in table[table.kind == "WER"].itertuples()}
    verdicts = _verdicts(facts)
    return Finding(
        "18",
        "A task on which steps matter",
        "What do steps and geometry do where one call of the network cannot solve the task, since "
        "the text does not say when words are spoken?",
        "beyond the paper",
        (
            f"Digits with pauses of unknown length, {' or '.join(map(str, sorted(seeds)))} seeds: "
            f"word errors of FSQ at {', '.join(map(str, calls))} calls, in percent: {by_calls}; "
            f"of true tokens {100 * facts['ceilings']['true tokens']['wer_bigram']:.0f}.",
            f"Points more than FSQ at 10 calls: "
            f"{listed('WER minus rival', 100, 0, steps=10)}; at one: "
            f"{listed('WER minus rival', 100, 0, steps=1)}.",
            f"Read along the path, nats a token: {listed('read along the path', 1, 2)}; the "
            f"unknown alignment alone costs one call {facts['alignment']['lost by one call']:.2f}.",
            f"Nats a token more than FSQ in the bound of 5 steps: "
            f"{listed('evidence minus rival', 1, 2, steps=5)}; of 25: "
            f"{listed('evidence minus rival', 1, 2, steps=25)}; of many: "
            f"{listed('many steps minus rival', 1, 2)}.",
            f"Hypotheses written down before the run: {verdicts}.",
        ),
        ("speech_steps",),
        ("speech.md",),
    )


def _lasting(records: Records) -> Finding:
    facts, table = records.facts("speech_lasting"), records.rows("speech_lasting")
    names = {name: label for name, label in PROBED.items() if name in set(table.name)}

    def listed(kind: str, digits: int = 2, scale: float = 1, **where: Any) -> str:
        rows = table[(table.kind == kind) & (table.name != "fsq")]
        for column, value in where.items():
            rows = rows[rows[column].astype(str) == str(value)]
        found = rows.set_index("name")
        return ", ".join(
            f"{label} "
            + _interval(found.loc[name, ["value", "low", "high"]].to_numpy(float) * scale, digits)
            for name, label in names.items()
            if name in found.index
        )

    agree = facts["foretold"]["classifier, E"]
    count = agree["5"]["points"]
    wrong = ", ".join(f"{one['rms']:.2f}" for one in agree.values())
    ranks = ", ".join(f"{one['spearman']:.2f}" for one in agree.values())
    gap: dict[str, Any] = {"kind": "evidence minus rival"}
    return Finding(
        "19",
        "What lasts, and what the text foretells",
        "Do the differences between geometries of speech tokens last to the validation optimum, "
        "and does a law of the tokens given the text foretell them?",
        "beyond the paper",
        (
            f"Nats a token more than FSQ in the bound of 5 steps, after 200 training steps: "
            f"{listed(**gap, steps=5.0, budget=200)}; at the optimum: "
            f"{listed(**gap, steps=5.0, budget='optimum')} ({facts['units']} of "
            f"{facts['planned_units']} networks).",
            f"The same in the limit of many steps: {listed('many steps minus rival')}.",
            f"Points of word error at 5 steps more than FSQ's, at the optimum: "
            f"{listed('WER minus rival', 1, 100, steps=5.0, budget='optimum')}.",
            f"Foretold of {count} sets of points by a classifier that sees the text alone, for "
            f"networks of 200 training steps at 5, 12 and 25 sampling steps: rank correlations "
            f"{ranks}, wrong by {wrong} nats (root mean square).",
            f"Hypotheses written down before the runs: {_verdicts(facts)}.",
        ),
        ("speech_lasting",),
        ("speech.md",),
    )


def _verdicts(facts: dict[str, Any]) -> str:
    """Of every hypothesis, in one line."""
    return "; ".join(f"{name} {verdict}" for name, verdict in facts["verdicts"].items())


def _interval(three: Iterable[float], digits: int = 2) -> str:
    """Value (low to high), without a minus before 0."""
    value, low, high = (
        f"{0.0 if round(x, digits) == 0 else x:.{digits}f}" for x in np.asarray(list(three))
    )
    if not math.isfinite(float(low)):
        return f"{value} (one seed)"
    return f"{value} ({low} to {high})"


def _plain(label: str) -> str:
    return label.replace("$", "")
