"""Pages of targets and environments, and the bytes of logs, below ``/w/<workspace>/``."""

from django.urls import include, path

from compute import env_views, image_views, log_urls, registry_views, views

urlpatterns = [
    *log_urls.urlpatterns,
    path("", include("compute.log_urls")),
    path("compute/", views.target_list, name="target-list"),
    path("compute/attach/", views.target_attach, name="target-attach"),
    path("compute/<slug:name>/", views.target_detail, name="target-detail"),
    path("compute/<slug:name>/check/", views.target_check, name="target-check"),
    path("compute/<slug:name>/host-key/", views.target_host_key, name="target-host-key"),
    path("compute/<slug:name>/images/", image_views.image_list, name="target-images"),
    path("compute/<slug:name>/images/prune/", image_views.image_prune, name="target-image-prune"),
    path("compute/<slug:name>/edit/", views.target_edit, name="target-edit"),
    path("compute/<slug:name>/delete/", views.target_delete, name="target-delete"),
    path("settings/containers/", registry_views.container_settings, name="container-settings"),
    path("settings/containers/registries/", registry_views.registry_add, name="registry-add"),
    path("settings/containers/registries/<int:registry_id>/test/", registry_views.registry_test, name="registry-test"),
    path("settings/containers/registries/<int:registry_id>/push/", registry_views.registry_push, name="registry-push"),
    path(
        "settings/containers/registries/<int:registry_id>/remove/",
        registry_views.registry_remove,
        name="registry-remove",
    ),
    path("environments/", env_views.environment_list, name="environment-list"),
    path("environments/new/", env_views.environment_new, name="environment-new"),
    path("environments/check/", env_views.environment_check, name="environment-check"),
    path("environments/<str:name>/", env_views.environment_detail, name="environment-detail"),
    path("environments/<str:name>/<int:version>/", env_views.environment_detail, name="environment-version"),
    path("environments/<str:name>/<int:version>/prepare/", env_views.environment_prepare, name="environment-prepare"),
]
