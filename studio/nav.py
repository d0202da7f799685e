"""The left navigation, as Azure ML studio's users know it. Pure: paths in, sections out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from studio.accounts.policy import Right


@dataclass(frozen=True)
class Entry:
    """One line of the menu. ``path`` is below the workspace's root; ``also`` names further prefixes that it covers."""

    label: str | Promise
    icon: str
    path: str
    right: Right = Right.READ
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    label: str | Promise
    icon: str
    href: str
    active: bool


@dataclass(frozen=True)
class Section:
    title: str | Promise
    items: list[Item] = field(default_factory=list)


SECTIONS: tuple[tuple[str | Promise, tuple[Entry, ...]], ...] = (
    ("", (Entry(_("Home"), "home", ""),)),
    (_("Author"), (Entry(_("New run"), "circle-plus", "runs/new/", Right.WRITE),)),
    (
        _("Data"),
        (
            Entry(_("Datasets"), "table", "datasets/", also=("data/",)),
            Entry(_("Datastores"), "database", "datastores/"),
        ),
    ),
    (
        _("Assets"),
        (
            Entry(_("Experiments"), "flask", "experiments/"),
            Entry(_("All runs"), "list-details", "runs/", also=("compare/",)),
            Entry(_("Models"), "box", "models/"),
            Entry(_("Endpoints"), "broadcast", "endpoints/"),
            Entry(_("Environments"), "stack-2", "environments/"),
        ),
    ),
    (
        _("Manage"),
        (
            Entry(_("Compute"), "cpu", "compute/"),
            Entry(_("Members"), "users", "members/"),
            Entry(_("Audit log"), "history", "audit/", Right.MANAGE),
            Entry(_("Settings"), "settings", "settings/", Right.MANAGE),
        ),
    ),
)


def navigation(root: str, current: str, allowed: frozenset[Right]) -> list[Section]:
    """The sections that somebody with these rights sees. The longest matching prefix makes an entry the active one."""
    best = max(_matches(root, current), key=len, default=None)
    sections = []
    for title, entries in SECTIONS:
        items = [
            Item(entry.label, entry.icon, root + entry.path, _owner(entry, root, best))
            for entry in entries
            if entry.right in allowed
        ]
        if items:
            sections.append(Section(title, items))
    return sections


def _matches(root: str, current: str) -> Iterator[str]:
    if current == root:
        yield root
    for prefix in _prefixes():
        if prefix and current.startswith(root + prefix):
            yield root + prefix


def _prefixes() -> Sequence[str]:
    return [prefix for _title, entries in SECTIONS for entry in entries for prefix in (entry.path, *entry.also)]


def _owner(entry: Entry, root: str, best: str | None) -> bool:
    return best is not None and best in {root + prefix for prefix in (entry.path, *entry.also)}
