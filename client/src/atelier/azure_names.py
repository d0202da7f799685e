"""``from azure.common.credentials import UserPassCredentials``, where no ``azure`` package is installed.

A finder at the end of the list: it is asked for a module when nobody else has it. Shipping a folder ``azure`` would
collide with the files of packages of that name.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NAMES = ("azure", "azure.common", "azure.common.credentials")


class AzureNames:
    """Answers for the three modules of the import, and for no other."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in _NAMES:
            return None
        return ModuleSpec(name, AzureNames, is_package=name != _NAMES[-1])  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        if module.__name__ == _NAMES[-1]:
            from atelier.auth import UserPassCredentials

            module.UserPassCredentials = UserPassCredentials  # type: ignore[attr-defined]


def install() -> None:
    """Once per process."""
    if AzureNames not in sys.meta_path:
        sys.meta_path.append(AzureNames)
