"""Count the words of a text: the one script behind kjv_word_counts.csv.

On Debian, with the package bible-kjv installed:

    bible -f 'gen1:1-rev22:21' | cut -d' ' -f2- | python experiments/data/count_words.py \
        --words 6560 --out experiments/data/kjv_word_counts.csv

A word is a run of letters, with apostrophes and hyphens inside it, in lower case. The `--words`
most frequent ones go to the table (ties in alphabetical order); totals of all words go beside it,
to a .json file of the same name.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import re
import sys
from pathlib import Path

WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")


def count_words(text: str) -> list[tuple[str, int]]:
    """Words and counts, most frequent first, ties in alphabetical order."""
    counts = collections.Counter(WORD.findall(text.lower()))
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def main() -> None:
    """Read a file or standard input, write the table and its totals."""
    parser = argparse.ArgumentParser(description="Count the words of a text.")
    parser.add_argument("text", nargs="?", type=Path, help="a text file; standard input if absent")
    parser.add_argument("--words", type=int, default=6560, help="how many words the table keeps")
    parser.add_argument("--out", type=Path, required=True, help="the .csv file to write")
    options = parser.parse_args()
    text = options.text.read_text("utf-8") if options.text else sys.stdin.read()
    counts = count_words(text)
    kept = counts[: options.words]
    lines = ["word,count", *(f"{word},{count}" for word, count in kept)]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    totals = {
        "source": "King James Bible, from the Debian package bible-kjv 4.38 (command: "
        "bible -f 'gen1:1-rev22:21' | cut -d' ' -f2-)",
        "licence": "the text is in the public domain: a translation of 1611, copyright expired",
        "words_in_text": sum(count for _, count in counts),
        "distinct_words": len(counts),
        "words_in_table": len(kept),
        "sha256_of_text": hashlib.sha256(text.encode()).hexdigest(),
    }
    options.out.with_suffix(".json").write_text(json.dumps(totals, indent=1) + "\n")


if __name__ == "__main__":
    main()
