"""Datasets: names for series of definitions. A definition never changes; what is said about it may."""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from atelier.data import definition as definitions
from atelier.data.errors import DataError
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.datasets import selectors
from studio.datasets.models import Dataset, DatasetVersion, Datastore
from studio.datasets.selectors import datasets_page, version_by_id, version_get
from studio.datasets.services.datastores import datastores_in, names_in, store_open
from studio.lib import secrets as locks
from studio.lib.errors import Conflict, Invalid
from studio.lib.names import clean_json, clean_name, clean_text

if TYPE_CHECKING:
    from studio.datasets.sources import BackendSource

__all__ = [
    "dataset_archive", "dataset_delete", "dataset_register", "dataset_update", "datasets_page", "definition_check",
    "definition_save", "has_key", "joined", "opened_definition", "source_of", "split", "version_by_id",
    "version_get", "version_update",
]  # fmt: skip

MAX_DEFINITION = 1 << 20  # bytes as JSON
MAX_TAGS = 100
RESERVED = {".", "..", "new"}  # parts of addresses
LOOKED_BACK = 2000  # versions with signatures that are searched for one of a URL
# Parameters of an address that are a key to it, whatever they hold; others are when they are long enough to be one.
_KEYS = re.compile(
    r"(?i)sig(nature)?|.*(token|secret|password|passwd|api_?key|credential|auth).*|key|x-(amz|goog|ms)-.*"
)
_LONG = 16


def has_key(url: str) -> bool:
    """Whether the query of an address opens it, so that people are not shown it."""
    query = url.partition("?")[2]
    return any(_KEYS.fullmatch(name) or len(value) >= _LONG for name, value in parse_qsl(query, keep_blank_values=True))


def split(definition: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(definition without the keys in its addresses, {index of the path: query string})."""
    bare, found = copy.deepcopy(definition), {}
    for index, path in enumerate(bare["source"].get("paths") or []):
        url, mark, query = str(path.get("url", "")).partition("?")
        if mark and has_key(path["url"]):
            path["url"], path["signed"] = url, True
            found[str(index)] = query
    return bare, found


def joined(definition: dict[str, Any], signatures: dict[str, str]) -> dict[str, Any]:
    """The definition with the keys put back into its addresses."""
    whole = copy.deepcopy(definition)
    for index, query in signatures.items():
        path = whole["source"]["paths"][int(index)]
        path["url"] = f"{path['url']}?{query}"
        path.pop("signed", None)
    return whole


def _signatures(version: DatasetVersion) -> dict[str, str]:
    found: dict[str, str] = json.loads(locks.decrypt(version.secrets)) if version.secrets else {}
    return found


def opened_definition(version: DatasetVersion) -> dict[str, Any]:
    """The definition with its secrets: not for people, not for logs."""
    try:
        return joined(version.definition, _signatures(version))
    except locks.SecretUnreadable as error:
        raise Invalid(f"{error} {_('Or register the dataset again with its whole addresses.')}") from error


def _known_signatures(workspace: Workspace, wanted: set[str]) -> dict[str, str]:
    """{url: query} of addresses whose keys newer or older versions of the workspace hold."""
    found: dict[str, str] = {}
    rows = DatasetVersion.objects.filter(workspace=workspace).exclude(secrets="").order_by("-created_at")
    for version in rows.only("definition", "secrets")[:LOOKED_BACK]:
        paths = version.definition["source"]["paths"]
        here = {str(index): path["url"] for index, path in enumerate(paths) if path.get("url") in wanted - found.keys()}
        if here:
            opened = _signatures(version)
            found |= {url: opened[index] for index, url in here.items() if index in opened}
        if not wanted - found.keys():
            break
    return found


def _resigned(workspace: Workspace, definition: dict[str, Any]) -> dict[str, Any]:
    """Addresses that are marked as signed and come without their key get the one that the workspace knows: whoever
    takes a dataset and filters it never saw it."""
    paths = definition["source"].get("paths") or []
    bare = {path["url"] for path in paths if path.get("signed") and "?" not in path.get("url", "")}
    known = _known_signatures(workspace, bare) if bare else {}
    if missing := sorted(bare - known.keys()):
        raise Invalid(
            _("The key of %(url)s is not known in this workspace: give the whole address.") % {"url": missing[0][:200]},
            field="definition",
        )
    whole = copy.deepcopy(definition)
    for path in whole["source"].get("paths") or []:
        if path.pop("signed", None) and path["url"] in known:
            path["url"] = f"{path['url']}?{known[path['url']]}"
    return whole


def definition_check(workspace: Workspace, definition: Any) -> dict[str, Any]:
    """A definition in its normal form and with its secrets, all of whose datastores exist. Raises Invalid.

    Keys of addresses that the caller left out (``"signed": true``) are put back where the workspace knows them.
    """
    try:
        if len(json.dumps(definition)) > MAX_DEFINITION:
            raise Invalid(
                _("The definition has more than 1 MiB: name folders or globs, not files."), field="definition"
            )
        clean = definitions.check(clean_json(definition, field="definition"))
        opened = definitions.check(_resigned(workspace, clean))
    except DataError as error:
        raise Invalid(str(error), field="definition") from error
    except (RecursionError, TypeError, ValueError) as error:
        raise Invalid(_("This is no definition of a dataset: %(why)s.") % {"why": error}, field="definition") from error
    for path in opened["source"].get("paths") or []:
        if "local" in path:
            raise Invalid(
                _("%(path)s is a path of the machine that you work on: upload it to a datastore first.")
                % {"path": str(path["local"])[:200]},
                field="definition",
            )
        if urlsplit(path.get("url", "")).username is not None:
            raise Invalid(
                _("The address holds a user name: register a datastore with it and its password instead."),
                field="definition",
            )
    named = names_in(opened)
    have = set(Datastore.objects.filter(workspace=workspace, name__in=named).values_list("name", flat=True))
    if missing := sorted(named - have):
        raise Invalid(
            _("There is no datastore %(names)s in this workspace.") % {"names": ", ".join(missing)[:300]},
            field="definition",
        )
    return opened


def dataset_name(raw: str) -> str:
    """A dataset's name; raises Invalid. Spaces are fine, what separates parts of an address or a version is not."""
    name = clean_name(raw, field="name")
    if not name or len(name) > 255:
        raise Invalid(_("A dataset's name has 1 to 255 characters."), field="name")
    if name in RESERVED:
        raise Invalid(
            _("%(name)s is a word of the studio's addresses: choose another name.") % {"name": name}, field="name"
        )
    if found := re.search(r"[/\\:]", name):
        raise Invalid(_("A dataset's name cannot hold %(character)s.") % {"character": found[0]}, field="name")
    return name


def dataset_tags(raw: Any) -> dict[str, str | None]:
    """Tags as they are stored: text or nothing for each name. A plain text is a name. Raises Invalid."""
    if isinstance(raw, str):
        raw = {raw: None}
    if not isinstance(raw, dict) or len(raw) > MAX_TAGS:
        raise Invalid(_("Tags are names with values, at most %(most)d.") % {"most": MAX_TAGS}, field="tags")
    tags: dict[str, str | None] = {}
    for key, value in raw.items():
        name = clean_name(str(key), field="tags")
        text = None if value is None else value if isinstance(value, str) else json.dumps(value)
        if not name or len(name) > 255 or len(text or "") > 5000:
            raise Invalid(
                _("A tag's name has 1 to 255 characters, its value at most 5,000: %(name)s.")
                % {"name": repr(key)[:80]},
                field="tags",
            )
        tags[name] = None if text is None else clean_text(text, field="tags")
    return tags


def _columns(workspace: Workspace, user: User | None, opened: dict[str, Any]) -> dict[str, Any]:
    """What every version is made of."""
    bare, signatures = split(opened)
    return {
        "workspace": workspace,
        "type": opened["type"],
        "definition": bare,
        "digest": definitions.digest(opened),
        "secrets": locks.encrypt(json.dumps(signatures)) if signatures else "",
        "created_by": user,
    }


def dataset_register(
    *,
    workspace: Workspace,
    user: User | None,
    name: str,
    definition: dict[str, Any],
    description: str = "",
    tags: Any = None,
    create_new_version: bool = False,
    by_person: bool = True,
    request: HttpRequest | None = None,
) -> DatasetVersion:
    """Give a definition a name. What is the newest version already stays it, with the description and tags of now.

    Raises Conflict when the name is taken and no new version is wanted, Invalid as ``definition_check`` does.
    """
    name = dataset_name(name)
    described, tagged = clean_text(description or "", field="description"), dataset_tags(tags or {})
    columns = _columns(workspace, user, definition_check(workspace, definition))
    for attempt in (1, 2):
        try:
            with transaction.atomic():
                version, made = _version(workspace, name, columns, described, tagged, create_new_version)
                if made and by_person:
                    audit(user, "dataset.register", workspace=workspace, object=version, request=request)
            return version
        except IntegrityError:  # somebody else took the name or the number at the same moment
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def _version(
    workspace: Workspace, name: str, columns: dict[str, Any], description: str, tags: dict[str, Any], new: bool
) -> tuple[DatasetVersion, bool]:
    """(the version, whether it was made now). Inside a transaction."""
    dataset = Dataset.objects.select_for_update().filter(workspace=workspace, name=name).first()
    if dataset is None:
        dataset = Dataset.objects.create(
            workspace=workspace, name=name, description=description, created_by=columns["created_by"]
        )
    latest = dataset.versions.filter(version=dataset.latest_version).first()
    if latest is not None and latest.digest == columns["digest"]:
        changes = {key: value for key, value in {"description": description, "tags": tags}.items() if value}
        if changes:
            DatasetVersion.objects.filter(pk=latest.pk).update(**changes)
        if dataset.archived_at is not None:
            dataset.archived_at = None
            dataset.save(update_fields=["archived_at", "updated_at"])
        return selectors.version_by_id(workspace, latest.pk), False
    if latest is not None and not new:
        raise Conflict(
            _(
                "There is already a dataset registered under the name %(name)s. Say create_new_version=True to make "
                "this the next version of it."
            )
            % {"name": name},
            field="name",
        )
    dataset.latest_version += 1
    dataset.archived_at = None
    dataset.description = description or dataset.description
    dataset.save(update_fields=["latest_version", "archived_at", "description", "updated_at"])
    made = DatasetVersion.objects.create(
        dataset=dataset, version=dataset.latest_version, description=description, tags=tags, **columns
    )
    return made, True


def definition_save(*, workspace: Workspace, user: User | None, definition: dict[str, Any]) -> DatasetVersion:
    """Keep a definition that is used and has no name: one row for each content. Where a dataset has just this content
    its version is given, so that runs show the name."""
    columns = _columns(workspace, user, definition_check(workspace, definition))
    same = selectors.versions_of(workspace).filter(digest=columns["digest"])
    found = same.exclude(dataset=None).order_by("-created_at").first() or same.filter(dataset=None).first()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            return DatasetVersion.objects.create(**columns)
    except IntegrityError:  # somebody else saved it at the same moment
        return same.get(dataset=None)


@transaction.atomic
def version_update(
    version: DatasetVersion,
    *,
    user: User | None,
    description: str | None = None,
    tags: Any = None,
    request: HttpRequest | None = None,
) -> DatasetVersion:
    """Change what is said about a version. ``tags`` replaces all of them."""
    if description is not None:
        version.description = clean_text(description, field="description")
    if tags is not None:
        version.tags = dataset_tags(tags)
    version.save(update_fields=["description", "tags"])
    audit(user, "dataset.version.update", workspace=version.workspace, object=version, request=request)
    return version


@transaction.atomic
def dataset_update(
    dataset: Dataset, *, user: User | None, description: str, request: HttpRequest | None = None
) -> Dataset:
    """Change a dataset's description."""
    dataset.description = clean_text(description, field="description")
    dataset.save(update_fields=["description", "updated_at"])
    audit(user, "dataset.update", workspace=dataset.workspace, object=dataset, request=request)
    return dataset


@transaction.atomic
def dataset_archive(
    dataset: Dataset, *, user: User | None, archived: bool = True, request: HttpRequest | None = None
) -> Dataset:
    """Out of the list and back; it can be read as before. Again: nothing happens."""
    if (dataset.archived_at is not None) == archived:
        return dataset
    dataset.archived_at = timezone.now() if archived else None
    dataset.save(update_fields=["archived_at", "updated_at"])
    action = "dataset.archive" if archived else "dataset.unarchive"
    audit(user, action, workspace=dataset.workspace, object=dataset, request=request)
    return dataset


@transaction.atomic
def dataset_delete(dataset: Dataset, *, user: User | None, request: HttpRequest | None = None) -> None:
    """Delete a dataset with all versions; the bytes that they name stay. Runs keep what it was called.

    ``selectors.dataset_uses`` says before what that means.
    """
    uses = selectors.dataset_uses(dataset)
    detail = {"versions": uses.versions, "runs": uses.runs}
    audit(user, "dataset.delete", workspace=dataset.workspace, object=dataset, detail=detail, request=request)
    dataset.delete()


def source_of(workspace: Workspace, opened: dict[str, Any]) -> BackendSource:
    """Where the files of an opened definition come from. Raises Invalid, StoreError."""
    from studio.datasets.sources import BackendSource

    return BackendSource({name: store_open(row) for name, row in datastores_in(workspace, opened).items()})
