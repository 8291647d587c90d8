"""Pages as browsers read them: a parser that forgives nothing, and a browser without a window."""

import os
import re
import shutil
import signal
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

BROWSER = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None
)
#: Elements without an end.
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Every tag is closed by its own; ids, links and loaded addresses are kept."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.shown: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        for name in ("href", "xlink:href", "src"):
            if given.get(name):
                (self.links if tag == "a" else self.loaded).append(str(given[name]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def browse(page: Path, out: Path, *flags: str) -> tuple[str, list[str]]:
    """What the console said, with these flags, and the addresses that were asked for."""
    log = out / "net.json"
    words = [*_words(out), *flags, f"--log-net-log={log}", page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    said = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return said, re.findall(r'"url":"([^"]*)"', log.read_text())


def listen(page: Path, out: Path, end: str, *more: str) -> str:
    """The line on the console that holds `end`; the browser is there until then."""
    flags = (*more, "--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0")
    words = [*_words(out), *flags, page.as_uri()]
    # Its processes are a group of their own, which ends with it.
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(words, **pipes) as browser:
        late = threading.Timer(100, os.killpg, (browser.pid, signal.SIGKILL))
        late.start()
        try:
            assert browser.stderr is not None
            return next((line for line in browser.stderr if end in line), "")
        finally:
            late.cancel()
            os.killpg(browser.pid, signal.SIGKILL)


def _words(out: Path) -> list[str]:
    assert BROWSER is not None
    return [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *("--disable-background-networking", "--disable-component-update"),
        *("--enable-logging=stderr", f"--user-data-dir={out / 'profile'}"),
    ]
