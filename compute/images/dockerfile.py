"""Dockerfiles of people's own, read as far as Atelier must: which images they need, and what cannot be built. Pure.

The engine gets the Dockerfile and nothing else: there is no folder of files beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_DIRECTIVE = re.compile(r"^#\s*escape\s*=\s*([\\`])\s*$", re.IGNORECASE)
_REFERENCE = re.compile(
    r"^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
)
_BLANKS = " \t"
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
KNOWN = frozenset(
    """ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME
    WORKDIR""".split()  # noqa: SIM905 - read as words
)


@dataclass(frozen=True)
class Instruction:
    """``line`` is the first one, counted from 1; ``rest`` has its continuations joined."""

    line: int
    name: str
    rest: str


def is_reference(text: str) -> bool:
    """Whether this can be the name of an image: ``python:3.11``, ``registry.example.org:5000/team/base@sha256:...``."""
    return len(text) <= 255 and bool(_REFERENCE.match(text))


def read(text: str) -> list[Instruction]:
    """The instructions in order. Comments inside continuations are dropped as the engine drops them."""
    escape = "\\"
    found: list[Instruction] = []
    lines = text.replace("\r\n", "\n").split("\n")
    if match := _DIRECTIVE.match(lines[0].strip(_BLANKS)):
        escape = match.group(1)
    start = 0
    parts: list[str] = []
    for number, line in enumerate(lines, 1):
        stripped = line.strip(_BLANKS)  # no others: the engine would end an instruction where this reader goes on
        if stripped.startswith("#") or (not stripped and parts):
            continue
        if not parts:
            start = number
        if stripped.endswith(escape):
            parts.append(stripped[:-1].strip())
            continue
        whole = " ".join([*parts, stripped]).strip()
        parts = []
        if whole:
            name, _space, rest = whole.partition(" ")
            found.append(Instruction(start, name.upper(), rest.strip()))
    if whole := " ".join(parts).strip():
        name, _space, rest = whole.partition(" ")
        found.append(Instruction(start, name.upper(), rest.strip()))
    return found


def _words(rest: str) -> list[str]:
    return rest.replace("[", " ").replace("]", " ").replace('"', " ").replace(",", " ").split()


def _files(one: Instruction) -> str:
    """What COPY or ADD would take from a folder that is not there; empty when all comes from elsewhere."""
    flags = [word for word in one.rest.split() if word.startswith("--")]
    if one.name == "COPY" and any(flag.startswith("--from=") for flag in flags):
        return ""
    sources = [word for word in _words(one.rest) if not word.startswith("--")][:-1]
    local = [source for source in sources if not re.match(r"^(https?://|git@)", source)]
    return " ".join(local) if local or one.name == "COPY" else ""


def _address(one: Instruction) -> str:
    """What ADD would have the engine fetch; empty where it is no address."""
    words = [word for word in _words(one.rest) if not word.startswith("--")]
    return next((word[:100] for word in words[:-1] if re.match(r"(?i)[a-z][a-z+.-]*://|git@|github\.com/", word)), "")


def _problem(one: Instruction) -> str:
    where = f"Line {one.line}: {one.name} {one.rest}"[:160]
    if one.name not in KNOWN:
        return f"{where}: there is no instruction {one.name[:40]}."
    inner = one
    if one.name == "ONBUILD":
        name, _space, rest = one.rest.partition(" ")
        inner = Instruction(one.line, name.upper(), rest.strip())
    if inner.name in {"COPY", "ADD"} and (files := _files(inner)):
        return (
            f"{where}: {files} would have to lie beside the Dockerfile, and Atelier hands the engine the Dockerfile "
            "alone. Download it with RUN, or put it into the run's source folder."
        )
    if inner.name == "ARG" and any(
        re.match(r"(?i)ftp_proxy\b|[^=]*\$", word) for word in _QUOTED.sub("", inner.rest).split()
    ):
        # What packages are installed with is carried by it; named here, it would be kept in the image's history.
        return f"{where}: Atelier uses FTP_PROXY itself, and names of arguments are written out."
    if inner.name == "ADD" and (address := _address(inner)):
        return (
            f"{where}: the engine itself would fetch {address}, from wherever its machine can reach. Download it with "
            "RUN, in the image's own network."
        )
    if inner.name == "RUN" and inner.rest.startswith("--"):
        return f"{where}: options of RUN need BuildKit, and Atelier asks the engine to build without it."
    if inner.name in {"RUN", "COPY", "ADD"} and re.search(r"<<-?\s*['\"]?[A-Za-z_]", inner.rest):
        return f"{where}: here-documents need BuildKit. Join the commands with && instead."
    if one.name != "FROM" and not one.rest:
        return f"{where}: something is missing after {one.name}."
    return ""


def _unclear(text: str) -> list[str]:
    """What engines read in other ways than this reader, each in its own."""
    found = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if number > 1 and re.match(r"\s*#\s*escape\s*=", line, re.IGNORECASE):
            found.append(f"Line {number}: the escape directive has to be the first line.")
        if line.strip() and not line.lstrip().startswith("#"):
            break
    for one, image in _froms(text):
        if "$" in image:
            found.append(f"Line {one.line}: FROM {image[:80]}: give the ARG a value, or write the image's name.")
    return found


def triggers(commands: list[str], image: str) -> list[str]:
    """What is wrong with the instructions that an image adds to every build on it (ONBUILD)."""
    wrong = []
    for command in commands:
        for one in read(command):
            if one.name == "ADD" and _address(one):
                wrong.append(f"{image} adds {one.name} {one.rest[:80]} to what is built on it: choose another image.")
    return wrong


def problems(text: str) -> list[str]:
    """Everything that is wrong and can be seen without building, each with its line."""
    instructions = read(text)
    wrong = [said for said in map(_problem, instructions) if said]
    real = [one for one in instructions if one.name != "ARG"]
    if not real:
        wrong.append("The Dockerfile is empty: it starts with FROM and the name of an image.")
    elif real[0].name != "FROM" and real[0].name in KNOWN:
        wrong.append(f"Line {real[0].line}: {real[0].name} comes before FROM. A Dockerfile starts with its base image.")
    wrong += _unclear(text)
    wrong += [
        f"Line {one.line}: FROM needs the name of an image." for one in real if one.name == "FROM" and not one.rest
    ]
    return wrong


def bases(text: str) -> list[tuple[int, str]]:
    """(line, image) of every image that it starts from or copies from, each once; stages and ``scratch`` left out.

    ``ARG`` before the first ``FROM`` is put in where it has a value of its own.
    """
    stages: set[str] = {"scratch"}
    found: dict[str, int] = {}
    starts = {one.line: image for one, image in _froms(text)}
    for one in read(text):
        image = ""
        if one.name == "FROM":
            image = starts[one.line]
        elif one.name == "COPY" and (flag := re.search(r"--from=(\S+)", one.rest)):
            image = flag.group(1)
        if image and image.lower() not in stages and not image.isdigit() and "$" not in image:
            found.setdefault(image, one.line)
        if one.name == "FROM" and (named := re.search(r"\sas\s+(\S+)\s*$", " " + one.rest, re.IGNORECASE)):
            stages.add(named.group(1).lower())
    return [(line, image) for image, line in found.items()]


def _froms(text: str) -> list[tuple[Instruction, str]]:
    """Every FROM with its image, the values of ARG put in."""
    values: dict[str, str] = {}
    found: list[tuple[Instruction, str]] = []
    for one in read(text):
        if one.name == "ARG" and not found:
            name, equals, value = one.rest.partition("=")
            if equals:
                values[name.strip()] = _filled(value.strip().strip("\"'"), values)
        elif one.name == "FROM":
            words = [word for word in one.rest.split() if not word.startswith("--")]
            found.append((one, _filled(words[0], values) if words else ""))
    return found


def _filled(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))", lambda m: _value(m, values), text)


def _value(match: re.Match[str], values: dict[str, str]) -> str:
    name = match.group(1) or match.group(3)
    return values.get(name) or match.group(2) or match.group(0)


def last_user(text: str) -> str:
    """What the last stage's last USER says; empty where there is none."""
    user = ""
    for one in read(text):
        if one.name == "FROM":
            user = ""
        elif one.name == "USER":
            user = one.rest
    return user
