"""Talking to a Docker engine: one client per engine and process, and its errors in the words of drivers."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any

import requests
import urllib3
from django.conf import settings
from django.utils.translation import gettext as _
from docker import APIClient
from docker.errors import APIError, DockerException, ImageNotFound

from compute.drivers.base import DriverError, ImageMissing, NotFound, Refused, Unreachable

TIMEOUT_S = 12.0  # of one answer; an engine that hangs is unreachable after that
LONG_S = 3600.0  # between two words of a build or a pull
POOL = 64  # connections kept for threads that ask at the same time

_clients: dict[tuple[str, float], APIClient] = {}
_making = threading.Lock()

# What an engine says of itself or of the machine below it, and will not say again once that is over.
_PASSING = re.compile(
    r"shutting down|transport is closing|connection refused|connection error|deadline exceeded|unavailable|"
    r"timed? ?out|is being removed|already in progress|unexpected EOF|too many open files|containerd",
    re.IGNORECASE,
)


_OTHER_VERSION = re.compile(r"client (version|API version)?.*is too (old|new)", re.IGNORECASE)


def local_socket() -> str:
    """Where the engine of this machine listens: a path, or an address with a scheme."""
    return str(settings.ATELIER_DOCKER_SOCKET)


def client(address: str, timeout: float = TIMEOUT_S) -> APIClient:
    """The client of an engine, made once per process. ``address``: the path of its socket, or unix:// or tcp://.

    Safe for use by threads at the same time. Raises Unreachable with what is to be done.
    """
    key = (address, timeout)
    found = _clients.get(key)
    if found is None:
        with asking(address):
            made = APIClient(
                base_url=address if "://" in address else f"unix://{address}",
                version="auto",
                timeout=timeout,  # type: ignore[arg-type]  # seconds, parts of them too
                max_pool_size=POOL,
            )
        with _making:
            found = _clients.setdefault(key, made)
        if found is not made:
            made.close()
    return found


def forget(address: str) -> None:
    """Another engine may listen there now: ask it for its version again."""
    with _making:
        for key in [key for key in _clients if key[0] == address]:
            _clients.pop(key).close()


def connect(access: dict[str, Any], secrets: dict[str, str] | None = None, *, timeout: float = LONG_S) -> APIClient:
    """The engine that a driver's ``engine_access()`` names, for long work such as building an image.

    ``access``: {"kind": name of the driver, "config": its settings}. Raises DriverError.
    """
    from compute.drivers import registry  # it knows all drivers, and they know this module

    driver: Any = registry.make(access["kind"], access.get("config") or {}, secrets or {})
    found: APIClient = driver.engine(timeout)
    return found


# Errors.


@contextlib.contextmanager
def asking(address: str = "", *, image: str = "", python: str = "") -> Iterator[None]:
    """What goes wrong within becomes a DriverError. Its words name ``image`` and ``python`` where they fail."""
    try:
        yield
    except DriverError:
        raise
    except ImageNotFound as error:
        raise ImageMissing(no_image(image)) from error
    except APIError as error:
        if _OTHER_VERSION.search(said(error)):
            forget(address)
            raise Unreachable(_("The Docker engine is another one than before. It is asked again.")) from error
        raise answered(error, image=image, python=python) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, DockerException, HTTPException, OSError) as error:
        raise Unreachable(silent(error, address)) from error


def no_image(image: str) -> str:
    return _("The engine has no image %(image)s.") % {"image": image or "?"}


def silent(error: BaseException, address: str = "") -> str:
    """Why an engine did not answer, in words for a person."""
    text = " ".join(str(each) for each in _chain(error))
    where = address or _("its socket")
    if any(isinstance(each, PermissionError) for each in _chain(error)) or "Permission denied" in text:
        return _("The user that runs Atelier may not use the Docker engine: permission denied on %(where)s.") % {
            "where": where
        }
    if any(isinstance(each, FileNotFoundError) for each in _chain(error)) or "No such file" in text:
        return _("There is no Docker engine: %(where)s is not there.") % {"where": where}
    if any(isinstance(each, ConnectionRefusedError) for each in _chain(error)) or "Connection refused" in text:
        return _("The Docker engine is not running: nobody listens on %(where)s.") % {"where": where}
    if isinstance(error, requests.Timeout | TimeoutError) or "timed out" in text.lower():
        return _("The Docker engine did not answer in time.")
    return _("The Docker engine could not be asked: %(why)s") % {"why": str(error)[:500]}


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        inner = [each for each in error.args if isinstance(each, BaseException)]
        error = inner[0] if inner else error.__cause__ or error.__context__
    return found


def said(error: APIError) -> str:
    """What the engine answered, without the wrapping."""
    text = error.explanation if isinstance(error.explanation, str) else ""
    return (text or str(error)).strip()


def status(error: APIError) -> int:
    return int(getattr(error.response, "status_code", 0) or 0)


def answered(error: APIError, *, image: str = "", python: str = "") -> DriverError:
    """The error of a driver for an answer that is not what was asked for."""
    code, text = status(error), said(error)
    for matches, words in _ANSWERS:
        if matches(text):
            return words(text, image, python)
    if code == 404:
        return NotFound(text)
    if code in (502, 503, 504) or (code >= 500 and _PASSING.search(text) and "OCI runtime" not in text):
        return Unreachable(_("The Docker engine cannot do it now: %(why)s") % {"why": text})
    return Refused(_("The Docker engine refused: %(why)s") % {"why": text})


def _no_image(text: str, image: str, _python: str) -> DriverError:
    named = re.search(r"no such image:? *(\S+)", text, re.IGNORECASE)
    return ImageMissing(no_image(image or (named.group(1) if named else "")))


def _full(text: str, _image: str, _python: str) -> DriverError:
    return Refused(
        _("There is no space left on the disk of the Docker engine. Remove images that nobody needs. It said: %(why)s")
        % {"why": text}
    )


def _no_gpu(_text: str, _image: str, _python: str) -> DriverError:
    return Refused(_("The Docker engine has no GPU runtime. Install the NVIDIA Container Toolkit on its machine."))


def _no_program(text: str, image: str, python: str) -> DriverError:
    if python and f'"{python}"' in text:
        return Refused(
            _(
                "The image %(image)s has no Python at %(python)s: runs need Python 3.8 or later in their image. "
                "Choose another image, or name its interpreter in the environment."
            )
            % {"image": image, "python": python}
        )
    return Refused(_("The command cannot be started in %(image)s: %(why)s") % {"image": image, "why": text})


def _no_folder(text: str, _image: str, _python: str) -> DriverError:
    named = re.search(r"bind source path does not exist: (.+)", text)
    return Refused(
        _("The engine does not see the folder %(folder)s of this machine. Test the target: its check says more.")
        % {"folder": named.group(1).strip() if named else text}
    )


def _port(text: str, _image: str, _python: str) -> DriverError:
    return Refused(_("A port of the machine is in use already: %(why)s") % {"why": text})


def _says(pattern: str) -> Callable[[str], Any]:
    return re.compile(pattern, re.IGNORECASE).search


_ANSWERS: list[tuple[Callable[[str], Any], Callable[[str, str, str], DriverError]]] = [
    (_says(r"no space left on device|disk quota exceeded"), _full),
    (_says(r"no such image"), _no_image),
    (_says(r"could not select device driver|nvidia-container-cli|unknown or invalid runtime name"), _no_gpu),
    (_says(r"port is already allocated|address already in use"), _port),
    (_says(r"executable file not found|exec: .*(no such file|permission denied|not a directory|format)"), _no_program),
    (_says(r"bind source path does not exist"), _no_folder),
]


def socket_problem(address: str) -> tuple[str, str] | None:
    """(what is wrong, the way out) with a socket of this machine, as far as can be seen without asking; else None."""
    path = address.removeprefix("unix://")
    if "://" in path:
        return None
    if not os.path.lexists(path):
        return (
            _("There is no Docker engine on this machine: %(path)s is not there.") % {"path": path},
            _("Install Docker and start it, or set ATELIER_DOCKER_SOCKET to where its engine listens."),
        )
    if not os.access(path, os.R_OK | os.W_OK):
        return (
            _("The user that runs Atelier may not use the Docker engine: permission denied on %(path)s.")
            % {"path": path},
            _("Add the user to the group docker, then start Atelier from a new session: sudo usermod -aG docker USER"),
        )
    return None
