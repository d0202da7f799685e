"""What a recipe's packages come to in an image: every one with its version, asked for once. Uses uv; no database."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.utils import canonicalize_name

from compute.images.plan import Found, Pin, platform_of, series
from compute.shim import build_venv

TIMEOUT_S = 300.0
_VIA = re.compile(r"\s+# via (.*)$")


def resolve(
    uv: str, found: Found, packages: list[str], *, timeout: float = TIMEOUT_S
) -> tuple[list[Pin], list[dict[str, str]]]:
    """(pins, problems). What the image has is kept where it can be. Every package that cannot be had is named."""
    if not packages:
        return [], []
    options = ["--python-version", series(found.python), "--python-platform", platform_of(found)]
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept.txt"
        # uv prefers what an earlier answer says.
        kept.write_text("".join(f"{name}=={version}\n" for name, version in sorted(found.installed.items())))
        command = [uv, "pip", "compile", "-", "--python", sys.executable, *options, "--quiet", "--no-header"]
        command += ["--annotation-style", "line", "--output-file", str(kept)]
        try:
            done = subprocess.run(
                command,
                input="\n".join(packages) + "\n",
                capture_output=True,
                text=True,
                timeout=timeout,
                env=build_venv.uv_environment(),
                cwd=folder,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [], [
                build_venv.explain(packages[0], f"request failed: timed out after {timeout:.0f} s", found.python)
            ]
        if done.returncode == 0:
            return read(kept.read_text()), []
    _pins, problems = build_venv.resolve(uv, sys.executable, found.python, packages, timeout, tuple(options))
    if problems:
        return [], problems
    flat = " ".join(done.stderr.split())
    return [], [build_venv.explain(", ".join(packages[:6]), flat, found.python)]


def read(text: str) -> list[Pin]:
    """The pins of what ``uv pip compile --annotation-style line`` wrote."""
    found = []
    for line in text.splitlines():
        match = _VIA.search(line)
        pin = line[: match.start()] if match else line.split("  #")[0]
        pin = pin.strip()
        if not pin or pin.startswith(("#", "-")):
            continue
        via = (
            [canonicalize_name(re.split(r"[\s\[(]", word.strip())[0]) for word in match.group(1).split(",")]
            if match
            else []
        )
        name = canonicalize_name(build_venv.bare_name(pin))
        found.append(Pin(name, pin, tuple(word for word in via if word and not word.startswith("-"))))
    return found


def index_settings(environ: dict[str, str] | None = None) -> dict[str, str]:
    """What pip inside a build has to know of the package index: the studio's PIP_ variables, else its UV_ ones.

    Folders of this machine are left out: a build does not see them.
    """
    env = dict(os.environ if environ is None else environ)

    def first(*names: str) -> str:
        return next((env[name].strip() for name in names if env.get(name, "").strip()), "")

    def remote(text: str) -> str:
        words = re.split(r"[\s,]+", text) if text else []
        return " ".join(word.split("=", 1)[-1] if re.match(r"^[\w-]+=https?:", word) else word for word in words)

    settings = {
        "PIP_INDEX_URL": first("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"),
        "PIP_EXTRA_INDEX_URL": first("PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"),
        "PIP_FIND_LINKS": first("PIP_FIND_LINKS", "UV_FIND_LINKS"),
        "PIP_TRUSTED_HOST": first("PIP_TRUSTED_HOST", "UV_INSECURE_HOST"),
        "PIP_NO_INDEX": first("PIP_NO_INDEX", "UV_NO_INDEX"),
    }
    found = {}
    for name, value in settings.items():
        plain = remote(value) if name != "PIP_NO_INDEX" else value
        if name.endswith(("_URL", "_LINKS")):
            plain = " ".join(word for word in plain.split() if re.match(r"^https?://", word))
        if plain:
            found[name] = plain
    # uv takes what is not encrypted as it is; pip wants to be told.
    plainly = [host for value in found.values() for host in re.findall(r"http://(?:[^/\s@]*@)?([^/\s]+)", value)]
    if plainly:
        trusted = [*found.get("PIP_TRUSTED_HOST", "").split(), *plainly]
        found["PIP_TRUSTED_HOST"] = " ".join(dict.fromkeys(trusted))
    return found


def on_this_machine(settings: dict[str, str]) -> bool:
    """Whether an index listens on this machine's loopback, which a build sees only in the machine's own network."""
    return any(re.search(r"https?://([^/@]*@)?(127\.|localhost[:/]|\[::1\])", value) for value in settings.values())


def proxies(environ: dict[str, str] | None = None) -> dict[str, str]:
    """The proxies of the studio: predefined build arguments that leave no trace in an image."""
    env = dict(os.environ if environ is None else environ)
    names = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
    return {name: env[name] for name in names if env.get(name)}
