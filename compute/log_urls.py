"""Addresses of logs, below ``/w/<workspace>/``."""

from django.urls import path
from django.urls.resolvers import URLPattern

from compute import log_views

urlpatterns: list[URLPattern] = [
    path("units/<str:key>/log/", log_views.log_bytes, name="unit-log"),
    path("units/<str:key>/log/search/", log_views.log_search, name="unit-log-search"),
    path("units/<str:key>/log/line/", log_views.log_offset, name="unit-log-offset"),
    path("units/<str:key>/log/line/<int:line>/", log_views.log_line, name="unit-log-line"),
]
