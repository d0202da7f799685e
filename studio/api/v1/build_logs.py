"""The output of an environment's build, while it goes on and after."""

from __future__ import annotations

import time
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router

from compute import states
from compute.logs.store import LogFile
from compute.models import EnvironmentBuild, Unit
from studio.api.access import Ws, workspace_of
from studio.api.v1.files import LOG_BYTES, LOG_RESPONSE, POLL_SECONDS, SEAL_SECONDS
from studio.api.v1.submit import environment_find
from studio.lib.errors import NotFound
from studio.lib.responses import harden

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
    start: Annotated[int, Query(0, alias="from", ge=0, le=1 << 62, description="Offset of the first byte wanted.")] = 0,
    limit: Annotated[int, Query(LOG_BYTES, ge=1, le=LOG_BYTES, description="At most so many bytes.")] = LOG_BYTES,
    wait: Annotated[float, Query(0, ge=0, le=20, description="Seconds to wait when there is nothing yet.")] = 0,
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
    end, ended, look = time.monotonic() + wait, _ended(build), time.monotonic() + SEAL_SECONDS
    size = log.size() if log else 0
    while log and size <= start and not ended and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        if time.monotonic() >= look:
            ended, look = _ended(build), time.monotonic() + SEAL_SECONDS
        size = log.size()
    data = log.read(start, limit) if log and size > start else b""
    response = HttpResponse(data, content_type="text/plain; charset=utf-8")
    harden(response, "build.log", attachment=False)
    response.headers["X-Atelier-Offset"] = str(start)
    response.headers["X-Atelier-Size"] = str(size)
    response.headers["X-Atelier-Sealed"] = "true" if ended else "false"
    return response
