"""Files that come in pieces: what the Content-Range of a PUT says."""

from __future__ import annotations

import re
from typing import Annotated

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Header

from studio.lib.errors import Invalid

_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)")

ContentRange = Annotated[
    str | None,
    Header(
        None,
        alias="Content-Range",
        description="bytes a-b/total of this chunk; bytes */total asks how far the upload is.",
    ),
]


def content_length(request: HttpRequest) -> int | None:
    """Bytes of the body as the request says; None where it does not."""
    declared = request.headers.get("Content-Length")
    return int(declared) if declared and declared.isdigit() else None


def parse_content_range(header: str | None, length: int | None) -> tuple[int | None, int | None]:
    """(offset of the chunk or None to only ask, total size or None) of an upload. Raises Invalid."""
    if not header:
        return 0, length
    found = _CONTENT_RANGE.fullmatch(header.strip())
    if found is None:
        raise Invalid(
            _("%(header)r is not a Content-Range: send bytes a-b/total.") % {"header": header[:100]},
            field="Content-Range",
        )
    first, last, total = found.groups()
    size = None if total == "*" else int(total)
    if first is None:
        return None, size
    if int(last) < int(first) or (size is not None and int(last) >= size):
        raise Invalid(_("The range of Content-Range does not fit its total."), field="Content-Range")
    if length is not None and int(last) - int(first) + 1 != length:
        raise Invalid(_("The body is not as long as Content-Range says."), field="Content-Range")
    return int(first), size
