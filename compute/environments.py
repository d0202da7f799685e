"""Recipes of environments: how they are written, what they mean, and when two are the same.

A recipe comes as a conda file, as the text of a requirements file, or as the REST API's object. All become pip
requirements in a normal form, and equal content has an equal hash, so that equal recipes share one build.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from compute import conda
from compute.images import dockerfile as dockerfiles
from compute.pythons import choose_python, local_pythons, parse_wanted
from compute.resolving import check_packages
from studio.lib.errors import Invalid

__all__ = [
    "Recipe",
    "check_packages",
    "choose_python",
    "content_hash",
    "local_pythons",
    "recipe_from_conda",
    "recipe_from_dict",
    "recipe_from_requirements",
]

KINDS = ("system", "pip", "conda", "dockerfile")
MAX_PACKAGES = 500
MAX_TEXT = 256 * 1024
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
# With these came what reads datasets; the client reads with these instead, and far slower without them.
_WITH_DATASETS = re.compile(r"azureml-(dataprep|dataset-runtime|sdk|train-automl)(-.*)?")
DATASET_READERS = ("duckdb", "pandas", "pyarrow")


@dataclass(frozen=True)
class Recipe:
    """What an environment is made of.

    ``packages`` are all pip requirements in normal form, the translated conda packages among them; ``order`` are the
    same as they were typed: an image gets its layers in that order. ``conda_packages`` and ``channels`` are kept to be
    shown, and for images in which conda itself is needed. ``unavailable`` are conda packages that PyPI cannot give.
    ``interpreter`` is the path of an interpreter on the target (kind system only). ``base_image`` and ``dockerfile``
    (a text, kind dockerfile only) are of recipes that need a target with containers. ``variables`` and ``strict`` do
    not change the build.
    """

    kind: str = "pip"
    python: str | None = None
    packages: list[str] = field(default_factory=list)
    conda_packages: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    strict: bool = False
    variables: dict[str, str] = field(default_factory=dict)
    interpreter: str | None = None
    unavailable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    base_image: str | None = None
    dockerfile: str | None = None
    order: list[str] = field(default_factory=list, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON that ``recipe_from_dict`` reads back as an equal recipe. What came with images is there only where it
        says something, so that older recipes stay equal to themselves."""
        content = asdict(self)
        for name in ("base_image", "dockerfile", "order"):
            if not content[name] or content[name] == self.packages:
                content.pop(name)
        return content

    @property
    def typed(self) -> list[str]:
        """``packages`` in the order in which they were typed."""
        return self.order if sorted(self.order) == sorted(self.packages) else self.packages

    @property
    def needs_containers(self) -> bool:
        return bool(self.base_image or self.dockerfile)


def content_hash(recipe: Recipe) -> str:
    """64 hexadecimal characters; equal for recipes whose builds would be equal."""
    content = {
        "v": 1,
        "system": recipe.kind == "system",
        "python": recipe.python,
        "packages": recipe.packages,
        "unavailable": sorted(recipe.unavailable),
        "interpreter": recipe.interpreter,
    }
    # What came later is in the hash only where it is used, so that the hashes of older recipes hold.
    if recipe.base_image:
        content["base_image"] = recipe.base_image
    if recipe.dockerfile:
        content["dockerfile"] = recipe.dockerfile
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def recipe_from_requirements(text: str, *, python: str | None = None, strict: bool = False) -> Recipe:
    """The text of a ``requirements.txt``. Raises Invalid with every line that cannot be used."""
    _bounded(text, "requirements")
    order, notes = _requirements(_joined_lines(text), "requirements")
    return Recipe(kind="pip", python=_python(python), packages=sorted(order), strict=strict, notes=notes, order=order)


def recipe_from_conda(text: str, *, strict: bool = False) -> Recipe:
    """The text of a ``conda_dependencies.yml``. Raises Invalid."""
    _bounded(text, "conda")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise Invalid(
            f"The conda file is not readable YAML{where}: {getattr(error, 'problem', error)}.", field="conda"
        ) from None
    if not isinstance(document, dict) or not isinstance(document.get("dependencies"), list):
        raise Invalid("The conda file needs a list named dependencies.", field="conda")
    specs, pip_lines = _conda_lists(document["dependencies"])
    try:
        found = conda.translate(specs)
    except conda.Unreadable as error:
        raise Invalid(str(error), field="conda") from None
    order, notes = _requirements([*found.packages, *pip_lines], "conda")
    return Recipe(
        kind="conda",
        python=_python(found.python),
        packages=sorted(order),
        conda_packages=specs,
        channels=[str(channel) for channel in document.get("channels") or []],
        strict=strict,
        variables=_variables(document.get("variables") or {}),
        unavailable=sorted(set(found.unavailable)),
        notes=found.notes + notes,
        order=order,
    )


def recipe_from_dict(data: Any) -> Recipe:
    """The REST API's object, or what ``Recipe.to_dict`` gave. Raises Invalid."""
    if not isinstance(data, dict):
        raise Invalid("A recipe is an object with a kind.", field="recipe")
    kind = data.get("kind") or ("dockerfile" if data.get("dockerfile") else "conda" if "conda" in data else "pip")
    if kind not in KINDS:
        raise Invalid(f"{kind!r} is not a kind of recipe. Use one of: {', '.join(KINDS)}.", field="kind")
    strict = bool(data.get("strict", False))
    variables = _variables(data.get("variables") or {})
    image = {"base_image": _base_image(data.get("base_image")), "dockerfile": _dockerfile(data, kind)}
    if image["base_image"] and image["dockerfile"]:
        raise Invalid("Give either a base image or a Dockerfile: its FROM names the base image.", field="base_image")
    if kind == "system":
        return Recipe(
            kind="system",
            strict=strict,
            variables=variables,
            interpreter=_interpreter(data.get("interpreter")),
            base_image=image["base_image"],
        )
    if kind in {"conda", "dockerfile"} and data.get("conda") is not None:
        recipe = recipe_from_conda(_text(data["conda"], "conda"), strict=strict)
        named = {**recipe.variables, **variables}
        return replace(
            recipe, kind=kind, variables=named, base_image=image["base_image"], dockerfile=image["dockerfile"]
        )
    python = _python(data.get("python"))
    lines = _joined_lines(_text(data["requirements"], "requirements")) if data.get("requirements") else []
    words = _words(data.get("order"), "order") or _words(data.get("packages"), "packages")
    order, notes = _requirements([*lines, *words], "packages")
    return Recipe(
        kind=kind,
        python=python,
        packages=sorted(order),
        conda_packages=_words(data.get("conda_packages"), "conda_packages"),
        channels=_words(data.get("channels"), "channels"),
        strict=strict,
        variables=variables,
        unavailable=sorted(_words(data.get("unavailable"), "unavailable")),
        notes=list(dict.fromkeys([*_words(data.get("notes"), "notes"), *notes])),
        order=order,
        base_image=image["base_image"],
        dockerfile=image["dockerfile"],
    )


def _base_image(value: Any) -> str | None:
    if value in (None, ""):
        return None
    text = _text(value, "base_image").strip()
    if not dockerfiles.is_reference(text):
        raise Invalid(
            f"{text[:200]!r} is not the name of an image. Write it like python:3.11 or example.org/team/base:1.",
            field="base_image",
        )
    return text


def _dockerfile(data: dict[str, Any], kind: str) -> str | None:
    value = data.get("dockerfile")
    if kind != "dockerfile":
        if value:
            raise Invalid("A Dockerfile goes with the kind dockerfile.", field="dockerfile")
        return None
    text = _text(value if value is not None else "", "dockerfile").replace("\r\n", "\n")
    _bounded(text, "dockerfile")
    wrong = dockerfiles.problems(text)
    if wrong:
        raise Invalid(" ".join(wrong), errors={"dockerfile": wrong})
    return text if text.endswith("\n") else text + "\n"


def _bounded(text: str, name: str) -> None:
    if len(text) > MAX_TEXT:
        raise Invalid(f"The text is longer than {MAX_TEXT // 1024} KB.", field=name)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{name} is a text.", field=name)
    return value


def _words(value: Any, name: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise Invalid(f"{name} is a list of texts.", field=name)
    return list(value)


def _python(value: Any) -> str | None:
    if value in (None, ""):
        return None
    wanted = str(value).strip()
    numbers, _specifiers = parse_wanted(wanted)
    return ".".join(str(number) for number in numbers) if numbers else wanted


def _interpreter(value: Any) -> str | None:
    if not value:
        return None
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise Invalid("The interpreter is the whole path of a Python on the target.", field="interpreter")
    return value


def _variables(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Invalid("variables is an object of names and values.", field="variables")
    for name in value:
        if not isinstance(name, str) or not _VARIABLE.match(name):
            raise Invalid(f"{name!r} is not the name of an environment variable.", field="variables")
    return {name: str(content) for name, content in sorted(value.items())}


def _conda_lists(dependencies: list[Any]) -> tuple[list[str], list[str]]:
    """The conda specifications and the lines below ``pip:``."""
    specs: list[str] = []
    pip_lines: list[str] = []
    for entry in dependencies:
        if isinstance(entry, str):
            specs.append(entry.strip())
        elif isinstance(entry, dict) and set(entry) == {"pip"}:
            pip_lines += [str(line) for line in entry["pip"] or []]
        else:
            raise Invalid(f"{entry!r} is neither a package nor a list named pip.", field="conda")
    return specs, pip_lines


def _joined_lines(text: str) -> list[str]:
    """Lines with continuations joined, comments and empty ones dropped."""
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def _requirements(lines: Iterable[str], name: str) -> tuple[list[str], list[str]]:
    """(requirements in normal form as they were typed, notes). Raises Invalid with every line that cannot be used."""
    kept: dict[str, Requirement] = {}
    notes: list[str] = []
    wrong: list[str] = []
    readers: dict[str, Requirement] = {}
    for line in lines:
        try:
            requirement = _requirement(line, notes)
        except Invalid as error:
            wrong.append(error.detail)
            continue
        if requirement is None:
            continue
        canonical = canonicalize_name(requirement.name)
        if canonical == "azureml" or canonical.startswith("azureml-"):
            notes.append(_left_out(requirement, canonical, readers))
            continue
        requirement.name = canonical
        _merge(kept, requirement, wrong)
    asked = {requirement.name for requirement in kept.values()}
    kept.update({key: requirement for key, requirement in readers.items() if requirement.name not in asked})
    if len(kept) > MAX_PACKAGES:
        wrong.append(f"{len(kept)} packages are more than {MAX_PACKAGES}.")
    if wrong:
        raise Invalid(" ".join(wrong), errors={name: wrong})
    return [str(requirement) for requirement in kept.values()], list(dict.fromkeys(notes))


def _left_out(requirement: Requirement, canonical: str, readers: dict[str, Requirement]) -> str:
    """The note about an azureml package; what reads datasets in place of some of them is added to ``readers``."""
    note = f"{requirement.name} is left out: Atelier itself provides the azureml names in every run"
    if not _WITH_DATASETS.fullmatch(canonical):
        return note + "."
    for name in DATASET_READERS:
        made = Requirement(name)
        made.marker = requirement.marker
        readers[f"{name};{made.marker or ''}"] = made
    return f"{note}; {', '.join(DATASET_READERS[:-1])} and {DATASET_READERS[-1]} are there to read datasets."


def _merge(kept: dict[str, Requirement], requirement: Requirement, wrong: list[str]) -> None:
    """The same package twice asks for both at once."""
    key = f"{requirement.name};{requirement.marker or ''}"
    other = kept.get(key)
    if other is None:
        kept[key] = requirement
    elif (other.url or "") != (requirement.url or ""):
        wrong.append(f"{requirement.name} is asked for from two places.")
    else:
        other.specifier &= requirement.specifier
        other.extras |= requirement.extras


def _requirement(line: str, notes: list[str]) -> Requirement | None:
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    if text.startswith("-"):
        raise Invalid(_option(text))
    if " --" in text:
        text, option = text.split(" --", 1)
        if not option.startswith("hash="):
            raise Invalid(f"{line!r}: options of single packages cannot be used.")
        note = "Hashes of the requirements are not checked."
        if note not in notes:
            notes.append(note)
    try:
        requirement = Requirement(text.strip())
    except InvalidRequirement:
        if re.match(r"^(git\+|https?://)", text):
            raise Invalid(f"{text!r}: put the package's name before the address, as in name @ {text}") from None
        if "/" in text or text.startswith("."):
            raise Invalid(f"{text!r} is a path: files of your machine are not on the target. Name a package.") from None
        raise Invalid(f"{text!r} is not a requirement. Write it as name or name==1.2.") from None
    if requirement.url and not re.match(r"^(git\+)?(https?|ssh)://", requirement.url):
        raise Invalid(f"{text!r}: only https and git+https addresses can be used.")
    return requirement


def _option(text: str) -> str:
    word = re.split(r"[\s=]", text, maxsplit=1)[0]
    if word in {"-r", "--requirement", "-c", "--constraint"}:
        return f"{text!r}: another file cannot be included. Put its lines here."
    if word in {"-e", "--editable"}:
        return f"{text!r}: a folder of your machine is not on the target. Put its code into the run's source folder."
    if word in {"-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host"}:
        return f"{text!r}: the package index is set for the whole studio (UV_DEFAULT_INDEX, UV_INDEX, UV_FIND_LINKS)."
    return f"{text!r}: this option cannot be used here. List packages only."
