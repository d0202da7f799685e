"""What went wrong on the way to a store, in words: one place for all libraries that connect."""

from __future__ import annotations

import asyncio
import socket
import ssl

from django.utils.translation import gettext as _

from studio.datasets.backends import guard
from studio.datasets.backends.base import StoreError


def network_fault(error: BaseException, where: str, path: str = "", *, what: str = "") -> StoreError | None:
    """What went wrong on the way to ``where`` (a host, for people); None when it was something else. ``what`` is named
    instead where the host was reached and its answer did not come.

    The texts of libraries are not repeated: addresses with signatures stand in some of them.
    """
    refused = guard.refusal(error)
    if refused:
        return guard.store_error(refused, path)
    found = list(guard.causes(error))
    kinds = {name.__name__ for one in found for name in type(one).__mro__}
    words, answer = {"where": where}, {"what": what or where}
    if any(isinstance(one, socket.gaierror) for one in found) or "NameResolutionError" in kinds:
        text = _("There is no host %(where)s.") % words
        return StoreError("no-such-host", text, hint=_("Check the name for typing errors."), path=path)
    certificate = next((one for one in found if isinstance(one, ssl.SSLCertVerificationError)), None)
    if certificate is not None:
        text = _("The certificate of %(where)s is not trusted: %(why)s.") % {
            **words,
            "why": certificate.verify_message,
        }
        return StoreError("unreachable", text, hint=_("Its issuer must be known to this machine."), path=path)
    if any(isinstance(one, ssl.SSLError) for one in found):
        text = _("%(where)s does not speak TLS as expected.") % words
        return StoreError("unreachable", text, hint=_("Is it http instead of https?"), path=path)
    if any(isinstance(one, ConnectionRefusedError) for one in found):
        text = _("%(where)s refuses connections: nothing listens there.") % words
        return StoreError("unreachable", text, hint=_("Check the port."), path=path, retry=True)
    kinds -= {"ConnectTimeoutError"} if "NewConnectionError" in kinds else set()  # urllib3 makes one of the other
    if any(isinstance(one, (TimeoutError, asyncio.TimeoutError)) for one in found) or kinds & {
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "Timeout",
        "ServiceRequestTimeoutError",
        "ServiceResponseTimeoutError",
    }:
        return StoreError("timeout", _("%(what)s did not answer in time.") % answer, path=path, retry=True)
    if kinds & {"ClientPayloadError", "IncompleteRead", "IncompleteReadError", "ChunkedEncodingError"}:
        return StoreError("incomplete", _("%(what)s broke off in the middle.") % answer, path=path, retry=True)
    if any(isinstance(one, OSError) for one in found) or kinds & {"HTTPClientError", "AzureError", "HTTPException"}:
        text = _("The connection to %(what)s failed or was closed.") % answer
        return StoreError("unreachable", text, path=path, retry=True)
    return None
