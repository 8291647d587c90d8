"""Which kinds of codebooks files and the command line know.

A kind is registered with the file that defines it; nothing else has a list of kinds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tokenkl._validation import reject, shortened

if TYPE_CHECKING:
    from tokenkl.codebooks.base import Codebook, Reader, Record

Kind = TypeVar("Kind", bound="type[Codebook]")
Parse = Callable[[str, str], "Codebook"]


@dataclasses.dataclass(frozen=True)
class Spec:
    """One way to write a codebook on the command line.

    Args:
        form: what is typed, with words in capitals for what is to be filled in: "fsq:LEVELS".
        example: such as "fsq:3^8".
        parse: called with the whole specification, for messages, and what follows the colon.
    """

    form: str
    example: str
    parse: Parse


#: Name of a kind, in the description that a file holds -> its class.
KINDS: dict[str, type[Codebook]] = {}
#: What comes before the colon -> how the rest is read.
SPECS: dict[str, Spec] = {}


def register(kind: Kind) -> Kind:
    """Make a kind of codebook known to `save_codebook` and `load_codebook`, by its class's name.

    It needs `record` and `from_record`. A decorator.

    Raises:
        ValueError: another class of this name is registered.
    """
    name = kind.__name__
    known = KINDS.setdefault(name, kind)
    if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(
            f"register: {name} is a kind in {known.__module__} already; each needs its own name"
        )
    KINDS[name] = kind
    return kind


def register_spec(head: str, form: str, example: str) -> Callable[[Parse], Parse]:
    """Make a codebook known to the command line as `head:...`; decorates its parser.

    Raises:
        ValueError: a head that is taken, or one with a colon.
    """
    if head in SPECS or ":" in head:
        raise ValueError(f"register_spec: head must be a new word without a colon, not {head!r}")

    def keep(parse: Parse) -> Parse:
        SPECS[head] = Spec(form, example, parse)
        return parse

    return keep


def described(codebook: Codebook) -> Record:
    """What `record` says, with the name of the kind; arrays that are None are left out.

    Raises:
        ValueError: a kind that is not registered, or that does not say how it is stored.
    """
    header, arrays = codebook.record()
    header = {"kind": type(codebook).__name__, **header}
    if header["kind"] not in KINDS:
        reject("codebook", header["kind"], "a kind that tk.register was called on")
    return header, {name: array for name, array in arrays.items() if array is not None}


def made_from(header: dict[str, Any], read: Reader) -> Codebook:
    """The inverse of `described`.

    Raises:
        ValueError: a kind that is not registered, or what its `from_record` refuses.
    """
    kind = header.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        expected = "one that is registered; import the module that defines it"
        reject("kind", shortened(repr(kind), 60), expected)
    return KINDS[kind].from_record(header, read)
