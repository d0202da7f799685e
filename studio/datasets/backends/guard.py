"""The address guard: no datastore may reach the addresses that only the machine itself should.

Checked is the address that a connection really goes to: after the name was resolved, at each redirect, whatever way
the address is written (a literal, decimal, hexadecimal, IPv4 within IPv6). There is no moment between the check and
the connection in which a name could come to mean something else.

- ``urllib3``: ``pool_manager()``
- ``requests``: ``requests_session()``
- ``aiohttp`` (aiobotocore, azure): ``aiohttp.TCPConnector(**connector_arguments())``; aiobotocore takes
  ``AioConfig(connector_args=connector_arguments())``. Call it once per connector, inside or outside of a loop.
- plain sockets: ``connect(host, port, timeout)``; libraries that connect by themselves: ``resolve(host, port)`` and
  hand them the address.
- ``refusal(error)`` finds a refusal of the guard inside whatever a library made of it.

Proxies of the environment are not used (``trust_env`` is off): behind one, nobody could say where a connection goes.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from studio.datasets.backends.base import StoreError
from studio.lib import env

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Link-local, what clouds answer with their machines' credentials, unspecified, multicast and broadcast.
ALWAYS_DENIED = (
    "169.254.0.0/16",
    "fe80::/10",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "0.0.0.0/8",
    "::",
    "224.0.0.0/4",
    "255.255.255.255",
    "ff00::/8",
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class ForbiddenAddress(OSError):
    """The guard refused. ``host`` is what was asked for, ``address`` what it means."""

    def __init__(self, host: str, address: str = "") -> None:
        where = f"{host} ({address})" if address and address != host else host or address
        super().__init__(f"connections to {where} are not allowed")
        self.host, self.address, self.where = host, address, where


@dataclass(frozen=True)
class Rules:
    """Networks and host names. What is allowed wins over what is denied."""

    deny: tuple[env.Network, ...] = ()
    deny_names: tuple[str, ...] = ()
    allow: tuple[env.Network, ...] = ()
    allow_names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, deny: Sequence[str], allow: Sequence[str]) -> Rules:
        """Raises ConfigurationError for an entry that is neither a network nor a host name."""
        networks, names = env.places("ATELIER_DATA_DENY", (*ALWAYS_DENIED, *deny))
        return cls(networks, names, *env.places("ATELIER_DATA_ALLOW", allow))

    def name_allowed(self, host: str) -> bool:
        """Whether this name is allowed whatever it means. Raises ForbiddenAddress for a denied one."""
        if _named(host, self.allow_names):
            return True
        if _named(host, self.deny_names):
            raise ForbiddenAddress(host)
        return False

    def permits(self, address: str) -> bool:
        """Whether a connection to this numeric address may be made."""
        forms = list(_forms(address))
        if any(form in network for form in forms for network in self.allow if form.version == network.version):
            return True
        return not any(form in network for form in forms for network in self.deny if form.version == network.version)


def _named(host: str, names: tuple[str, ...]) -> bool:
    plain = host.lower().rstrip(".")
    return any(
        plain == name or (name[0] in "*." and plain.endswith(name.lstrip("*")) and plain != name) for name in names
    )


def _forms(address: str) -> Iterator[Address]:
    """The address, and the IPv4 addresses that an IPv6 one carries within it."""
    found = ipaddress.ip_address(address.partition("%")[0])
    yield found
    if isinstance(found, ipaddress.IPv6Address):
        inner = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        if found in _NAT64 or (int(found) >> 32 == 0 and int(found) > 1):
            inner.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
        yield from (form for form in inner if form is not None)


@functools.lru_cache(maxsize=8)
def _parsed(deny: tuple[str, ...], allow: tuple[str, ...]) -> Rules:
    return Rules.parse(deny, allow)


def rules() -> Rules:
    """The rules in force: of the settings, or of the environment in a unit of work that has no such setting."""
    deny, allow = (getattr(settings, name, None) for name in ("ATELIER_DATA_DENY", "ATELIER_DATA_ALLOW"))
    return _parsed(
        tuple(env.reach("ATELIER_DATA_DENY") if deny is None else deny),
        tuple(env.reach("ATELIER_DATA_ALLOW") if allow is None else allow),
    )


def resolve(host: str, port: int) -> list[tuple[int, int, int, str, Any]]:
    """What ``socket.getaddrinfo`` gives, without the forbidden addresses.

    Raises ForbiddenAddress when none is left, and ``socket.gaierror`` when there is no such host.
    """
    plain = host.strip("[]")
    named = rules().name_allowed(plain)
    found = socket.getaddrinfo(plain, port, type=socket.SOCK_STREAM)
    permitted: list[Any] = [row for row in found if named or rules().permits(str(row[4][0]))]
    if not permitted:
        raise ForbiddenAddress(plain, str(found[0][4][0]) if found else "")
    return permitted


def connect(
    host: str,
    port: int,
    timeout: float | None = None,
    source_address: tuple[str, int] | None = None,
    socket_options: Sequence[tuple[Any, ...]] | None = None,
) -> socket.socket:
    """``socket.create_connection`` that goes to permitted addresses only. Raises OSError, ForbiddenAddress."""
    last: OSError | None = None
    for family, kind, protocol, _canonical, address in resolve(host, port):
        made = socket.socket(family, kind, protocol)
        try:
            for option in socket_options or ():
                made.setsockopt(*option)
            made.settimeout(timeout)
            if source_address:
                made.bind(source_address)
            made.connect(address)
            return made
        except OSError as error:
            last = error
            made.close()
    raise last or OSError("no address to connect to")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and everything that it was made of, however a library wrapped it."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__, getattr(current, "reason", None)]
        waiting += [getattr(current, "os_error", None), *current.args, *getattr(current, "exceptions", ())]


def refusal(error: BaseException | None) -> ForbiddenAddress | None:
    """The guard's refusal within an error of a library, however deep."""
    return next((one for one in causes(error) if isinstance(one, ForbiddenAddress)), None)


def store_error(refused: ForbiddenAddress, path: str = "") -> StoreError:
    """The refusal as people read it."""
    return StoreError(
        "forbidden-address",
        _("Connections to %(where)s are not allowed.") % {"where": refused.where},
        hint=_("An administrator can allow this address with the setting ATELIER_DATA_ALLOW."),
        path=path,
    )


# --- aiohttp: s3fs (aiobotocore) and azure-storage-blob ---


def connector_arguments() -> dict[str, Any]:
    """Keyword arguments of an ``aiohttp.TCPConnector`` that goes to permitted addresses only.

    The resolver looks at names, the socket factory at every address, literals too. A refusal arrives as a
    ``ForbiddenAddress`` inside aiohttp's own error: ask ``refusal(error)``.
    """
    from aiohttp.abc import AbstractResolver
    from aiohttp.resolver import ThreadedResolver

    granted: set[str] = set()  # addresses of names that the administrator allowed by name

    class Resolver(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> Any:
            named = rules().name_allowed(host)
            found = await ThreadedResolver().resolve(host, port, family)
            if named:
                granted.update(row["host"] for row in found)
                return found
            permitted = [row for row in found if rules().permits(row["host"])]
            if not permitted:
                raise ForbiddenAddress(host, found[0]["host"] if found else "")
            return permitted

        async def close(self) -> None:
            """Nothing is held."""

    def factory(info: tuple[int, int, int, str, Any]) -> socket.socket:
        family, kind, protocol, _canonical, address = info
        numeric = str(address[0])
        if numeric not in granted and not rules().permits(numeric):
            raise ForbiddenAddress(numeric)
        return socket.socket(family, kind, protocol)

    return {"resolver": Resolver(), "socket_factory": factory}


# --- urllib3 and requests ---


def _pool_classes() -> dict[str, Any]:
    from urllib3 import exceptions
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Guarded:
        def _new_conn(self) -> socket.socket:
            mine: Any = self
            timeout = mine.timeout if isinstance(mine.timeout, (int, float)) else socket.getdefaulttimeout()
            try:
                return connect(mine._dns_host, mine.port, timeout, mine.source_address, mine.socket_options)
            except socket.gaierror as error:
                raise exceptions.NameResolutionError(mine.host, mine, error) from error
            except TimeoutError as error:
                raise exceptions.ConnectTimeoutError(mine, f"no connection within {timeout} s") from error
            except OSError as error:
                raise exceptions.NewConnectionError(mine, str(error)) from error

    plain = type("GuardedConnection", (Guarded, HTTPConnection), {})
    secure = type("GuardedSecureConnection", (Guarded, HTTPSConnection), {})
    return {
        "http": type("GuardedPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("GuardedSecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


def pool_manager(**options: Any) -> Any:
    """An ``urllib3.PoolManager`` that goes to permitted addresses only."""
    import urllib3

    manager = urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = _pool_classes()
    return manager


def requests_session() -> Any:
    """A ``requests.Session`` that goes to permitted addresses only, at each redirect too, and asks no proxy."""
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *positional: Any, **options: Any) -> None:
            super().init_poolmanager(*positional, **options)
            self.poolmanager.pool_classes_by_scheme = _pool_classes()

    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 5
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    return session
