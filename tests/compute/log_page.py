"""A page with the log view alone, for the browser."""

from __future__ import annotations

from django.http import HttpResponse
from django.template import engines
from django.urls import path

from compute.models import Unit
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.urls import urlpatterns as studio_urls

PAGE = """{% extends "studio/base.html" %}
{% block head %}{% include "compute/parts/log_head.html" %}{% endblock %}
{% block page_title %}Log{% endblock %}
{% block content %}{% include "compute/parts/log_view.html" %}{% endblock %}"""


@workspace_page()
def log_page(request: WorkspaceRequest, key: str) -> HttpResponse:
    unit = Unit.objects.get(workspace=request.workspace, key=key)
    page = engines["django"].from_string(PAGE)
    return HttpResponse(page.render({"unit": unit, "workspace": request.workspace}, request))


urlpatterns = [path("w/<slug:workspace>/log-page/<str:key>/", log_page), *studio_urls]
