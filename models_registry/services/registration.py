"""Registering a model: from a run's files, or from files that somebody sent."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _

from compute.models import Environment, EnvironmentBuild
from models_registry.models import ModelVersion, RegisteredModel
from models_registry.services import files as model_files
from runs.models import Run
from runs.services import artifacts
from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid
from studio.lib.names import clean_json, clean_name, clean_text

RESERVED = {"register", "upload"}  # words that the addresses of the pages use themselves
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
# Model.Framework of the v1 names, with the package whose version counts.
FRAMEWORKS = {
    "ScikitLearn": "scikit-learn",
    "Onnx": "onnx",
    "TensorFlow": "tensorflow",
    "PyTorch": "torch",
    "XGBoost": "xgboost",
    "LightGBM": "lightgbm",
    "Custom": "",
}
_RESOURCES = {"cpu": "cpu", "memory_in_gb": "memory_in_gb", "memoryInGB": "memory_in_gb", "gpu": "gpu"}


def check_name(name: str) -> str:
    name = (name or "").strip()
    if not NAME.fullmatch(name) or name in RESERVED:
        raise Invalid(
            _("%(name)r is not a model name: use up to 255 letters, digits, dots, hyphens and underscores, "
              "a letter or digit first.") % {"name": name[:60]},
            field="name",
        )  # fmt: skip
    return name


def check_framework(framework: str | None) -> str:
    """The framework in its own spelling; raises Invalid with the list of known ones."""
    wanted = (framework or "").strip()
    if not wanted:
        return ""
    plain = wanted.lower().replace("-", "").replace("_", "").replace(" ", "")
    for known in FRAMEWORKS:
        if plain in (known.lower(), FRAMEWORKS[known].replace("-", "")):
            return known
    raise Invalid(
        _("%(framework)r is not a known framework. Known are: %(known)s.")
        % {"framework": wanted[:60], "known": ", ".join(FRAMEWORKS)},
        field="framework",
    )


def check_framework_version(raw: Any) -> str:
    return clean_name(str(raw or ""), field="framework_version")[:64]


def check_resources(raw: Any) -> dict[str, float]:
    """{"cpu", "memory_in_gb", "gpu"} with numbers above zero; raises Invalid."""
    if not raw:
        return {}
    if not isinstance(raw, dict):
        raise Invalid(
            _('The resource configuration is an object like {"cpu": 1, "memory_in_gb": 0.5}.'),
            field="resource_configuration",
        )
    out = {}
    for name, value in raw.items():
        if value in (None, ""):
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if name not in _RESOURCES or not 0 < number < 1e6:
            raise Invalid(
                _("%(name)s=%(value)r is not usable: cpu, memory_in_gb and gpu are numbers above zero.")
                % {"name": str(name)[:40], "value": value},
                field="resource_configuration",
            )
        out[_RESOURCES[name]] = number
    return out


def check_labels(raw: Any, field: str) -> dict[str, Any]:
    """Tags or properties as an object; a plain string is a tag without a value, as in v1."""
    if not raw:
        return {}
    if isinstance(raw, str):
        raw = {raw: None}
    if not isinstance(raw, dict) or not all(isinstance(key, str) and 0 < len(key) <= 255 for key in raw):
        raise Invalid(_("Tags and properties are an object of names and values."), field=field)
    return {
        clean_name(key, field=field): value if value is None else clean_text(str(value), field=field)
        for key, value in raw.items()
    }


def packages_of(environment: Environment | None) -> dict[str, str]:
    """Installed packages by normalised name, of any ready build of the environment; empty when there is none."""
    if environment is None:
        return {}
    builds = EnvironmentBuild.objects.filter(
        content_hash=environment.content_hash, state="ready", target__workspace=environment.workspace_id
    )
    for build in builds:
        raw = build.detail.get("packages") or []
        pairs = raw.items() if isinstance(raw, dict) else (_pair(entry) for entry in raw)
        found = {str(name).lower().replace("_", "-"): str(version) for name, version in pairs if name}
        if found:
            return found
    return {}


def _pair(entry: Any) -> tuple[str, str]:
    if isinstance(entry, dict):
        return str(entry.get("name", "")), str(entry.get("version", ""))
    if isinstance(entry, (list, tuple)) and len(entry) >= 2:
        return str(entry[0]), str(entry[1])
    name, _sep, version = str(entry).partition("==")
    return name, version


def detect_framework_version(environment: Environment | None, framework: str) -> str:
    """The version of the framework's package in the environment; empty when it is not known."""
    package = FRAMEWORKS.get(framework, "")
    return packages_of(environment).get(package, "") if package else ""


def model_register(
    *,
    workspace: Workspace,
    user: User,
    name: str,
    run: Run | None = None,
    path: str | None = None,
    files: Iterable[tuple[str, IO[bytes]]] | None = None,
    description: str = "",
    tags: dict[str, Any] | str | None = None,
    properties: dict[str, Any] | None = None,
    framework: str | None = "",
    framework_version: str | None = "",
    resource_configuration: dict[str, Any] | None = None,
    sample_input: Any = None,
    environment: Environment | None = None,
    request: HttpRequest | None = None,
) -> ModelVersion:
    """The next version of the model ``name``, from ``path`` of ``run`` or from ``files`` [(path, stream)].

    Reads and copies the files (streamed) before any row is written. Raises Invalid for unusable values, NotFound where
    the run has no such file.
    """
    name = check_name(name)
    framework = check_framework(framework)
    columns: dict[str, Any] = {
        "description": clean_text(description or "", field="description"),
        "tags": check_labels(tags, "tags"),
        "properties": check_labels(properties, "properties"),
        "framework": framework,
        "resource_configuration": check_resources(resource_configuration),
        "sample_input": clean_json(sample_input, field="sample_input"),
        "run": run,
        "environment": environment or (run.environment if run else None),
        "created_by": user,
    }
    columns["framework_version"] = check_framework_version(framework_version) or detect_framework_version(
        columns["environment"], framework
    )
    sources, columns["source_path"] = _sources(workspace, name, run, path, files)
    key = uuid.uuid4().hex
    columns["files"] = model_files.store(key, sources)
    columns["size"] = sum(file["size"] for file in columns["files"])
    try:
        return _write(workspace, user, name, key, columns, request)
    except BaseException:
        model_files.discard(key)
        raise


def _sources(
    workspace: Workspace, name: str, run: Run | None, path: str | None, files: Iterable[tuple[str, IO[bytes]]] | None
) -> tuple[Iterable[tuple[str, Path | IO[bytes]]], str]:
    if files is not None:
        return files, ""
    if run is None:
        raise Invalid(_("Give a run with a path of its files, or upload files."), field="run_id")
    if run.workspace_id != workspace.pk:
        raise Invalid(_("The run belongs to another workspace."), field="run_id")
    # Without a path v1 takes the file of the outputs that has the model's name.
    wanted = (path or f"outputs/{name}").strip().removeprefix("./")
    found = artifacts.find_model_file(run, wanted)
    return model_files.gather(found, inside=storage.unit_directory(run.key)), wanted[:1000]


@transaction.atomic
def _write(
    workspace: Workspace, user: User, name: str, key: str, columns: dict[str, Any], request: HttpRequest | None
) -> ModelVersion:
    model, made = _model(workspace, name)
    number = next_number(model)
    if made and columns["description"]:
        RegisteredModel.objects.filter(pk=model.pk).update(description=columns["description"])
    version = ModelVersion.objects.create(model=model, version=number, key=key, **columns)
    audit(user, "model.register", workspace=workspace, object=version, label=f"{name}:{number}", request=request)
    return version


def _model(workspace: Workspace, name: str) -> tuple[RegisteredModel, bool]:
    try:
        with transaction.atomic():
            return RegisteredModel.objects.get_or_create(workspace=workspace, name=name)
    except IntegrityError:  # somebody registered the first version in this moment
        return RegisteredModel.objects.get(workspace=workspace, name=name), False


def next_number(model: RegisteredModel) -> int:
    """The next version's number, given to nobody else: one conditional UPDATE, and again when somebody was first."""
    for _attempt in range(100):
        model.refresh_from_db(fields=["latest"])
        changed = RegisteredModel.objects.filter(pk=model.pk, latest=model.latest).update(
            latest=model.latest + 1, archived_at=None
        )
        if changed:
            return model.latest + 1
    raise Conflict(_("Many versions of %(name)s are being registered right now. Try again.") % {"name": model.name})
