"""Images of environments on a target with containers: what is there, and deleting what nothing needs."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods

from compute import target_page
from compute.drivers.base import DriverError
from compute.images import store
from compute.models import Target
from compute.views import target_of
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.lib.errors import AtelierError, NotFound
from studio.lib.htmx import render_page
from studio.templatetags.atelier import filesize

AGES = (0, 7, 30, 90)  # days without a run, as the page offers them


def _with_images(request: WorkspaceRequest, name: str) -> Target:
    target = target_of(request, name)
    if not target_page.kind_of(target.driver)["containers"]:
        raise NotFound(_("%(name)s has no images: its runs are processes.") % {"name": name})
    return target


@workspace_page()
@require_GET
def image_list(request: WorkspaceRequest, name: str) -> HttpResponse:
    """The page, and for htmx its list alone. Asks the engine."""
    target = _with_images(request, name)
    context: dict[str, Any] = {"target": target}
    try:
        images = store.images_on(target)
        context |= {
            "images": images,
            "total": sum(image.bytes for image in images),
            "unused": sum(1 for image in images if not image.in_use),
        }
    except (AtelierError, DriverError) as error:
        context["refusal"] = str(error)
    return render_page(request, "compute/image_list.html", context, part="images")


def _days(request: WorkspaceRequest) -> int:
    asked = request.GET.get("days", "")
    return int(asked) if asked.isdigit() and int(asked) in AGES else 0


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def image_prune(request: WorkspaceRequest, name: str) -> HttpResponse:
    """What would go and the bytes that come back; a POST deletes the images that are named (``tags``), no others."""
    target = _with_images(request, name)
    if request.method == "POST":
        return _deleted(request, target)
    days = _days(request)
    context: dict[str, Any] = {"target": target, "days": days, "ages": AGES}
    try:
        found = store.images_prune(target, unused_days=days or None)
        tags = {image.tag for image in found.images}
        if asked := [tag for tag in request.GET.getlist("tags") if tag in tags]:
            tags = set(asked)
            context["bytes"] = store.images_prune(target, tags=asked).bytes
        else:
            context["bytes"] = found.bytes
        context |= {"images": found.images, "chosen": tags}
    except (AtelierError, DriverError) as error:
        context["refusal"] = str(error)
    return render(request, "compute/image_prune.html", context)


def _deleted(request: WorkspaceRequest, target: Target) -> HttpResponse:
    workspace, name = request.workspace.name, target.name
    tags = request.POST.getlist("tags")
    if not tags:
        messages.warning(request, _("No image was chosen, and none is deleted."))
        return redirect("target-image-prune", workspace=workspace, name=name)
    try:
        done = store.images_prune(target, preview=False, tags=tags, user=request.user, request=request)
    except (AtelierError, DriverError) as error:
        messages.error(request, str(error))
        return redirect("target-image-prune", workspace=workspace, name=name)
    if done.images:
        said = ngettext(
            "%(n)d image is deleted, and %(bytes)s are free again.",
            "%(n)d images are deleted, and %(bytes)s are free again.",
            len(done.images),
        )
        messages.success(request, said % {"n": len(done.images), "bytes": filesize(done.bytes)})
    for failure in done.failed:
        messages.error(request, failure)
    return redirect("target-images", workspace=workspace, name=name)
