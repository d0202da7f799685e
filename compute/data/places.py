"""Where data lies in a unit's directory, and how its command is told. Pure: nothing is imported from the project.

The words ``{unit}`` and ``{input:<name>}`` stand in a command until it is known what they mean: the first is replaced
by the supervisor, on the machine that it runs on, the second once the input is there (whether a dataset is one file
or a folder is not known before).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INPUTS = "inputs"
PRODUCED = "produced"
MOUNTS = "mounts"  # links to the folders that inputs lead to; the supervisor covers it with read-only mounts
DATASETS_FILE = "datasets.json"
PINS_FILE = "cached.txt"  # what of the cache a unit's links need, one digest a line


def input_value(name: str, mode: str) -> str:
    """What an argument says for a mounted or downloaded input, until it is staged."""
    word = f"{{input:{name}}}"
    return f"file://{word}" if mode == "hdfs" else word


def output_value(name: str, mode: str) -> str:
    place = f"{{unit}}/{PRODUCED}/{name}"
    return f"file://{place}" if mode == "hdfs" else place


def settle(spec: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """``spec`` with ``{input:<name>}`` replaced in its command, its environment and its inputs.

    ``values``: name -> path, which may begin with ``{unit}``.
    """

    def put(text: str) -> str:
        for name, value in values.items():
            text = text.replace(f"{{input:{name}}}", value)
        return text

    inputs = []
    for item in spec.get("inputs") or []:
        if item["name"] in values:
            item = {**item, "value": put(input_value(item["name"], item["mode"]))}
        inputs.append(item)
    return {
        **spec,
        "argv": [put(word) for word in spec["argv"]],
        "env": {name: put(value) for name, value in spec["env"].items()},
        "inputs": inputs,
    }
