"""atelier experiment, env, model, endpoint ..."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from atelier.cli.commands import environment_of
from atelier.cli.output import moment, pairs, show_fields, show_json, show_table, size
from atelier.cli.sessions import workspace_of
from atelier.environment import Environment
from atelier.exceptions import UserErrorException
from atelier.model import Model
from atelier.run import Run
from atelier.webservice import DeploymentConfiguration, Webservice

_ENDPOINT = [
    "name",
    "state",
    "model",
    "scoring_uri",
    "swagger_uri",
    "auth_enabled",
    "description",
    "tags",
    "error",
    "warnings",
    "restarts",
    "created_at",
    "url",
]


def experiment_list(arguments: argparse.Namespace) -> None:
    items = list(workspace_of(arguments)._list("experiments"))
    if arguments.json:
        return show_json(items)
    columns = [
        ("EXPERIMENT", lambda i: i["name"]),
        ("RUNS", lambda i: i["run_count"]),
        ("LAST RUN", lambda i: moment(i["last_run_at"])),
    ]
    return show_table(items, columns, "No experiments yet: the first submit makes one.")


def env_list(arguments: argparse.Namespace) -> None:
    items = list(workspace_of(arguments)._list("environments"))
    if arguments.json:
        return show_json(items)
    columns = [
        ("ENVIRONMENT", lambda i: i["name"]),
        ("VERSION", lambda i: i["version"]),
        ("KIND", lambda i: (i.get("recipe") or {}).get("kind")),
        ("DESCRIPTION", lambda i: i.get("description")),
    ]
    return show_table(items, columns, "No environments.")


def env_build(arguments: argparse.Namespace) -> None:
    workspace = workspace_of(arguments)
    environment = environment_of(arguments, workspace, arguments.name) or Environment.get(workspace, arguments.name)
    build = environment.build(workspace, arguments.target)
    build.wait_for_completion(show_output=not arguments.json)
    if arguments.json:
        show_json(build._build())


def model_list(arguments: argparse.Namespace) -> None:
    workspace = workspace_of(arguments)
    items = [model.serialize() for model in Model.list(workspace, arguments.name, latest=not arguments.name)]
    if arguments.json:
        return show_json(items)
    columns = [
        ("MODEL", lambda i: i["id"]),
        ("FRAMEWORK", lambda i: " ".join(filter(None, [i["framework"], i["framework_version"]]))),
        ("SIZE", lambda i: size(i["size"])),
        ("CREATED", lambda i: moment(i["created_at"])),
        ("RUN", lambda i: i["run_id"]),
    ]
    return show_table(
        items, columns, "No models. Register one: atelier model register NAME outputs/model.pkl --run RUN"
    )


def model_register(arguments: argparse.Namespace) -> None:
    workspace = workspace_of(arguments)
    described = {
        "description": arguments.description,
        "tags": pairs(arguments.tag),
        "model_framework": arguments.framework,
        "model_framework_version": arguments.framework_version,
    }
    if arguments.run:
        model = Run.get(workspace, arguments.run).register_model(arguments.name, arguments.path, **described)
    else:
        model = Model.register(workspace, arguments.path, arguments.name, **described)
    show_json(model.serialize()) if arguments.json else print(model.id)


def model_deploy(arguments: argparse.Namespace) -> None:
    workspace = workspace_of(arguments)
    service = Model.deploy(
        workspace,
        arguments.name,
        [Model(workspace, id=arguments.model)],
        deployment_config=DeploymentConfiguration(auth_enabled=not arguments.no_auth),
        deployment_target=arguments.target,
        overwrite=arguments.overwrite,
    )
    if not arguments.no_wait:
        service.wait_for_deployment()
    show_json(service.serialize()) if arguments.json else print(
        f"{service.name}  {service.state}  {service.scoring_uri}"
    )


def endpoint_list(arguments: argparse.Namespace) -> None:
    items = list(workspace_of(arguments)._list("endpoints"))
    if arguments.json:
        return show_json(items)
    columns = [
        ("ENDPOINT", lambda i: i["name"]),
        ("STATE", lambda i: i["state"]),
        ("MODEL", lambda i: i["model"]),
        ("SCORING ADDRESS", lambda i: i["scoring_uri"]),
    ]
    return show_table(items, columns, "No endpoints. Make one: atelier model deploy MODEL NAME")


def _service(arguments: argparse.Namespace) -> Webservice:
    return Webservice(workspace_of(arguments), arguments.name)


def endpoint_show(arguments: argparse.Namespace) -> None:
    data = _service(arguments).serialize()
    show_json(data) if arguments.json else show_fields(data, _ENDPOINT)


def endpoint_keys(arguments: argparse.Namespace) -> None:
    primary, secondary = _service(arguments).get_keys()
    if arguments.json:
        show_json({"primary": primary, "secondary": secondary})
    else:
        print(f"primary    {primary}\nsecondary  {secondary}")


def endpoint_logs(arguments: argparse.Namespace) -> None:
    text = _service(arguments).get_logs()
    show_json({"text": text}) if arguments.json else sys.stdout.write(text)


def endpoint_delete(arguments: argparse.Namespace) -> None:
    _service(arguments).delete()
    show_json({"deleted": arguments.name}) if arguments.json else print(f"{arguments.name} is deleted.")


def endpoint_test(arguments: argparse.Namespace) -> None:
    text = arguments.data
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    try:
        json.loads(text)
    except ValueError as error:
        raise UserErrorException(f"This is not JSON: {error}") from error
    show_json(_service(arguments).run(text))
