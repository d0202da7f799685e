"""Websocket addresses of ``compute``."""

from django.urls import path
from django.urls.resolvers import URLPattern

from compute.consumers import LogConsumer

websocket_urlpatterns: list[URLPattern] = [
    path("ws/w/<slug:workspace>/logs/<str:unit_key>/", LogConsumer.as_asgi()),  # type: ignore[arg-type]  # an ASGI app
]
