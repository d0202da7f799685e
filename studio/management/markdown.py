"""Small pieces of Markdown that both references are made of."""

from __future__ import annotations

import textwrap

WIDTH = 120
NOTE = "<!-- Made by `python3 manage.py reference`; change the code, not this file. -->\n"


def plain(text: str | None) -> str:
    """The first paragraph on one line, with Markdown's backticks for reStructuredText's, and safe to put anywhere."""
    first = (text or "").strip().split("\n\n")[0]
    return " ".join(first.replace("``", "`").split())


def paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def item(text: str) -> str:
    """One entry of a list, wrapped and indented."""
    return textwrap.fill(
        text, WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def anchor(title: str) -> str:
    """The name that a heading gets in a rendered page."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")
