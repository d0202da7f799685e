"""Errors that a person reads: what is wrong, which field and value, and the way out.

Services raise these. Pages show them beside the field; the REST API answers problem+json
(RFC 9457) with ``status``, ``title``, ``detail`` and ``errors``.
"""

from __future__ import annotations


class AtelierError(Exception):
    """Base of every error that is meant for a person. ``errors`` maps a field's name to its messages."""

    status = 400
    code = "bad-request"

    def __init__(self, detail: str, *, field: str | None = None, errors: dict[str, list[str]] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors if errors is not None else ({field: [detail]} if field else {})


class Invalid(AtelierError):
    """The input cannot be used; ``errors`` names every field at once."""

    status = 422
    code = "invalid"


class NotAuthenticated(AtelierError):
    status = 401
    code = "not-authenticated"


class Forbidden(AtelierError):
    """A member without the right. An outsider gets NotFound instead."""

    status = 403
    code = "forbidden"


class NotFound(AtelierError):
    status = 404
    code = "not-found"


class Conflict(AtelierError):
    """The state of the thing does not allow it: a name that is taken, a run that has already ended."""

    status = 409
    code = "conflict"


class TooLarge(AtelierError):
    status = 413
    code = "too-large"


class TooManyRequests(AtelierError):
    status = 429
    code = "too-many-requests"
