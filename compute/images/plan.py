"""What the image of a recipe is made of: its Dockerfile, its layers, its tag. Pure.

The Dockerfile has a head (the base image or the user's own Dockerfile, and what conda brings) and a tail: a layer for
each package in the order in which it was typed, with exactly what that package needs and no earlier layer has. So a
changed last package leaves every layer but the last one as it was. What says whose image it is stands at the end,
where it breaks no cache.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from compute import conda
from compute.environments import Recipe
from compute.images.dockerfile import last_user
from compute.pythons import OLDEST, parse_wanted

GENERATOR = "1"  # another one, and every image is built anew
REPOSITORY = "atelier-env"
PREFIX = "/opt/atelier/env"
# The engine stacks at most 127 layers. Whoever builds on top of an image of ours has room too.
MOST_LAYERS = 40
BLOCK = 10  # early packages that share a layer where there are more
ROOM = 120
# The one predefined build argument that nothing else uses: the engine keeps these out of the image's history and out
# of its cache. What pip has to know of the index is a secret at times.
CARRIER = "FTP_PROXY"
# Containers inherit the labels of their image: these are none of those that containers of ours bear.
LABEL_ENVIRONMENT = "atelier.image.environment"
LABEL_INSTALLATION = "atelier.image.installation"
LABEL_CONTENT = "atelier.image.content"


@dataclass(frozen=True)
class Found:
    """What an image has, as the probe saw it. ``python`` is a version or empty, ``interpreter`` a path.

    ``installed``: {name in normal form: version}; ``user``: whom its config names; ``layers``: how many it has.
    """

    python: str = ""
    interpreter: str = ""
    machine: str = "x86_64"
    libc: str = "glibc"
    libc_version: str = ""
    pip: bool = False
    micromamba: str = ""
    installed: dict[str, str] = field(default_factory=dict)
    user: str = ""
    layers: int = 0


@dataclass(frozen=True)
class Way:
    """How a recipe gets its Python: the image's own, or one that micromamba brings (``conda_python`` is what for)."""

    conda: bool = False
    conda_python: str = ""
    specs: tuple[str, ...] = ()  # conda packages that micromamba installs
    packages: tuple[str, ...] = ()  # pip requirements, in the order in which they were typed
    warnings: tuple[str, ...] = ()
    problems: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class Pin:
    """A resolved package: ``text`` is what pip gets; ``via`` names the packages that need it."""

    name: str
    text: str
    via: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        return self.text.partition("==")[2] if " @ " not in self.text else ""


@dataclass(frozen=True)
class Plan:
    """``lines``: {number of a line of ``text``: the packages that it installs}."""

    text: str
    lines: dict[int, list[str]]


def tag(content_hash: str, base_id: str) -> str:
    """``atelier-env:<24 hexadecimal characters>``: the same wherever content, base image and generator are the same."""
    digest = hashlib.sha256(f"{content_hash}\n{base_id}\n{GENERATOR}".encode()).hexdigest()
    return f"{REPOSITORY}:{digest[:24]}"


def fits(version: str, requested: str) -> bool:
    """Whether this Python is one of those that were asked for."""
    numbers, wanted = parse_wanted(requested)
    have = Version(version)
    if numbers is not None:
        return have.release[: len(numbers)] == numbers
    return wanted is not None and wanted.contains(have, prereleases=True)


def _problem(code: str, message: str, hint: str, package: str = "") -> dict[str, str]:
    return {"package": package, "code": code, "message": message, "hint": hint}


def _too_old(requested: str) -> bool:
    numbers, _wanted = parse_wanted(requested)
    return numbers is not None and len(numbers) > 1 and numbers[:2] < OLDEST.release[:2]


def _nearly(version: str, requested: str) -> bool:
    """The same series: only the patch level is another."""
    numbers, _wanted = parse_wanted(requested)
    return numbers is not None and len(numbers) == 3 and Version(version).release[:2] == numbers[:2]


BUILD_BASE = "Build the image in deploy/images/base, which has micromamba, and make it the workspace's base image."


def choose(recipe: Recipe, found: Found, base: str, *, strict: bool) -> Way:
    """How to come by the recipe's Python and packages in an image that has ``found``. ``base``: its name, for people.

    Conda is used only where something cannot be had without: another Python than the image has, or packages that only
    conda has.
    """
    wanted = recipe.python or ""
    warnings: list[str] = []
    if wanted and _too_old(wanted):
        text = f"The recipe asks for Python {wanted}; runs need Python {OLDEST} or later."
        if strict:
            return Way(problems=(_problem("python", text, "Ask for a later one, or turn strict off."),))
        warnings.append(f"{text[:-1]}, so it runs on Python {found.python or '3'}.")
        wanted = ""
    need_python = not found.python or bool(wanted and not fits(found.python, wanted))
    if need_python and found.python and not strict and _nearly(found.python, wanted):
        warnings.append(f"The recipe asks for Python {wanted}; {base} has {found.python}, and that is taken.")
        need_python = False
    if not need_python and not recipe.unavailable:
        return Way(packages=tuple(recipe.typed), warnings=tuple(warnings))
    if found.micromamba:
        return _with_conda(recipe, wanted or series(found.python or "3.11"), warnings)
    if recipe.unavailable:
        return Way(
            problems=tuple(
                _problem(
                    "conda-only",
                    f"{name}: only conda has this package, and {base} has no micromamba.",
                    BUILD_BASE,
                    name,
                )
                for name in recipe.unavailable
            )
        )
    if not found.python:
        text = f"{base} has neither Python nor micromamba."
        return Way(problems=(_problem("python", text, f"Choose a base image with Python 3.8 or later. {BUILD_BASE}"),))
    text = f"The recipe asks for Python {wanted}; {base} has {found.python} and no micromamba"
    if strict:
        hint = f"Choose a base image with Python {wanted}, or turn strict off. {BUILD_BASE}"
        return Way(problems=(_problem("python", f"{text}.", hint),))
    warnings.append(f"{text}, so it runs on Python {found.python}.")
    return Way(packages=tuple(recipe.typed), warnings=tuple(warnings))


def _with_conda(recipe: Recipe, python: str, warnings: list[str]) -> Way:
    """Only packages that conda alone has make conda install the others of conda too."""
    if not recipe.unavailable:
        return Way(True, python, (), tuple(recipe.typed), tuple(warnings))
    specs = [spec for spec in recipe.conda_packages or recipe.unavailable if conda.split_spec(spec)[0] != "python"]
    translated = {canonicalize_name(_name(text)) for text in conda.translate(recipe.conda_packages).packages}
    rest = [text for text in recipe.typed if canonicalize_name(_name(text)) not in translated]
    return Way(True, python, tuple(specs), tuple(rest), tuple(warnings))


def _name(requirement: str) -> str:
    try:
        return Requirement(requirement).name
    except InvalidRequirement:
        return re.split(r"[\s<>=!~;\[@]", requirement, maxsplit=1)[0]


def series(version: str) -> str:
    """``3.11`` of ``3.11.4``."""
    return ".".join(version.split(".")[:2])


def layers(
    typed: Iterable[str], pins: Sequence[Pin], installed: dict[str, str], *, most: int = MOST_LAYERS
) -> list[list[Pin]]:
    """The pins of each layer. Nothing that the image has in that very version, nothing twice."""
    needs: dict[str, list[str]] = {}
    for pin in pins:
        for parent in pin.via:
            needs.setdefault(parent, []).append(pin.name)
    by_name = {pin.name: pin for pin in pins}
    done = {pin.name for pin in pins if pin.version and installed.get(pin.name) == pin.version}
    found = []
    for requirement in typed:
        closure = _reached(canonicalize_name(_name(requirement)), needs) & by_name.keys()
        fresh = sorted(closure - done)
        done |= closure
        if fresh:
            found.append([by_name[name] for name in fresh])
    rest = [pin for pin in pins if pin.name not in done]
    if rest:
        found.append(rest)
    return _grouped(found, most)


def _reached(name: str, needs: dict[str, list[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += needs.get(one, [])
    return seen


def _grouped(found: list[list[Pin]], most: int) -> list[list[Pin]]:
    """At most ``most`` layers: blocks of early ones share a layer. The blocks have a fixed length, so that one package
    more does not move all of them."""
    most = max(1, most)
    length = max(BLOCK, -(-len(found) // most))
    blocks = 0
    while blocks + max(0, len(found) - blocks * length) > most:
        blocks += 1
    grouped = [[pin for part in found[i * length : (i + 1) * length] for pin in part] for i in range(blocks)]
    return grouped + found[blocks * length :]


def head(recipe: Recipe, base: str, way: Way | None) -> str:
    """The beginning: where the image comes from, and conda's part where ``way`` has one."""
    text = recipe.dockerfile or f"FROM {base}\n"
    if way is None or not way.conda:
        return text
    if not text.endswith("\n"):
        text += "\n"
    names = [f"python={way.conda_python}" if way.conda_python[0].isdigit() else f"python{way.conda_python}", "pip"]
    channels = recipe.channels or ["conda-forge"]
    options = " ".join(f"-c {shlex.quote(one)}" for one in channels)
    words = " ".join(shlex.quote(one) for one in [*names, *(spec for spec in way.specs if spec not in names)])
    create = f"micromamba create -y -q -p {PREFIX} {options} {words} && micromamba clean -a -y -q"
    return f"{text}USER root\nRUN {create}\nENV PATH={PREFIX}/bin:$PATH CONDA_PREFIX={PREFIX}\n"


def has_own_head(recipe: Recipe, way: Way | None) -> bool:
    """Whether the head is more than the base image, so that it has to be built before it can be looked at."""
    return bool(recipe.dockerfile) or bool(way and way.conda)


def compose(beginning: str, parts: Sequence[Sequence[Pin]], found: Found, labels: dict[str, str]) -> Plan:
    """The whole Dockerfile. ``found`` is of the image that ``beginning`` makes."""
    rows = beginning.rstrip("\n").split("\n")
    lines: dict[int, list[str]] = {}
    user = last_user(beginning) or found.user
    foreign = bool(parts) and user not in ("", "root", "0")
    if foreign:
        rows.append("USER root")
    if parts and not found.pip:
        rows.append(f"RUN {found.interpreter} -m ensurepip")
        lines[len(rows)] = ["pip"]
    for part in parts:
        rows.append(install(found.interpreter, [pin.text for pin in part]))
        lines[len(rows)] = [pin.text for pin in part]
    if foreign:
        rows.append(f"USER {user}")
    if labels:
        rows.append("LABEL " + " ".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels.items())))
    return Plan("\n".join(rows) + "\n", lines)


def install(interpreter: str, packages: Sequence[str]) -> str:
    """One layer. What pip has to know of an index comes in by the carrier and stays in no layer."""
    words = " ".join(shlex.quote(one) for one in packages)
    quiet = "PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore"
    return (
        f'RUN eval "${{{CARRIER}:+export ${CARRIER}}}"; {quiet} {interpreter} -m pip install --no-deps --no-cache-dir '
        f"--disable-pip-version-check --no-input --progress-bar off {words}"
    )


def carried(variables: dict[str, str]) -> str:
    """The value of the carrier: assignments that a shell reads."""
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(variables.items()))


def labels(label: str, installation: str, content_hash: str) -> dict[str, str]:
    return {LABEL_ENVIRONMENT: label, LABEL_INSTALLATION: installation, LABEL_CONTENT: content_hash}


def most_layers(found: Found) -> int:
    return max(1, min(MOST_LAYERS, ROOM - found.layers))


def platform_of(found: Found) -> str:
    """What uv calls the platform of an image."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(found.machine, found.machine)
    if found.libc == "musl":
        return f"{machine}-unknown-linux-musl"
    minor = re.match(r"2\.(\d+)", found.libc_version)
    if not minor:
        return f"{machine}-unknown-linux-gnu"
    number = int(minor.group(1))
    known = [one for one in (17, 28, *range(31, 41)) if one <= number]
    return f"{machine}-manylinux_2_{known[-1]}" if known else f"{machine}-unknown-linux-gnu"


def found_from(data: dict[str, Any]) -> Found:
    """Of what the probe wrote. Unknown keys are left out."""
    known = Found.__dataclass_fields__
    return Found(**{name: value for name, value in data.items() if name in known})
