"""The output of an environment's build, while it goes on and after."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router

from compute import states
from compute.logs.store import LogFile
from compute.models import EnvironmentBuild, Unit
from studio.api.access import Ws, workspace_of
from studio.api.v1.files import LOG_BYTES, LOG_RESPONSE, From, Limit, Wait, log_piece
from studio.api.v1.submit import environment_find
from studio.lib.errors import NotFound

router = Router(tags=["Compute and environments"])


def _ended(build: EnvironmentBuild) -> bool:
    """Whether nothing more will come. Asked before the size, so that what came in between is not missed."""
    return build.unit_id is None or Unit.objects.filter(pk=build.unit_id, state__in=states.TERMINAL).exists()


@router.get("/environments/{name}/log", openapi_extra=LOG_RESPONSE)
def environment_log(
    request: HttpRequest,
    workspace: Ws,
    name: str,
    target: Annotated[str, Query("local", description="Where it is built.")] = "local",
    version: Annotated[int | None, Query(None, description="The newest where it is not given.")] = None,
    start: From = 0,
    limit: Limit = LOG_BYTES,
    wait: Wait = 0,
) -> Any:
    """The output of the build of an environment on a target, from a byte on. With `wait` the answer comes as soon as
    there is more."""
    place = workspace_of(request, workspace)
    environment = environment_find(place, name, version)
    build = EnvironmentBuild.objects.filter(
        content_hash=environment.content_hash, target__workspace=place, target__name=target
    ).first()
    if build is None:
        raise NotFound(_("%(name)s was never built on %(target)s.") % {"name": environment, "target": target[:100]})
    log = LogFile(build.unit.key) if build.unit is not None else None
    return log_piece(log, lambda: _ended(build), start, limit, wait, "build.log")
