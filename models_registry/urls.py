"""Pages of models and endpoints, below ``/w/<workspace>/``."""

from django.urls import path

from models_registry.views import endpoints, models

urlpatterns = [
    path("models/", models.model_list, name="model-list"),
    path("models/register/", models.model_register, name="model-register"),
    path("models/register/version/", models.framework_version, name="model-framework-version"),
    path("models/upload/", models.model_upload, name="model-upload"),
    path("models/<str:name>/", models.model_detail, name="model-detail"),
    path("models/<str:name>/archive/", models.model_archive, name="model-archive"),
    path("models/<str:name>/<int:version>/", models.model_version, name="model-version"),
    path("models/<str:name>/<int:version>/edit/", models.version_edit, name="model-edit"),
    path("models/<str:name>/<int:version>/delete/", models.version_delete, name="model-delete"),
    path("models/<str:name>/<int:version>/zip/", models.version_zip, name="model-zip"),
    path("models/<str:name>/<int:version>/files/<file:path>", models.version_file, name="model-file"),
    path("endpoints/", endpoints.endpoint_list, name="endpoint-list"),
    path("endpoints/deploy/", endpoints.endpoint_deploy, name="endpoint-deploy"),
    path("endpoints/<slug:name>/", endpoints.endpoint_detail, name="endpoint-detail"),
    path("endpoints/<slug:name>/test/", endpoints.endpoint_test, name="endpoint-test"),
    path("endpoints/<slug:name>/swagger/", endpoints.endpoint_swagger, name="endpoint-swagger"),
    path("endpoints/<slug:name>/logs/", endpoints.endpoint_logs, name="endpoint-logs"),
    path("endpoints/<slug:name>/keys/", endpoints.endpoint_keys, name="endpoint-keys"),
    path("endpoints/<slug:name>/stop/", endpoints.endpoint_stop, name="endpoint-stop"),
    path("endpoints/<slug:name>/start/", endpoints.endpoint_start, name="endpoint-start"),
    path("endpoints/<slug:name>/delete/", endpoints.endpoint_delete, name="endpoint-delete"),
]
