"""The reference: one page for each question, written out of docstrings.

A public name that no question has fails the build.
"""

from __future__ import annotations

from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from website.questions import GROUPS, Group, page_name, rest_of, ungrouped


def on_config(config: Any) -> Any:
    """Every question has its place beside the pages."""
    if any(ungrouped()):
        raise PluginError(f"reference: not in exactly one group, or not public: {ungrouped()}")
    entries = [{group.question: page_name(group)} for group in GROUPS]
    for part in config.nav:
        if "Reference" in part:
            part["Reference"] = [{"All names": "api/index.md"}, *entries]
    return config


def on_files(files: Any, config: Any) -> Any:
    files.append(File.generated(config, "api/index.md", content=overview()))
    for group in GROUPS:
        files.append(File.generated(config, page_name(group), content=page(group)))
    return files


def overview() -> str:
    lines = ["# Reference", "", "Everything below is `import tokenkl as tk`.", ""]
    for group in GROUPS:
        lines += [f"## [{group.question}]({group.page}.md)", "", group.answer, ""]
        lines += [" · ".join(f"`tk.{name}`" for name in (*group.names, *group.rooms)), ""]
    return "\n".join(lines)


def page(group: Group) -> str:
    lines = [f"# {group.question}", "", group.answer, ""]
    for name in group.names:
        lines += [f"::: tokenkl.{name}", "    options:", f"      heading: tk.{name}", ""]
    for room in group.rooms:
        members = rest_of(room)
        lines += [f"::: tokenkl.{room}", "    options:", f"      heading: tk.{room}"]
        lines += [f"      members: {members if members else 'false'}", ""]
    return "\n".join(lines)


def reference(name: str, shown: str) -> str:
    """HTML that becomes a link to where the name is described, when all pages are there."""
    return f'<autoref identifier="tokenkl.{name}" optional>{shown}</autoref>'
