"""A real Chromium for the tests, and what watches it: console errors and axe."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright

AXE = Path(__file__).resolve().parent.parent / "node_modules" / "axe-core" / "axe.min.js"
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def chromium() -> str:
    """Where Chromium is; skips the test without it, and fails it where CI=true leaves nothing out."""
    found = os.environ.get("ATELIER_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail("Chromium is not installed, and with CI=true nothing may be left out.")
    pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")


def launch(playwright: Playwright) -> Browser:
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    arguments += ["--disable-component-update", "--disable-sync"]
    return playwright.chromium.launch(executable_path=chromium(), args=arguments)


class Watch:
    """Collects what the browser complains about; ``finish`` fails the test with all of it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        # A page that is left while it still asks for something: htmx writes that down as if it had failed.
        left = message.text.startswith(("htmx:sendAbort", "htmx:afterRequest"))
        if message.type == "error" and not left:
            self.complaints.append(f"{self.page.url}: {message.text} {message.location}")

    def axe(self, name: str) -> None:
        """Ask axe about the page as it is; violations of level A and AA are kept for ``finish``."""
        self.page.evaluate(AXE.read_text(encoding="utf-8") + "; undefined")
        found = self.page.evaluate("levels => axe.run(document, {runOnly: levels})", LEVELS)
        for violation in found["violations"]:
            nodes = "; ".join(f"{node['target']} {node['failureSummary']}" for node in violation["nodes"][:3])
            self.complaints.append(f"{name}: {violation['id']} ({violation['impact']}): {nodes}")

    def finish(self) -> None:
        assert not self.complaints, "\n".join(self.complaints)
