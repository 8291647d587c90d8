"""Text and tables as LaTeX reads them: what is typed in stays text, numbers are for siunitx."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from tokenkl._validation import printable

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "-": "-{}",  # neighbours do not become a dash
    **{character: f"\\{character}" for character in "#$%&_{}"},
}
#: As `tokenkl.readable` writes them: a value, its error, a power of ten for both, and marks.
NUMBER = re.compile(
    r"\(?(?P<value>-?[\d.]+)(?:e(?P<own>[+-]\d+))?(?: ± (?P<half>[\d.e+-]+))?\)?"
    r"(?:e(?P<power>[+-]\d+))?(?P<marks>[*†]*)"
)


def escape(text: str) -> str:
    """Any text so that LaTeX prints it as it is.

    Example:
        >>> print(escape("50 % of a_b"))
        50 \\% of a\\_b
    """
    return "".join(SPECIAL.get(character, character) for character in printable(text))


def number(text: str) -> str:
    """A number of `tokenkl.readable` as siunitx reads it; in braces what is none, such as inf.

    Example:
        >>> number("(2.20 ± 0.21)e-07*")
        '2.20 +- 0.21 e-7 {*}'
    """
    found = NUMBER.fullmatch(text.strip())
    if found is None:
        return f"{{{escape(text.strip())}}}"
    parts = [found["value"]]
    if found["half"] is not None:
        parts.append(f"+- {Decimal(found['half']):f}")  # siunitx has no power of the error alone
    power = found["power"] or found["own"]
    if power is not None:
        parts.append(f"e{int(power)}")
    if found["marks"]:
        parts.append(f"{{{found['marks']}}}".replace("†", r"$\dagger$"))
    return " ".join(parts)


def numbers_table(columns: Mapping[str, Sequence[str]]) -> str:
    """A tabular of columns of numbers, by their heads, which are LaTeX.

    It needs booktabs and siunitx (\\usepackage{booktabs, siunitx}). siunitx prints an error as
    0.81(2), or as 0.81 ± 0.02 after \\sisetup{separate-uncertainty}.

    Example:
        >>> print(numbers_table({"K": ["4", "9"], "A": ["0.81 ± 0.02", "0.7"]}))
        \\sisetup{table-align-exponent=false, table-align-uncertainty=false}
        \\begin{tabular}{S[table-format=1.0] S[table-format=1.2(1)]}
        \\toprule
        {K} & {A} \\\\
        \\midrule
        4 & 0.81 +- 0.02 \\\\
        9 & 0.7 \\\\
        \\bottomrule
        \\end{tabular}
    """
    kinds = " ".join(_column(texts) for texts in columns.values())
    heads = " & ".join(f"{{{head}}}" for head in columns)
    rows = zip(*([number(text) for text in texts] for texts in columns.values()), strict=True)
    lines = [
        r"\sisetup{table-align-exponent=false, table-align-uncertainty=false}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        rf"{heads} \\",
        r"\midrule",
        *(rf"{' & '.join(row)} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def _column(texts: Sequence[str]) -> str:
    """A column of siunitx with room for the longest part of any number."""
    found = [one for one in (NUMBER.fullmatch(text.strip()) for text in texts) if one]
    whole, after, errors, powers = [1], [0], [0], [0]
    for one in found:
        digits, _, decimals = one["value"].lstrip("-").partition(".")
        whole.append(len(digits))
        after.append(len(decimals))
        if one["half"] is not None:
            errors.append(len(f"{Decimal(one['half']):f}".replace(".", "").lstrip("0")))
        powers.append(len((one["power"] or one["own"] or "").lstrip("+-0")))
    sign = "-" * any(one["value"].startswith("-") for one in found)
    error = f"({max(errors)})" * (max(errors) > 0)
    power = f"e-{'1' * max(powers)}" * (max(powers) > 0)
    return f"S[table-format={sign}{max(whole)}.{max(after)}{error}{power}]"
