"""Every address of the studio. Pages of a workspace lie under ``/w/<workspace>/``."""

from django.urls import include, path

from studio import views

urlpatterns = [
    path("", views.index, name="index"),
    path("healthz", views.healthz, name="healthz"),
    path("account/", include("allauth.urls")),
    path("", include("studio.accounts.urls")),
    path("w/<slug:workspace>/", views.home, name="home"),
    path("w/<slug:workspace>/", include("runs.urls")),
    path("w/<slug:workspace>/", include("compute.urls")),
    path("w/<slug:workspace>/", include("models_registry.urls")),
    path("w/<slug:workspace>/", include("studio.data_pages.urls")),
    path("w/<slug:workspace>/", include("studio.data_pages.datastore_urls")),
    path("api/v1/", include("studio.api.urls")),
    path("client/", include("studio.api.client_urls")),
]
