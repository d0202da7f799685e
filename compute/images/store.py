"""Images of environments on an engine: what is there, who needs it, and what deleting gives back.

Bytes are counted by layers: what another image has too comes back only with the last of them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from docker import APIClient
from docker.errors import APIError, ImageNotFound

from compute import states
from compute.build_rows import BUILDING, READY
from compute.drivers import engine
from compute.images import plan
from compute.images.builds import engine_access, has_containers
from compute.installation import installation_id
from compute.models import Environment, EnvironmentBuild, Target, Unit
from studio.accounts.models import User
from studio.accounts.services import audit
from studio.lib.errors import Invalid

TIMEOUT_S = 30.0
_EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"  # a layer without a file
_NO_LAYER = frozenset(
    """ARG CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL MAINTAINER ONBUILD SHELL STOPSIGNAL USER
    VOLUME""".split()  # noqa: SIM905 - read as words
)


@dataclass(frozen=True)
class Image:
    """One image of ours. ``layers``: {chain id: bytes}. ``in_use`` says why it cannot go now, empty where it can."""

    tag: str
    id: str
    bytes: int
    created_at: dt.datetime | None
    layers: dict[str, int] = field(default_factory=dict)
    own_bytes: int = 0
    last_used_at: dt.datetime | None = None
    environments: list[str] = field(default_factory=list)
    in_use: str = ""


@dataclass(frozen=True)
class Pruned:
    """What goes (or would go) and the bytes that the engine gets back."""

    images: list[Image]
    bytes: int
    deleted: bool = False
    failed: list[str] = field(default_factory=list)


def _client(target: Target) -> APIClient:
    if not has_containers(target):
        raise Invalid(_("%(name)s has no images: its runs are processes.") % {"name": target}, field="target")
    access, opened = engine_access(target)
    return engine.connect(access, opened, timeout=TIMEOUT_S)


def images_on(target: Target) -> list[Image]:
    """Images of environments on the target's engine that this workspace may see: its own, and those of this
    installation that no workspace has any more. The largest first. Raises DriverError, Invalid for a target without."""
    with engine.asking():
        return _Looked(_client(target), target).images


class _Looked:
    """One look at an engine, with what the database knows of it."""

    def __init__(self, client: APIClient, target: Target) -> None:
        self.client, self.target = client, target
        listed = client.images(all=False)
        ours = [
            (tag, one) for one in listed for tag in one.get("RepoTags") or [] if tag.startswith(f"{plan.REPOSITORY}:")
        ]
        builds = list(
            EnvironmentBuild.objects.filter(detail__image__in=[tag for tag, _one in ours]).select_related("target")
        )
        self.needed = _needed(builds)
        self.building = set(EnvironmentBuild.objects.filter(state=BUILDING).values_list("content_hash", flat=True))
        self.running = {one.get("ImageID") for one in client.containers(all=True)}
        self.chains = {one["Id"]: _chain(client, one["Id"]) for one in listed}
        self.names = _names(target, {build.content_hash for build in builds})
        found = [image for tag, one in ours if (image := self._image(tag, one, builds))]
        self.images = sorted(found, key=lambda image: (-image.bytes, image.tag))

    def _image(self, tag: str, one: dict[str, Any], builds: list[EnvironmentBuild]) -> Image | None:
        its = [build for build in builds if build.detail.get("image") == tag]
        own = [build for build in its if build.target.workspace_id == self.target.workspace_id]
        labels = one.get("Labels") or {}
        if not own and (its or labels.get(plan.LABEL_INSTALLATION) != installation_id()):
            return None
        in_use = ""
        if tag in self.needed:
            in_use = _("A run that has not ended needs it.")
        elif one["Id"] in self.running:
            in_use = _("A container on the engine uses it.")
        elif labels.get(plan.LABEL_CONTENT) in self.building:
            in_use = _("It is being built right now.")
        elif len(own) < len(its):
            in_use = _("Another workspace uses it too.")
        layers = _sizes(self.client, one["Id"], self.chains[one["Id"]])
        others = {link for other, chain in self.chains.items() if other != one["Id"] for link in chain}
        return Image(
            tag=tag,
            id=one["Id"],
            bytes=int(one.get("Size") or 0),
            created_at=dt.datetime.fromtimestamp(one["Created"], dt.UTC) if one.get("Created") else None,
            layers=layers,
            own_bytes=sum(size for link, size in layers.items() if link not in others),
            last_used_at=max((build.last_used_at for build in own if build.last_used_at), default=None),
            environments=sorted({name for build in own for name in self.names.get(build.content_hash, [])}),
            in_use=in_use,
        )

    def given_back(self, gone: Iterable[Image]) -> int:
        """Bytes of the layers that no image has any more when these are gone."""
        images = list(gone)
        ids = {image.id for image in images}
        kept = {link for other, chain in self.chains.items() if other not in ids for link in chain}
        layers: dict[str, int] = {}
        for image in images:
            layers.update(image.layers)
        return sum(size for link, size in layers.items() if link not in kept)


def _names(target: Target, hashes: set[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    rows = Environment.objects.filter(workspace_id=target.workspace_id, content_hash__in=hashes)
    for row in rows.only("name", "version", "content_hash"):
        found.setdefault(row.content_hash, []).append(str(row))
    return found


def _needed(builds: list[EnvironmentBuild]) -> set[str]:
    """Tags that a unit which has not ended has, or will have once it is prepared. On whatever target: rather too
    many than one too few."""
    by_hash: dict[str, set[str]] = {}
    for build in builds:
        by_hash.setdefault(build.content_hash, set()).add(str(build.detail["image"]))
    found: set[str] = set()
    for spec in Unit.objects.filter(state__in=states.LIVE).values_list("spec", flat=True).iterator():
        if spec.get("image"):
            found.add(str(spec["image"]))
        found |= by_hash.get(str(spec.get("environment") or ""), set())
    return found


def _chain(client: APIClient, image: str) -> tuple[str, ...]:
    """An id for each layer that stands for it and all below; empty for an image that has just gone."""
    try:
        layers = (client.inspect_image(image).get("RootFS") or {}).get("Layers") or []
    except ImageNotFound:
        return ()
    return tuple(_links(layers))


def _links(layers: list[str]) -> Iterator[str]:
    below = ""
    for layer in layers:
        below = hashlib.sha256(f"{below} {layer}".encode()).hexdigest()
        yield f"{below}{'' if layer != _EMPTY else '-empty'}"


def _sizes(client: APIClient, image: str, chain: tuple[str, ...]) -> dict[str, int]:
    """{chain id: bytes of its layer}. The history does not say which of its entries are layers, so they are matched;
    where that fails, nothing is claimed."""
    try:
        history = list(reversed(client.history(image)))
    except ImageNotFound:
        return {}
    return match(history, chain)


def match(history: list[dict[str, Any]], chain: tuple[str, ...]) -> dict[str, int]:
    """``history``: oldest first, each with Size and CreatedBy."""
    layers = [one for one in history if one.get("Size") or not _is_metadata(str(one.get("CreatedBy") or ""))]
    if len(layers) == len(chain):
        return {link: int(one.get("Size") or 0) for link, one in zip(chain, layers, strict=True)}
    filled = [one for one in history if one.get("Size")]
    links = [link for link in chain if not link.endswith("-empty")]
    if len(filled) == len(links):
        return {link: int(one["Size"]) for link, one in zip(links, filled, strict=True)}
    return {}


def _is_metadata(created_by: str) -> bool:
    words = created_by.split("#(nop)")[-1].split() if "#(nop)" in created_by else created_by.split()
    return bool(words) and words[0] in _NO_LAYER


def images_prune(
    target: Target,
    *,
    preview: bool = True,
    unused_days: float | None = None,
    tags: list[str] | None = None,
    user: User | None = None,
    request: Any = None,
) -> Pruned:
    """Delete images that nothing needs, or say what would go. ``unused_days``: only what no run has used for so long.

    An image that a living unit needs stays whatever is asked. Raises DriverError; Invalid for a tag that is not there
    or is needed.
    """
    with engine.asking():
        client = _client(target)
        looked = _Looked(client, target)
        chosen = [image for image in looked.images if not image.in_use]
        if tags is not None:
            chosen = _named(tags, looked.images)
        if unused_days is not None:
            before = timezone.now() - dt.timedelta(days=unused_days)
            chosen = [image for image in chosen if (image.last_used_at or image.created_at or before) <= before]
        if preview:
            return Pruned(chosen, looked.given_back(chosen))
        failed = []
        gone = []
        for image in chosen:
            own = EnvironmentBuild.objects.filter(detail__image=image.tag, target__workspace_id=target.workspace_id)
            own.filter(state=READY).delete()  # first: whoever comes now has it built
            try:
                client.remove_image(image.tag)
                gone.append(image)
            except ImageNotFound:
                gone.append(image)
            except APIError as error:
                failed.append(f"{image.tag}: {engine.said(error)}")
        given = looked.given_back(gone)
        detail = {"images": [image.tag for image in gone], "bytes": given}
        audit(user, "images.prune", workspace=target.workspace, object=target, detail=detail, request=request)
        return Pruned(gone, given, True, failed)


def _named(tags: list[str], images: list[Image]) -> list[Image]:
    known = {image.tag: image for image in images}
    wrong = [_("%(tag)s is not on the engine.") % {"tag": tag[:200]} for tag in tags if tag not in known]
    wrong += [f"{tag}: {known[tag].in_use}" for tag in tags if tag in known and known[tag].in_use]
    if wrong:
        raise Invalid(" ".join(wrong), errors={"tags": wrong})
    return [known[tag] for tag in dict.fromkeys(tags)]
