"""Outputs + logs and Code: trees, previews and downloads. Output is never drawn as HTML."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import zipstream
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from runs.models import Run
from runs.services import artifacts, snapshots
from runs.views import common, trees
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.lib import responses
from studio.lib.errors import NotFound

STD_LOG = "user_logs/std_log.txt"
MAX_TREE = 3000


def _files(run: Run) -> list[tuple[str, int]]:
    """(path, bytes) of what the run has, the live log first."""
    listed = [(info.path, info.size) for info in artifacts.list_files(run, limit=MAX_TREE + 1)]
    if run.unit_id is not None and STD_LOG not in {path for path, _size in listed}:
        listed.insert(0, (STD_LOG, 0))
    return listed


@workspace_page()
@require_GET
def run_outputs(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    """The tree, and beside it the log or the file named by ``path``."""
    run = common.run_of(request, run_id)
    files = _files(run)
    names = {path for path, _size in files}
    active = request.GET.get("path") or (STD_LOG if STD_LOG in names else "")
    context = _tree_context(run, files, active) | {"path": active, "is_log": active == STD_LOG and run.unit is not None}
    if active and not context["is_log"]:
        if active not in names:
            raise NotFound(_("The run has no file %(path)s.") % {"path": active})
        context |= preview_of(artifacts.open_file(run, active), active)
    return common.run_page(request, run, "outputs", context)


def _tree_context(run: Run, files: list[tuple[str, int]], active: str) -> dict[str, Any]:
    return {
        "tree": trees.tree_of(files[:MAX_TREE], active=active, open_to=2),
        "file_count": len(files),
        "tree_cut": len(files) > MAX_TREE,
        "total_size": sum(size for _path, size in files),
        "tree_version": common.digest_of(files),
        "tree_url": reverse("run-outputs", kwargs={"workspace": run.workspace.name, "run_id": run.run_id}),
    }


@workspace_page()
@require_GET
def run_tree(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    """The tree again when a file came or grew, else 204."""
    run = common.run_of(request, run_id)
    context = _tree_context(run, _files(run), request.GET.get("path", ""))
    context |= {"run": run, "live": common.is_live(run), "path": request.GET.get("path", "")}
    if request.GET.get("v") == context["tree_version"] and context["live"]:
        return common.unchanged()
    return render(request, "runs/tab_outputs.html#tree", context)


def preview_of(path: Path, name: str) -> dict[str, Any]:
    """The first bytes of a file made ready for ``runs/parts/preview.html``; reads at most 512 KiB."""
    if path.is_dir():
        raise NotFound(_("%(path)s is a folder.") % {"path": name})
    size = path.stat().st_size
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in trees.IMAGES:
        return {"preview": {"kind": "image"}, "size": size}
    with path.open("rb") as handle:
        content = handle.read(trees.MAX_TEXT)
    return {"preview": trees.text_preview(content, name, whole=len(content) == size), "size": size}


@workspace_page()
@require_GET
def run_file(request: WorkspaceRequest, run_id: str, path: str) -> HttpResponseBase:
    """One file: an image of a known kind is shown where ``inline`` asks, everything else is a download."""
    run = common.run_of(request, run_id)
    return send(request, artifacts.open_file(run, path), path)


def send(request: WorkspaceRequest, path: Path, name: str) -> HttpResponseBase:
    """Streams the file, whole or by range. In place only as an image of a known kind: nothing that a run wrote is ever
    run by the browser."""
    shown = request.GET.get("inline") == "1" and PurePosixPath(name).suffix.lower() in trees.IMAGES
    return responses.file_response(request, path, name=PurePosixPath(name).name, attachment=not shown)


@workspace_page()
@require_GET
def run_zip(request: WorkspaceRequest, run_id: str) -> HttpResponseBase:
    """Everything, or what lies under ``prefix``, as a zip that is made while it is sent."""
    run = common.run_of(request, run_id)
    return responses.zip_response(artifacts.zip_stream(run, request.GET.get("prefix", "")), f"{run.run_id}.zip")


@workspace_page()
@require_GET
def run_code(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    snapshot = run.snapshot
    context: dict[str, Any] = {"snapshot": snapshot, "path": ""}
    if snapshot is not None:
        files = [(entry["path"], entry["size"]) for entry in snapshot.files]
        active = request.GET.get("path") or (
            run.script if run.script in dict(files) else (files[0][0] if files else "")
        )
        context |= {"tree": trees.tree_of(files[:MAX_TREE], active=active, open_to=1), "path": active}
        if active:
            context |= preview_of(snapshots.snapshot_path(snapshot, active), active)
    return common.run_page(request, run, "code", context)


@workspace_page()
@require_GET
def run_code_file(request: WorkspaceRequest, run_id: str, path: str) -> HttpResponseBase:
    run = common.run_of(request, run_id)
    if run.snapshot is None:
        raise NotFound(_("The run has no snapshot."))
    return send(request, snapshots.snapshot_path(run.snapshot, path), path)


@workspace_page()
@require_GET
def run_code_zip(request: WorkspaceRequest, run_id: str) -> HttpResponseBase:
    run = common.run_of(request, run_id)
    if run.snapshot is None:
        raise NotFound(_("The run has no snapshot."))
    archive = zipstream.ZipStream(compress_type=zipstream.ZIP_DEFLATED)
    for entry in run.snapshot.files:
        archive.add_path(snapshots.snapshot_path(run.snapshot, entry["path"]), entry["path"])
    return responses.zip_response(iter(archive), f"{run.run_id}-code.zip")
