"""Asking the package index, before anything starts, whether a recipe's packages can be had. Nothing is installed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import uv

from compute.pythons import choose_python
from compute.shim import build_venv
from compute.spec import Problem

if TYPE_CHECKING:
    from compute.environments import Recipe

# What could be had an hour ago still can; what could not is asked again soon, in case it was the network.
_GOOD_FOR_S = 3600.0
_BAD_FOR_S = 30.0
_TIMEOUT_S = 120.0
_lock = threading.Lock()
_answers: dict[str, tuple[float, list[Problem]]] = {}


def uv_binary() -> str:
    return str(uv.find_uv_bin())


def check_packages(recipe: Recipe, *, timeout: float = _TIMEOUT_S) -> list[Problem]:
    """Every package that cannot be had, with the reason; empty when all can. Answers are kept by content hash.

    Talks to the package index: some 0.1 s with a warm cache, seconds without. Raises Invalid for a strict recipe
    whose Python this machine does not have.
    """
    from compute.environments import content_hash

    if recipe.kind == "system":
        return []
    # What an image has of Pythons shows when it is built.
    version, python, _warning = choose_python(recipe.python, recipe.strict and not recipe.needs_containers)
    key = content_hash(recipe)
    with _lock:
        known = _answers.get(key)
    if known and time.monotonic() < known[0]:
        return list(known[1])
    problems = [
        Problem(
            code="conda-only",
            message=f"{name}: only conda has this package.",
            hint="Take it out of the recipe, or run on a target with containers whose base image has micromamba.",
            field="packages",
        )
        for name in ([] if recipe.needs_containers else recipe.unavailable)
    ]
    _pins, found = build_venv.resolve(uv_binary(), python, version, recipe.packages, timeout=timeout)
    problems += [Problem(code=p["code"], message=p["message"], hint=p["hint"], field="packages") for p in found]
    with _lock:
        if len(_answers) > 1000:
            _answers.clear()
        _answers[key] = (time.monotonic() + (_BAD_FOR_S if problems else _GOOD_FOR_S), problems)
    return list(problems)
