"""Pages by key for lists that have no selector of their own."""

from __future__ import annotations

from typing import Annotated, Any

from django.db.models import QuerySet
from ninja import Query

from studio.lib.paging import decode_cursor, encode_cursor

Cursor = Annotated[str | None, Query(None, description="`next` of the page before.", max_length=2000)]
Limit = Annotated[int, Query(50, ge=1, le=500, description="Rows on a page.")]


def by_key(
    rows: QuerySet[Any], field: str, cursor: str | None, limit: int, *, newest_first: bool = False
) -> tuple[list[Any], str | None]:
    """(rows of the page, cursor of the next) of a query set ordered by one unique field."""
    rows = rows.order_by(f"-{field}" if newest_first else field)
    if cursor:
        (last,) = decode_cursor(cursor, 1)
        kind = rows.model._meta.get_field(field)
        last = check_key(kind, last)
        rows = rows.filter(**{f"{field}__{'lt' if newest_first else 'gt'}": last})
    found = list(rows[: limit + 1])
    if len(found) <= limit:
        return found, None
    return found[:limit], encode_cursor([getattr(found[limit - 1], field)])


def check_key(kind: Any, value: Any) -> Any:
    """The value as the field holds it; a forged cursor raises Invalid like any other bad one."""
    from django.core.exceptions import ValidationError

    from studio.lib.errors import Invalid

    try:
        if value is None or isinstance(value, (list, dict)):
            raise ValueError(value)
        return kind.to_python(value)
    except (ValidationError, TypeError, ValueError, OverflowError):
        raise Invalid(
            "The cursor is not one that this list gave out: start at the first page.", field="cursor"
        ) from None
