"""HTTP to Django, websockets to the consumers."""

import os
from typing import Any

from studio.lib.flow import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")
django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402 - settings come first
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - settings come first
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402 - settings come first

from compute.consumers import bearer  # noqa: E402 - settings come first
from compute.routing import websocket_urlpatterns  # noqa: E402 - settings come first

routes = URLRouter(websocket_urlpatterns)
browsers = AllowedHostsOriginValidator(AuthMiddlewareStack(routes))


async def websockets(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Scripts bring a bearer token and no Origin; everybody else must come from a page of this studio.

    With a token the session cookie is not looked at, so a page elsewhere cannot borrow a signed-in browser.
    """
    scripted = bearer(scope) is not None and not any(name == b"origin" for name, _value in scope["headers"])
    await (routes if scripted else browsers)(scope, receive, send)


application = ProtocolTypeRouter({"http": django_application, "websocket": websockets})
