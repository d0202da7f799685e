"""Front-end packages: npm's ``node_modules`` -> the few files that pages use, in ``static/vendor``.

Standard library only: set-up runs it before anything of ours is installed. ``python -m studio.frontend`` does it by
hand.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "node_modules"
VENDOR = ROOT / "static" / "vendor"

FILES = {
    "tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
    "tabler.min.js": "@tabler/core/dist/js/tabler.min.js",
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "uplot.min.js": "uplot/dist/uPlot.iife.min.js",
    "uplot.min.css": "uplot/dist/uPlot.min.css",
    "inter.woff2": "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
    "inter-ext.woff2": "@fontsource-variable/inter/files/inter-latin-ext-wght-normal.woff2",
    "inter-cyrillic.woff2": "@fontsource-variable/inter/files/inter-cyrillic-wght-normal.woff2",
    "inter-greek.woff2": "@fontsource-variable/inter/files/inter-greek-wght-normal.woff2",
    "mono.woff2": "@fontsource-variable/jetbrains-mono/files/jetbrains-mono-latin-wght-normal.woff2",
}

# Icons whose names templates take from a variable; all others are found in the templates themselves.
ICONS = [
    "alert-triangle", "box", "check", "circle-check", "circle-x", "clock", "cpu", "database", "file", "file-text",
    "flask", "folder", "info-circle", "loader", "package", "photo", "player-pause", "player-play", "player-stop",
    "rocket", "server", "table", "x", "home", "circle-plus", "list-details", "broadcast", "stack-2", "users",
    "history", "settings", "brand-azure", "bucket", "world", "brand-docker", "device-desktop", "server-bolt",
]  # fmt: skip
_USES = re.compile(r"""\{%\s*icon\s+["']([a-z0-9-]+)["']|\bicon=["']([a-z0-9-]+)["']""")


class FrontendError(Exception):
    """A front-end file is missing; the message says which and what to do."""


def icon_names() -> list[str]:
    """Every icon that a template draws, sorted."""
    names = set(ICONS)
    for template in (ROOT / "templates").rglob("*.html"):
        for pair in _USES.findall(template.read_text(encoding="utf-8")):
            names.update(filter(None, pair))
    return sorted(names)


def sprite(names: list[str]) -> str:
    """One SVG with a <symbol> per icon; raises FrontendError with the names that Tabler does not have."""
    symbols, missing = [], []
    for name in names:
        source = MODULES / "@tabler" / "icons" / "icons" / "outline" / f"{name}.svg"
        if not source.is_file():
            missing.append(name)
            continue
        body = re.sub(r"<!--.*?-->", "", source.read_text(encoding="utf-8"), flags=re.DOTALL)
        inner = body[body.index(">", body.index("<svg")) + 1 : body.rindex("</svg>")]
        inner = inner.replace('<path stroke="none" d="M0 0h24v24H0z" fill="none"/>', "").strip()
        symbols.append(
            f'<symbol id="{name}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75" '
            f'stroke-linecap="round" stroke-linejoin="round">{" ".join(inner.split())}</symbol>'
        )
    if missing:
        raise FrontendError(f"Tabler has no icon named {', '.join(missing)}. Choose another name in the template.")
    return '<svg xmlns="http://www.w3.org/2000/svg">' + "\n".join(symbols) + "</svg>\n"


def collect() -> int:
    """Copy the files and make the sprite; the number of files written. Raises FrontendError when npm has not run."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name, source in FILES.items():
        path = MODULES / source
        if not path.is_file():
            raise FrontendError(f"{source} is not in node_modules. Run `npm ci` in {ROOT.name}, then again.")
        if name.endswith((".css", ".js")):
            # Source maps are not shipped, and a pointer to a missing file stops collectstatic.
            text = re.sub(r"(/\*#|//#) sourceMappingURL=\S+( \*/)?", "", path.read_text(encoding="utf-8"))
            (VENDOR / name).write_text(text, encoding="utf-8")
        else:
            shutil.copyfile(path, VENDOR / name)
    (VENDOR / "icons.svg").write_text(sprite(icon_names()), encoding="utf-8")
    return len(FILES) + 1


if __name__ == "__main__":
    try:
        print(f"{collect()} files in static/vendor")
    except FrontendError as error:
        sys.exit(str(error))
