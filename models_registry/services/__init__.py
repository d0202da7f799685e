"""What others may ask of the registry: registering models, deploying them, keys and scoring."""

from models_registry.services.deploying import deploy, endpoint_delete, endpoint_start, endpoint_stop
from models_registry.services.health import health_check, health_tick
from models_registry.services.keys import key_rotate, keys
from models_registry.services.registration import FRAMEWORKS, detect_framework_version, model_register
from models_registry.services.scoring import describe, sample_body, score, swagger
from models_registry.services.versions import (
    DeletePreview,
    model_archive,
    model_update,
    remove_orphans,
    version_delete,
    version_delete_preview,
    version_update,
    version_zip,
)

__all__ = [
    "FRAMEWORKS",
    "DeletePreview",
    "deploy",
    "describe",
    "detect_framework_version",
    "endpoint_delete",
    "endpoint_start",
    "endpoint_stop",
    "health_check",
    "health_tick",
    "key_rotate",
    "keys",
    "model_archive",
    "model_register",
    "model_update",
    "remove_orphans",
    "sample_body",
    "score",
    "swagger",
    "version_delete",
    "version_delete_preview",
    "version_update",
    "version_zip",
]
