"""Putting a model version behind an endpoint, as a unit of the service kind."""

from __future__ import annotations

import errno
import json
import re
import socket
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _

from compute import states
from compute.models import Environment, Target, Unit, UnitKind
from compute.publish import publish
from compute.services import ensure_curated, ensure_local_target, unit_cancel, unit_create
from models_registry import serving
from models_registry.models import Deployment, Endpoint, ModelVersion
from models_registry.services import keys as endpoint_keys
from models_registry.services.registration import check_labels, detect_framework_version
from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.lib import env, storage
from studio.lib.errors import Conflict, Invalid
from studio.lib.names import clean_text

NAME = re.compile(r"[a-z][a-z0-9-]{1,62}[a-z0-9]")
RESERVED = {"deploy"}  # words that the addresses of the pages use themselves
NO_CODE = {"ScikitLearn"}
MODEL_SUFFIXES = (".joblib", ".pkl", ".pickle", ".sav")
PREFERRED = ("model.joblib", "model.pkl", "sklearn_model.pkl")
SERVING = Path(serving.__file__).parent
GRACE_S = 10.0
DEFAULT_ENVIRONMENT = "AzureML-Tutorial"


def check_name(name: str) -> str:
    name = (name or "").strip()
    if not NAME.fullmatch(name) or name in RESERVED:
        raise Invalid(
            _("%(name)r is not an endpoint name: use 3 to 64 lower-case letters, digits and hyphens, a letter first.")
            % {"name": name[:70]},
            field="name",
        )
    return name


def model_file(version: ModelVersion) -> str:
    """The file that a deployment without code opens. Raises Invalid with what stands against it, and the way out."""
    if version.framework not in NO_CODE:
        if not version.framework:
            said = _(
                "%(version)s was registered without a framework. "
                "Set it to ScikitLearn on the version's page, if that is what it is."
            )
        else:
            said = _(
                "A deployment without code serves scikit-learn models; %(version)s is registered as %(framework)s."
            )
        raise Invalid(said % {"version": version, "framework": version.framework}, field="version")
    names = [file["path"] for file in version.files]
    found = [name for name in names if name.lower().endswith(MODEL_SUFFIXES)]
    preferred = [name for wanted in PREFERRED for name in found if name.rpartition("/")[2] == wanted]
    if len(found) == 1 or preferred:
        return (preferred or found)[0]
    if not found and len(names) == 1:
        return names[0]
    if not found:
        said = _("%(version)s has no file that ends in .joblib or .pkl, so there is nothing to open.")
    else:
        said = _("%(version)s has several model files (%(names)s). Name the one to serve model.joblib or model.pkl.")
    raise Invalid(said % {"version": version, "names": ", ".join(found[:5])}, field="version")


def serving_environment(version: ModelVersion) -> Environment:
    """Where the model was trained, else the environment of its registration, else the curated one with scikit-learn."""
    if version.environment is not None:
        return version.environment
    workspace = version.model.workspace
    found = Environment.objects.filter(workspace=workspace, name=DEFAULT_ENVIRONMENT).order_by("-version").first()
    return found or next(made for made in ensure_curated(workspace) if made.name == DEFAULT_ENVIRONMENT)


def version_warnings(version: ModelVersion, environment: Environment) -> list[str]:
    """What to say before deploying: the scikit-learn of the environment is not the one that the model names."""
    return version_difference(version, environment, detect_framework_version(environment, version.framework))


def version_difference(version: ModelVersion, environment: Environment, here: str) -> list[str]:
    """The sentence about two different versions of scikit-learn; nothing where one of them is not known."""
    wanted = version.framework_version
    if here and wanted and here != wanted:
        return [
            _("The model is registered with scikit-learn %(wanted)s; its environment %(environment)s has %(here)s.")
            % {"wanted": wanted, "environment": environment, "here": here}
        ]
    return []


def _ports() -> range:
    raw = str(settings.ATELIER_SERVICE_PORTS)
    first, _dash, last = raw.partition("-")
    try:
        ports = range(int(first), int(last or first) + 1)
    except ValueError:
        ports = range(0)
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise env.ConfigurationError(f"ATELIER_SERVICE_PORTS={raw!r} is not a range like 8750-8849.")
    return ports


def _free(port: int) -> bool:
    host = str(settings.ATELIER_SERVICE_HOST)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EACCES):
                raise Conflict(
                    _(
                        "Services cannot listen on %(host)s:%(port)d: %(why)s. "
                        "Look at ATELIER_SERVICE_HOST and ATELIER_SERVICE_PORTS."
                    )
                    % {"host": host, "port": port, "why": error.strerror}
                ) from None
            return False
    return True


def _assign_port(endpoint: Endpoint) -> None:
    """Give the endpoint a port of its own for good: the lowest that no endpoint has and nobody listens on."""
    taken = set(Endpoint.objects.exclude(port=None).values_list("port", flat=True))
    for port in _ports():
        if port in taken or not _free(port):
            continue
        try:
            with transaction.atomic():
                Endpoint.objects.filter(pk=endpoint.pk).update(port=port)
        except IntegrityError:  # another endpoint took it in this moment
            continue
        endpoint.port = port
        return
    raise Conflict(
        _("All ports for services (%(ports)s) are taken. Delete an endpoint, or widen ATELIER_SERVICE_PORTS.")
        % {"ports": settings.ATELIER_SERVICE_PORTS}
    )


def _endpoint(
    workspace: Workspace, user: User, name: str, auth_enabled: bool, overwrite: bool, columns: dict[str, Any]
) -> Endpoint:
    endpoint = Endpoint.objects.filter(workspace=workspace, name=name).first()
    if endpoint is None:
        endpoint = Endpoint.objects.create(
            workspace=workspace,
            name=name,
            auth_enabled=auth_enabled,
            keys=endpoint_keys.new_keys(),
            created_by=user,
            **columns,
        )
    elif endpoint.deployments.exists() and not overwrite:
        raise Conflict(
            _("There is an endpoint %(name)s already. Choose another name, or deploy with overwrite.") % {"name": name},
            field="name",
        )
    else:
        endpoint.auth_enabled = auth_enabled
        for column, value in columns.items():
            if value:
                setattr(endpoint, column, value)
        endpoint.save()
    if endpoint.port is None:
        _assign_port(endpoint)
    return endpoint


@transaction.atomic
def deploy(
    *,
    workspace: Workspace,
    user: User,
    name: str,
    version: ModelVersion,
    target: Target | None = None,
    auth_enabled: bool = True,
    overwrite: bool = False,
    description: str = "",
    tags: dict[str, Any] | str | None = None,
    environment: Environment | None = None,
    request: HttpRequest | None = None,
) -> Deployment:
    """Serve a version at the endpoint ``name``: made when it is new, given the other version with ``overwrite``.

    Raises Invalid where the version cannot be served without code, Conflict for a taken name or no free port.
    """
    name = check_name(name)
    if version.model.workspace_id != workspace.pk:
        raise Invalid(_("The model belongs to another workspace."), field="version")
    model_file(version)
    target = target or ensure_local_target(workspace)
    if target.driver != "local":
        raise Invalid(_("A deployment without code runs on this machine: choose the target local."), field="target")
    if environment is not None and version.environment_id is None:
        version.environment = environment
        version.save(update_fields=["environment"])
    columns = {"description": clean_text(description or "", field="description"), "tags": check_labels(tags, "tags")}
    endpoint = _endpoint(workspace, user, name, auth_enabled, overwrite, columns)
    deployment = Deployment.objects.filter(endpoint=endpoint).select_related("unit").first()
    old = deployment.unit if deployment else None
    deployment = deployment or Deployment(endpoint=endpoint)
    deployment.version, deployment.target, deployment.desired = version, target, "running"
    deployment.restarts, deployment.health = 0, {}
    deployment.warnings = version_warnings(version, serving_environment(version))
    start_unit(deployment)
    if old is not None:
        unit_cancel(old)
    audit(
        user, "endpoint.deploy", workspace=workspace, object=endpoint,
        detail={"model": str(version), "port": endpoint.port}, request=request,
    )  # fmt: skip
    return deployment


def start_unit(deployment: Deployment) -> Unit:
    """A new unit for the deployment at the endpoint's own port. Inside a transaction of the caller."""
    endpoint, version = deployment.endpoint, deployment.version
    environment = serving_environment(version)
    unit, _token = unit_create(
        workspace=endpoint.workspace,
        target=deployment.target or ensure_local_target(endpoint.workspace),
        kind=UnitKind.SERVICE,
        spec=_spec(endpoint, version),
        secrets={"ATELIER_KEY_DIGESTS": ",".join(endpoint_keys.digests(endpoint))},
        label=f"{endpoint.name} ({version})",
        environment=environment,
        time_limit_s=None,
    )
    deployment.unit, deployment.state, deployment.error, deployment.next_start_at = unit, "Transitioning", None, None
    deployment.save()
    return unit


def _spec(endpoint: Endpoint, version: ModelVersion) -> dict[str, Any]:
    root = storage.model_directory(version.key)
    code = [
        {"path": f"model/{file['path']}", "source": str(root / file["path"]), "mode": 0o444} for file in version.files
    ]
    code += [
        {"path": f"serving/{path.name}", "source": str(path), "mode": 0o444} for path in sorted(SERVING.glob("*.py"))
    ]
    argv = [
        "{python}", "-m", "serving.server", "--model", f"model/{model_file(version)}",
        "--host", str(settings.ATELIER_SERVICE_HOST), "--port", str(endpoint.port), "--name", endpoint.name,
        "--version", str(version), "--auth", "key" if endpoint.auth_enabled else "none",
        "--keys", "{unit}/" + endpoint_keys.FILE,
    ]  # fmt: skip
    variables = {"AZUREML_MODEL_DIR": "model"}
    # One thread per library: the service's own batches keep the processor busy, and more threads only fight over it.
    variables.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    if version.sample_input is not None:
        variables["ATELIER_SAMPLE_INPUT"] = json.dumps(version.sample_input)[:65536]
    return {"argv": argv, "env": variables, "code": code, "restart": "always", "grace_s": GRACE_S}


@transaction.atomic
def endpoint_stop(endpoint: Endpoint, *, user: User, request: HttpRequest | None = None) -> None:
    """End the service; the endpoint keeps its name, port and keys."""
    for deployment in endpoint.deployments.select_related("unit"):
        deployment.desired, deployment.state, deployment.error, deployment.next_start_at = (
            "stopped",
            "Stopped",
            None,
            None,
        )
        deployment.save()
        if deployment.unit is not None:
            unit_cancel(deployment.unit)
    audit(user, "endpoint.stop", workspace=endpoint.workspace, object=endpoint, request=request)


@transaction.atomic
def endpoint_start(endpoint: Endpoint, *, user: User, request: HttpRequest | None = None) -> None:
    """Serve again; a service that runs goes on as it is."""
    for deployment in endpoint.deployments.select_related(
        "unit", "version__model__workspace", "endpoint__workspace", "target"
    ):
        deployment.desired, deployment.restarts = "running", 0
        unit = deployment.unit
        if unit is None or unit.state in states.TERMINAL or unit.cancel_requested_at is not None:
            start_unit(deployment)
        else:
            deployment.save()
    audit(user, "endpoint.start", workspace=endpoint.workspace, object=endpoint, request=request)
    publish("models_registry.health")


@transaction.atomic
def endpoint_delete(endpoint: Endpoint, *, user: User, request: HttpRequest | None = None) -> None:
    """End the service and remove the endpoint with its keys; its port is free for others. The unit's log stays."""
    units = [
        deployment.unit for deployment in endpoint.deployments.select_related("unit") if deployment.unit is not None
    ]
    audit(user, "endpoint.delete", workspace=endpoint.workspace, object=endpoint, request=request)
    endpoint.delete()
    for unit in units:
        unit_cancel(unit)
