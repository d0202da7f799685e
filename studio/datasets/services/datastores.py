"""Datastores: registering, testing and removing the places that a workspace's data lies in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import TextField
from django.db.models.functions import Cast
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.datasets.backends import registry
from studio.datasets.backends.base import Backend, Entry, StoreError
from studio.datasets.models import DatasetVersion, Datastore
from studio.lib import fields
from studio.lib import secrets as locks
from studio.lib.errors import AtelierError, Conflict, Invalid
from studio.lib.fields import Problem
from studio.lib.names import clean_text
from studio.lib.storage import clean_relative

WORKSPACE_KIND = "workspace"
WORKSPACE_STORE = "workspaceblobstore"  # what v1 calls the store that every workspace has
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
RESERVED = {"kinds", "new"}  # parts of addresses
SHOWN = 5  # names in a sentence
ADDRESSES = {"url", "endpoint", "host"}  # settings that everybody is shown
_TELLING = re.compile(r"^[^/?#]*(//[^/?#]*)?@|\?")  # somebody's name and password, or a query


class CheckFailed(Invalid):
    """The test of a datastore found something wrong, so nothing was saved. ``problems`` has all of it."""

    code = "check-failed"

    def __init__(self, problems: list[Problem]) -> None:
        errors: dict[str, list[str]] = {}
        for one in problems:
            errors.setdefault(one.field or "check", []).append(f"{one.message} {one.hint}".strip())
        super().__init__(" ".join(text for texts in errors.values() for text in texts), errors=errors)
        self.problems = problems


@dataclass(frozen=True)
class StoreUses:
    """What names a datastore: names of datasets in order, versions of them, and versions that have no name."""

    datasets: list[str] = field(default_factory=list)
    versions: int = 0
    unnamed: int = 0

    def __bool__(self) -> bool:
        return bool(self.datasets)


def kinds() -> list[type[Backend]]:
    """The kinds that people can register; not the one that comes with every workspace."""
    return [registry.backend_class(kind) for kind in registry.KINDS if kind != WORKSPACE_KIND]


def opened_secrets(datastore: Datastore) -> dict[str, str]:
    """Raises SecretUnreadable."""
    found: dict[str, str] = json.loads(locks.decrypt(datastore.secrets)) if datastore.secrets else {}
    return found


def opened(datastore: Datastore) -> dict[str, Any]:
    """{"kind", "config", "secrets"}: what ``registry.make`` takes, here and in a program that gets it. Raises
    SecretUnreadable."""
    return {"kind": datastore.kind, "config": datastore.config, "secrets": opened_secrets(datastore)}


def store_open(datastore: Datastore) -> Backend:
    """The backend of a datastore, with its secrets opened. Raises StoreError."""
    if datastore.deleted_at is not None:
        raise StoreError(
            "failed",
            _("The datastore %(name)s was removed from the workspace.") % {"name": datastore.name},
            hint=_("Register it again under the same name."),
        )
    try:
        return registry.make(**opened(datastore))
    except KeyError:
        raise StoreError(
            "unsupported",
            _("The datastore %(name)s is of the kind %(kind)s, which this version does not have.")
            % {"name": datastore.name, "kind": datastore.kind},
        ) from None
    except locks.SecretUnreadable as error:
        raise StoreError("failed", str(error), hint=_("Or edit the datastore and give its secrets again.")) from error


def store_writable(datastore: Datastore) -> Backend:
    """As ``store_open``; raises StoreError for a kind or a setting that only reads."""
    store = store_open(datastore)
    if not store.writable:
        raise StoreError("read-only", _("The datastore %(name)s can only be read.") % {"name": datastore.name})
    return store


def validated(kind: str, config: dict[str, Any], secrets: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(config, secrets) as the kind's fields say. Raises Invalid with every wrong field at once."""
    if kind == WORKSPACE_KIND or kind not in registry.KINDS:
        raise Invalid(
            _("There is no kind of datastore named %(kind)r. Known are: %(kinds)s.")
            % {"kind": kind[:60], "kinds": ", ".join(one for one in registry.KINDS if one != WORKSPACE_KIND)},
            field="kind",
        )
    refusal = _("Some settings of the datastore cannot be used.")
    clean, hidden = fields.validated(
        registry.backend_class(kind).fields,
        config,
        secrets,
        unknown=_("This kind of datastore has no such setting."),
        refusal=refusal,
    )
    if wrong := [name for name in sorted(ADDRESSES & clean.keys()) if _TELLING.search(str(clean[name]))]:
        told = _("The address holds a sign-in or a query, which readers would be shown: use the other fields.")
        raise Invalid(refusal, errors={name: [told] for name in wrong})
    return clean, hidden


def _checked(kind: str, config: dict[str, Any], secrets: dict[str, str]) -> tuple[list[Problem], list[Entry]]:
    """What the backend's own test says; its errors are problems like the others."""
    try:
        return registry.make(kind, config, secrets).check()
    except StoreError as error:
        return [error.problem()], []
    except AtelierError as error:
        return [Problem("failed", error.detail, field=next(iter(error.errors), ""))], []


def datastore_try(
    *, kind: str, config: dict[str, Any], secrets: dict[str, Any], datastore: Datastore | None = None
) -> tuple[list[Problem], list[Entry]]:
    """The test button of a form that is not saved yet. With ``datastore`` its stored secrets serve where none are
    given, as ``datastore_update`` would take them. Raises Invalid for settings that cannot be used."""
    if datastore is not None:
        clean, hidden, _dropped = _changed(datastore, config, secrets)
    else:
        clean, hidden = validated(kind, config, secrets)
    return _checked(kind if datastore is None else datastore.kind, clean, hidden)


def datastore_create(
    *,
    workspace: Workspace,
    user: User | None,
    name: str,
    kind: str,
    config: dict[str, Any] | None = None,
    secrets: dict[str, Any] | None = None,
    description: str = "",
    check: bool = True,
    request: HttpRequest | None = None,
) -> Datastore:
    """Register a datastore. With ``check`` it is tried first, and CheckFailed says everything that is wrong.

    Raises Invalid with every wrong field, Conflict when the name is taken.
    """
    if not NAME.fullmatch(name):
        raise Invalid(_("Use up to 64 letters of ASCII, digits, hyphens and underscores."), field="name")
    if name in RESERVED:
        raise Invalid(
            _("%(name)s is a word of the studio's addresses: choose another name.") % {"name": name}, field="name"
        )
    description = clean_text(description, field="description")
    clean, hidden = validated(kind, config or {}, secrets or {})
    taken = Conflict(_("A datastore named %(name)s exists already.") % {"name": name}, field="name")
    if Datastore.objects.filter(workspace=workspace, name=name).exists():
        raise taken  # before a slow test
    if check:
        _refuse(_checked(kind, clean, hidden)[0])
    try:
        with transaction.atomic():
            made = Datastore.objects.create(
                workspace=workspace,
                name=name,
                kind=kind,
                description=description,
                config=clean,
                secrets=_sealed(hidden),
                created_by=user,
                checked_at=timezone.now() if check else None,
            )
            audit(user, "datastore.create", workspace=workspace, object=made, detail={"kind": kind}, request=request)
    except IntegrityError:
        raise taken from None
    return made


def _sealed(hidden: dict[str, str]) -> str:
    return locks.encrypt(json.dumps(hidden)) if hidden else ""


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise CheckFailed(problems)


def _changed(
    datastore: Datastore, config: dict[str, Any], given: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str], bool]:
    """(config, secrets, whether stored secrets were dropped) of a datastore whose settings become ``config``.

    A secret that is not named stays; an empty one is removed. None stays when the address changes: whoever changes it
    need not know them, and could have them sent to a machine of their own.
    """
    try:
        kept = opened_secrets(datastore)
    except locks.SecretUnreadable:
        kept = {}
    declared = registry.backend_class(datastore.kind).fields
    bare, _hidden = validated(datastore.kind, config, {**{one.name: "-" for one in declared if one.secret}, **kept})
    moved = any(
        (given.get(one.name, kept.get(one.name)) or "") != kept.get(one.name, "")
        if one.secret
        else bare.get(one.name, one.default) != datastore.config.get(one.name, one.default)
        for one in declared
        if one.leads
    )
    dropped = moved and bool(kept.keys() - given.keys())
    try:
        clean, hidden = validated(datastore.kind, config, given if moved else {**kept, **given})
    except Invalid as error:
        lost = kept.keys() - given.keys() if moved else set()
        for name in lost & error.errors.keys():
            error.errors[name] = [_("The address changes, so this has to be given again.")]
        raise
    return clean, hidden, dropped


def datastore_update(
    datastore: Datastore,
    *,
    user: User | None,
    config: dict[str, Any] | None = None,
    secrets: dict[str, Any] | None = None,
    description: str | None = None,
    check: bool = True,
    request: HttpRequest | None = None,
) -> Datastore:
    """Change a datastore: ``config`` replaces all settings; a secret that is not named stays, an empty one is removed.

    Stored secrets are dropped when the address changes and they are not given again. Raises as datastore_create.
    """
    if datastore.builtin:
        raise Conflict(_("%(name)s comes with the workspace and cannot be changed.") % {"name": datastore.name})
    if description is not None:
        datastore.description = clean_text(description, field="description")
    if config is not None or secrets is not None:
        clean, hidden, dropped = _changed(datastore, datastore.config if config is None else config, secrets or {})
        if check:
            problems, _entries = _checked(datastore.kind, clean, hidden)
            if problems and dropped:
                problems.append(
                    Problem(
                        "secrets-dropped",
                        _("The address changed, so the stored secrets were not used: give them again."),
                    )
                )
            _refuse(problems)
        datastore.config, datastore.secrets = clean, _sealed(hidden)
        datastore.problems, datastore.checked_at = [], timezone.now() if check else None
    with transaction.atomic():
        datastore.save(update_fields=["config", "secrets", "description", "problems", "checked_at"])
        detail = {
            "changed": [
                k
                for k, v in {"config": config, "secrets": secrets, "description": description}.items()
                if v is not None
            ]
        }
        audit(user, "datastore.update", workspace=datastore.workspace, object=datastore, detail=detail, request=request)
    return datastore


def datastore_check(datastore: Datastore) -> tuple[list[Problem], list[Entry]]:
    """The test button: (everything that is wrong, the first entries). The problems are kept on the row."""
    try:
        problems, entries = store_open(datastore).check()
    except StoreError as error:
        problems, entries = [error.problem()], []
    datastore.problems, datastore.checked_at = [asdict(one) for one in problems], timezone.now()
    datastore.save(update_fields=["problems", "checked_at"])
    return problems, entries


def content_delete(datastore: Datastore, path: str, *, user: User | None, request: HttpRequest | None = None) -> None:
    """Delete a file, or a folder with all below it. Raises StoreError."""
    path = clean_relative(path)
    store_writable(datastore).delete(path)
    place, detail = datastore.workspace, {"path": path}
    audit(user, "datastore.file.delete", workspace=place, object=datastore, detail=detail, request=request)


def names_in(definition: dict[str, Any]) -> set[str]:
    """The datastores that a definition names."""
    source = definition.get("source") or {}
    places: Iterable[Any] = [*(source.get("paths") or []), source.get("query")]
    return {one["datastore"] for one in places if isinstance(one, dict) and isinstance(one.get("datastore"), str)}


def datastores_in(workspace: Workspace, definition: dict[str, Any]) -> dict[str, Datastore]:
    """The datastores that a definition names, by their names. Raises Invalid for one that the workspace has not."""
    named = names_in(definition)
    rows = {row.name: row for row in Datastore.objects.filter(workspace=workspace, name__in=named)}
    if missing := sorted(named - rows.keys()):
        raise Invalid(
            _("The datastore %(names)s was removed from the workspace: register it again.")
            % {"names": ", ".join(missing)[:300]},
            field="definition",
        )
    return rows


def datastore_uses(datastore: Datastore) -> StoreUses:
    """What could not be read any more without it. One query; the rows that mention it are looked at."""
    mention = f'"datastore": {json.dumps(datastore.name)}'  # as both databases write JSON
    rows = (
        DatasetVersion.objects.filter(workspace=datastore.workspace_id)
        .annotate(text=Cast("definition", TextField()))
        .filter(text__contains=mention)
        .values_list("dataset__name", "definition")
    )
    named: dict[str, int] = {}
    unnamed = 0
    for name, definition in rows.iterator(chunk_size=500):
        if datastore.name in names_in(definition):
            if name is None:
                unnamed += 1
            else:
                named[name] = named.get(name, 0) + 1
    return StoreUses(sorted(named), sum(named.values()), unnamed)


def datastore_remove(
    datastore: Datastore, *, user: User | None = None, force: bool = False, request: HttpRequest | None = None
) -> None:
    """Take a datastore off the workspace; its bytes stay where they lie. Its secrets are forgotten.

    Raises Conflict for the workspace's own store, and, without ``force``, while datasets name it.
    """
    from studio.datasets.services.uploads import uploads_abort

    if datastore.builtin:
        raise Conflict(_("%(name)s comes with the workspace and cannot be removed.") % {"name": datastore.name})
    uses = datastore_uses(datastore)
    if uses and not force:
        more = len(uses.datasets) - SHOWN
        shown = ", ".join(uses.datasets[:SHOWN]) + (_(" and %(count)d more") % {"count": more} if more > 0 else "")
        raise Conflict(
            _("Datasets read from %(name)s: %(datasets)s. Delete them first, or remove it all the same.")
            % {"name": datastore.name, "datasets": shown}
        )
    uploads_abort(datastore)
    with transaction.atomic():
        # One at a time, as datastore_set_default: else it may have become the default one meanwhile.
        Workspace.objects.select_for_update().get(pk=datastore.workspace_id)
        was_default = Datastore.objects.filter(pk=datastore.pk, is_default=True).exists()
        datastore.deleted_at, datastore.secrets, datastore.is_default = timezone.now(), "", False
        datastore.save(update_fields=["deleted_at", "secrets", "is_default"])
        if was_default:
            Datastore.objects.filter(workspace=datastore.workspace_id, builtin=True).update(is_default=True)
        detail = {"datasets": uses.datasets[:50]}
        audit(user, "datastore.delete", workspace=datastore.workspace, object=datastore, detail=detail, request=request)


@transaction.atomic
def datastore_set_default(
    datastore: Datastore, *, user: User | None = None, request: HttpRequest | None = None
) -> Datastore:
    """The store that outputs go to when a script names none. Exactly one of a workspace is it, also under races."""
    Workspace.objects.select_for_update().get(pk=datastore.workspace_id)
    Datastore.objects.filter(workspace=datastore.workspace_id, is_default=True).update(is_default=False)
    if not Datastore.objects.filter(pk=datastore.pk).update(is_default=True):
        raise Conflict(_("The datastore %(name)s was removed meanwhile.") % {"name": datastore.name})
    datastore.is_default = True
    audit(user, "datastore.default", workspace=datastore.workspace, object=datastore, request=request)
    return datastore


def ensure_workspace_store(workspace: Workspace) -> Datastore:
    """The workspace's own store, and its default one unless it has another. Again: nothing happens."""
    found = Datastore.objects.filter(workspace=workspace, builtin=True).first()
    if found is not None:
        return found
    other = Datastore.objects.filter(workspace=workspace, is_default=True).exists()
    return Datastore.objects.create(
        workspace=workspace,
        name=WORKSPACE_STORE,
        kind=WORKSPACE_KIND,
        config={"workspace": workspace.pk},
        is_default=not other,
        builtin=True,
        created_by=workspace.created_by,
    )
