"""Which errors can be planted in the package, and a random choice of them.

A mutant replaces one span of the source of one file, found in its syntax tree, and leaves the rest
of the file as it is. Left out is what no result depends on: annotations, decorators, messages, the
conditions of typing, the looks of pictures and progress bars, and the strategies for tests.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

#: How much of a random choice falls on each part of the package. Within a part all kinds of errors
#: are equally likely, and within a kind all places.
PARTS = {"numerics": 0.6, "tts": 0.25, "cli": 0.15}
#: Looks, progress, printed pages and strategies for tests.
LEFT_OUT = ("plotting.py", "_progress.py", "testing.py", "symbolic/page.py")
#: Calls whose arguments nobody computes with, by the first or the last part of the function's name.
LOOKS = {
    "reject", "warn", "print", "echo", "secho", "track", "Table", "Console", "Progress", "Option",
    "Argument", "Typer", "add_column", "add_row", "table", "console", "axes", "ax", "axis",
    "figure", "plt", "subplots", "savefig", "bar", "progress", "advance", "logger",
}  # fmt: skip
#: How an operator is written, and what it is mistaken for.
COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<", "<=", ">"),
    ast.LtE: ("<=", "<", ">"),
    ast.Gt: (">", ">=", "<"),
    ast.GtE: (">=", ">", "<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Pow: ("**", "*"),
    ast.Mod: ("%", "//"),
}
#: Functions that are mistaken for each other, as whole names or last parts of names.
TWINS = [
    ("min", "max"),
    ("minimum", "maximum"),
    ("log", "log1p"),
    ("exp", "expm1"),
    ("sin", "cos"),
    ("floor", "ceil"),
    ("argmin", "argmax"),
    ("sum", "mean"),
    ("any", "all"),
]
SWAPPED = dict(TWINS) | {b: a for a, b in TWINS}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """Bytes `start` to `end` of `file` (within the package), `old`, become `new`."""

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str
    kind: str

    @property
    def name(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file}:{self.line}: {old} -> {new or '(nothing)'}"

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]


def draw(package: Path, seed: int) -> Iterator[Mutant]:
    """Mutants in random order, without end of its own, none twice."""
    found: dict[str, dict[str, list[Mutant]]] = {part: {} for part in PARTS}
    for mutant in every_mutant(package):
        found[part_of(mutant.file)].setdefault(mutant.kind, []).append(mutant)
    choice = random.Random(seed)
    seen = set()
    while True:
        [part] = choice.choices(list(PARTS), list(PARTS.values()))
        mutant = choice.choice(found[part][choice.choice(sorted(found[part]))])
        if mutant.name not in seen:
            seen.add(mutant.name)
            yield mutant


def part_of(file: str) -> str:
    room = file.split("/")[0]
    return room if room in PARTS else "numerics"


def every_mutant(package: Path) -> list[Mutant]:
    trees = {}
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        if file not in LEFT_OUT:
            trees[file] = path.read_bytes()
    optional = _optional_arguments(ast.parse(source) for source in trees.values())
    return [
        mutant
        for file, source in trees.items()
        for mutant in _Finder(file, source, optional).found()
    ]


def _optional_arguments(trees: Iterable[ast.Module]) -> dict[str, set[str]]:
    """Arguments with a default, in all functions or classes of the same name."""
    optional: dict[str, set[str]] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                given = node.args.args[len(node.args.args) - len(node.args.defaults) :]
                pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                names = {one.arg for one in given} | {one.arg for one, value in pairs if value}
            elif isinstance(node, ast.ClassDef):
                fields = (one for one in node.body if isinstance(one, ast.AnnAssign) and one.value)
                names = {one.target.id for one in fields if isinstance(one.target, ast.Name)}
            else:
                continue
            optional[node.name] = optional.get(node.name, names) & names
    return optional


def function_of(tree: ast.Module, line: int) -> tuple[str, int]:
    """Qualified name of the innermost function around a line, and how far below its head it is."""
    for start, end, name in _functions(tree):
        if start <= line <= end:
            return name, line - start
    return "", line


@functools.cache
def _functions(tree: ast.Module) -> list[tuple[int, int, str]]:
    """First and last lines and names of all functions, inner ones before those around them."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[int, int, str]]:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = f"{prefix}.{child.name}".lstrip(".")
            yield from walk(child, name)
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield child.lineno, child.end_lineno or child.lineno, name

    return list(walk(tree, ""))


class _Finder(ast.NodeVisitor):
    """Collects the mutants of one file."""

    def __init__(self, file: str, source: bytes, optional: dict[str, set[str]]) -> None:
        self.file, self.source, self.optional = file, source, optional
        self.mutants: list[Mutant] = []
        self.scope: list[set[str]] = []
        lines = source.splitlines(keepends=True)
        self.starts = [0]
        for line in lines:
            self.starts.append(self.starts[-1] + len(line))

    def found(self) -> list[Mutant]:
        self.visit(ast.parse(self.source))
        return self.mutants

    # Places.

    def start(self, node: Any) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node: Any) -> int:
        return self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: Any) -> str:
        return self.source[self.start(node) : self.end(node)].decode()

    def add(self, kind: str, start: int, end: int, new: str) -> None:
        old = self.source[start:end].decode()
        line = self.source[:start].count(b"\n") + 1
        self.mutants.append(Mutant(self.file, line, start, end, old, new, kind))

    def replace(self, kind: str, node: ast.AST, new: str) -> None:
        self.add(kind, self.start(node), self.end(node), new)

    def between(self, kind: str, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """Replace an operator, which stands between two nodes beside brackets and comments."""
        start = self.end(left)
        gap = self.source[start : self.start(right)].decode()
        found = re.search(rf"(?<![\w#]){re.escape(old)}(?!\w)", gap)
        if found and "#" not in gap:
            self.add(kind, start + found.start(), start + found.end(), new)

    # What is left out.

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in ("__repr__", "__str__") or re.search("plot|figure|curve$|_axis", node.name):
            return
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if isinstance(default, (ast.Constant, ast.UnaryOp)):
                self.default(default)
            elif default is not None:
                self.visit(default)
        names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
        stored = {one.id for one in names if isinstance(one.ctx, ast.Store)}
        arguments = {one.arg for one in [*node.args.args, *node.args.kwonlyargs]} - {"self", "cls"}
        self.scope.append(stored | arguments)
        for statement in node.body:
            self.visit(statement)
        self.scope.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.value, (ast.Constant, ast.UnaryOp)):
            self.default(node.value)
        elif node.value is not None:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" in self.text(node.test) or "__main__" in self.text(node.test):
            return
        self.negate(node.test)
        self.generic_visit(node)

    # What is mistaken.

    def default(self, node: ast.AST) -> None:
        before = len(self.mutants)
        self.visit(node)
        changed = self.mutants[before:]
        self.mutants[before:] = [dataclasses.replace(one, kind="default") for one in changed]

    def negate(self, test: ast.expr) -> None:
        self.replace("negated condition", test, f"not ({self.text(test)})")

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            old, *others = COMPARISONS[type(operator)]
            for new in others:
                self.between("comparison", left, right, old, new)
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        self.between("and/or", node.values[0], node.values[1], old, new)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in ARITHMETIC and not isinstance(node.left, (ast.JoinedStr, ast.List)):
            self.between("arithmetic", node.left, node.right, *ARITHMETIC[type(node.op)])
        if isinstance(node.op, (ast.Add, ast.Sub)):
            self.replace("dropped term", node, self.text(node.left))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self.replace("sign", node, self.text(node.operand))
        elif isinstance(node.op, ast.Not):
            self.replace("negated condition", node, f"bool({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.replace("constant", node, str(not value))
        elif isinstance(value, int):
            self.replace("constant", node, {0: "1", 1: "0"}.get(value, str(value + 1)))
        elif isinstance(value, float) and (value == 0 or abs(value) > 1e-5):  # no tolerances
            self.replace(
                "constant", node, {0.0: "1.0", 0.5: "1.0"}.get(value, f"{value * 1.1:.6g}")
            )

    def visit_Call(self, node: ast.Call) -> None:
        names = self.text(node.func).replace("(", ".").split(".")
        if LOOKS & {names[0], names[-1]}:
            return
        last = names[-1]
        if last in SWAPPED and isinstance(node.func, (ast.Name, ast.Attribute)):
            end = self.end(node.func)
            self.add("twin function", end - len(last), end, SWAPPED[last])
        if last == "where" and len(node.args) == 3:
            _, yes, no = node.args
            middle = self.source[self.end(yes) : self.start(no)].decode()
            new = self.text(no) + middle + self.text(yes)
            self.add("swapped branches", self.start(yes), self.end(no), new)
        library = names[0] in ("np", "jnp", "xp", "torch", "stats", "special")
        for position, keyword in enumerate(node.keywords):
            optional = keyword.arg and (library or keyword.arg in self.optional.get(last, ()))
            if optional and keyword.arg not in ("progress", "optimize"):
                before = [*node.args, *node.keywords[:position]]
                after = node.keywords[position + 1 :]  # the comma goes along
                start = self.end(before[-1]) if before else self.start(keyword)
                end = self.start(after[0]) if after and not before else self.end(keyword)
                self.add("dropped argument", start, end, "")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.replace("deleted statement", node, "pass")
        if type(node.op) in ARITHMETIC:
            old, new = (f"{symbol}=" for symbol in ARITHMETIC[type(node.op)])
            self.between("arithmetic", node.target, node.value, old, new)
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            names = self.text(node.value.func).replace("(", ".").split(".")
            if not LOOKS & {names[0], names[-1]}:
                self.replace("deleted statement", node, "pass")
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if isinstance(node.value, ast.Name) and self.scope:
            for other in sorted(self.scope[-1] - {node.value.id}):
                self.replace("wrong variable", node.value, other)
        self.generic_visit(node)
