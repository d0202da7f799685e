"""One build by the engine: its lines as they come, and what went wrong in words that name the package or the line."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any

from docker import APIClient
from docker.errors import APIError

from compute.drivers.base import Unreachable
from compute.images.dockerfile import read
from compute.images.plan import CARRIER, Plan
from compute.images.words import Patience, say, scrub
from compute.shim.build_venv import bare_name

Problem = dict[str, Any]
_STEP = re.compile(r"^Step (\d+)/(\d+) ?: (.*)", re.DOTALL | re.IGNORECASE)
_KEPT = 200  # lines of a failed step that are looked at
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ENGINES_OWN = ("Step ", "---> ", "Removing intermediate container")  # lines of its log that no command wrote
_NETWORK = re.compile(
    r"temporary failure in name resolution|name or service not known|connection refused|network is unreachable|"
    r"could not resolve host|newconnectionerror|connecttimeout|readtimeout|timed out|proxyerror|sslerror|"
    r"certificate verify failed|connection reset",
    re.IGNORECASE,
)


class BuildFailed(Exception):
    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0]["message"])
        self.problems = problems


def problem(code: str, message: str, *, hint: str = "", package: str = "", line: int = 0) -> Problem:
    found: Problem = {"package": package, "code": code, "message": scrub(message), "hint": scrub(hint)}
    if line:
        found["line"] = line
    return found


def disk_full() -> Problem:
    hint = "Delete images that nobody uses, or give the engine more room."
    return problem("disk-full", "There is no space left on the disk of the Docker engine.", hint=hint)


class _Said:
    """What the engine has said of a build: its lines go into the log; what the step at work said is kept."""

    def __init__(self, plan: Plan, patience: Patience) -> None:
        self.plan, self.patience = plan, patience
        # The line of each step. ``ARG`` before the first ``FROM`` counts as a step as every other one does.
        self.instructions = [one.line for one in read(plan.text)]
        self.step = 0
        self.last: list[str] = []

    def hear(self, text: str) -> None:
        for line in text.splitlines():
            shown, step = line, _STEP.match(line)
            if step:
                self.step, self.last = int(step.group(1)), []
                self.patience.where = f"step {step.group(1)} of {step.group(2)}: {step.group(3)[:120]}"
                shown = _short(self.step, step.group(2), self.plan, self.instructions) or line
            if shown.strip() and not shown.startswith(" ---> Running in"):
                say("  " + _COLOUR.sub("", shown.rstrip()))
                self.last = [*self.last, shown.strip()][-_KEPT:]

    def failed(self, error: str) -> BuildFailed:
        return BuildFailed([explain(error, self.last, self.plan, self.instructions, self.step)])


def build(
    client: APIClient,
    plan: Plan,
    *,
    carried: str = "",
    proxies: dict[str, str] | None = None,
    network: str | None = None,
    fresh: bool = False,
) -> str:
    """The id of the image that a Dockerfile makes, which has no name yet. Raises BuildFailed; Unreachable when the
    engine went away."""
    arguments = dict(proxies or {})
    if carried:
        arguments[CARRIER] = carried
    image = ""
    with Patience() as patience:
        said = _Said(plan, patience)
        try:
            events = client.build(
                fileobj=io.BytesIO(plan.text.encode()),
                rm=True,
                forcerm=True,
                decode=True,
                pull=False,
                nocache=fresh,
                buildargs=arguments or None,
                network_mode=network,
            )
            for text, error, made in _events(events):
                image = made or image
                if error:
                    raise said.failed(error)
                said.hear(text)
        except APIError as error:
            raise said.failed(str(error.explanation or error)) from error
    if not image:  # it was cut off in the middle
        raise Unreachable("The engine ended the build without an image.")
    return image


def _events(events: Iterable[dict[str, Any]]) -> Iterable[tuple[str, str, str]]:
    """(text, error, image id) of each word of the engine."""
    for event in events:
        if "error" in event:
            detail = event.get("errorDetail") or {}
            yield "", str(detail.get("message") or event["error"]), ""
        elif "aux" in event:
            yield "", "", str((event["aux"] or {}).get("ID") or "")
        elif "stream" in event:
            yield str(event["stream"]), "", ""
        elif event.get("status"):
            layer = f"{event['id']}: " if event.get("id") else ""
            if not (event.get("progressDetail") or {}).get("total"):
                yield f"{layer}{event['status']}", "", ""


def _line_of(step: int, instructions: list[int]) -> int:
    return instructions[step - 1] if 0 < step <= len(instructions) else 0


def _short(step: int, total: str, plan: Plan, instructions: list[int]) -> str:
    """A layer of ours is named by its packages, not by the whole command."""
    packages = plan.lines.get(_line_of(step, instructions))
    return f"Step {step}/{total} : install {' '.join(packages)}" if packages else ""


def explain(error: str, said: list[str], plan: Plan, instructions: list[int], step: int) -> Problem:
    """What stopped a build: a package first, else the line of the Dockerfile, else what the engine says."""
    flat, heard = " ".join(error.split()), "\n".join(said)
    if re.search(r"no space left on device|disk quota exceeded", f"{flat}\n{heard}", re.I):
        return disk_full()
    line = _line_of(step, instructions)
    if line in plan.lines:
        return _pip(plan.lines[line], heard, flat)
    parsed = re.search(r"parse error(?: on)? line (\d+): (.*)|(?:Dockerfile|dockerfile).*?line (\d+)", flat, re.I)
    if parsed and not step:
        line = int(parsed.group(1) or parsed.group(3) or 0)
    text = plan.text.splitlines()[line - 1].strip() if 0 < line <= len(plan.text.splitlines()) else ""
    if re.search(
        r"pull access denied|manifest unknown|manifest for .* not found|no such image|no such host", flat, re.I
    ):
        return problem(
            "base-missing",
            f"Line {line}: {text}: the image cannot be had. {flat}",
            line=line,
            hint="Check its name, or add its registry with a user name and password to the workspace.",
        )
    heard_last = [_COLOUR.sub("", one).strip() for one in said if not one.strip().startswith(_ENGINES_OWN)]
    tail = [one for one in heard_last if one][-3:]
    code = re.search(r"returned a non-zero code: (\d+)", flat)
    why = f"ended with code {code.group(1)}. {' '.join(tail)}".strip() if code else flat
    where = f"Line {line}: {text[:200]}: " if line else ""
    return problem("dockerfile", f"{where}{why}"[:2000], line=line, hint="The log has all that it said.")


def _pip(packages: list[str], heard: str, flat: str) -> Problem:
    """What pip said of a layer's packages, the one at fault named."""
    named = _named(packages, heard)
    name = named or ", ".join(packages[:6])
    if re.search(
        r"failed (building|to build)|could not build wheels|subprocess-exited-with-error|metadata-generation-failed",
        heard,
        re.I,
    ):
        hint = "Ask for a version that has a wheel, or use a base image with a compiler."
        return problem(
            "no-build", f"{name}: it has to be compiled, and that failed in the image.", hint=hint, package=name
        )
    if re.search(r"no matching distribution|could not find a version", heard, re.I):
        if _NETWORK.search(heard):
            return _unreachable(name)
        message = f"{name}: the package index that the build sees does not have it for the image's Python."
        hint = "The build uses the studio's index (UV_DEFAULT_INDEX, UV_INDEX); it has to be seen from the engine too."
        return problem("not-found", message, hint=hint, package=name)
    if _NETWORK.search(heard):
        return _unreachable(name)
    errors = [line for line in heard.splitlines() if line.startswith("ERROR")][-3:]
    return problem("unavailable", f"{name}: {' '.join(errors) or flat}"[:1500], package=name)


def _unreachable(name: str) -> Problem:
    return problem(
        "index-unreachable",
        f"{name}: the package index did not answer inside the build.",
        hint="Check the network of the engine's containers, or the index set with UV_DEFAULT_INDEX.",
        package=name,
    )


def _named(packages: list[str], heard: str) -> str:
    """The package that pip's last errors speak of."""
    patterns = (
        r"No matching distribution found for ([A-Za-z0-9._-]+)",
        r"satisfies the requirement ([A-Za-z0-9._-]+)",
        r"satisfy the requirement ([A-Za-z0-9._-]+)",
        r"Failed building wheel for ([A-Za-z0-9._-]+)",
        r"Failed to build ([A-Za-z0-9._-]+)",
        r"Collecting ([A-Za-z0-9._-]+)",
    )
    known = {_plain(bare_name(one)): one for one in packages}
    others = ""
    for pattern in patterns:
        found = [one for one in map(_plain, re.findall(pattern, heard)) if one]
        # What a package needs only to be built is not what was asked for.
        mine = [one for one in found if one in known]
        if mine:
            return known[mine[-1]]
        others = others or (found[-1] if found else "")
    return packages[0] if len(packages) == 1 else others


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
