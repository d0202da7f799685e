"""Words and options of the command line."""

from __future__ import annotations

import argparse
from typing import Any, Callable

from atelier._version import VERSION
from atelier.cli import commands, data, registry, sessions, workbench


def build() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    common.add_argument(
        "--workspace", "-w", help="name of the workspace (else that of config.json, or of `workspace use`)"
    )
    common.add_argument("--endpoint", help="address of the studio")
    parser = argparse.ArgumentParser(prog="atelier", description="Work with an Atelier studio.")
    parser.add_argument("--version", action="version", version=f"atelier {VERSION}")
    words = parser.add_subparsers(metavar="COMMAND", required=True)

    def group(name: str, text: str) -> Any:
        return words.add_parser(name, help=text, description=text).add_subparsers(metavar="COMMAND", required=True)

    def add(where: Any, name: str, call: Callable[..., Any], text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = where.add_parser(name, parents=[common], help=text, description=text)
        made.set_defaults(call=call)
        return made

    _sessions(add, words, group)
    _runs(add, group("run", "submit and watch runs"))
    experiment = group("experiment", "experiments, and the runs of a project folder")
    _registry(add, group, experiment)
    workbench.words(add, words, group, experiment)
    data.words(add, group)
    return parser


def _sessions(add: Any, words: Any, group: Any) -> None:
    login = add(words, "login", sessions.login, "keep a token for a studio")
    login.add_argument("username", nargs="?", help="for whom the token is asked")
    login.add_argument("--token", help="a token from the studio's page; asked for when it is not given")
    add(words, "token", sessions.token, "print the token that is in use")
    add(words, "version", sessions.version, "print the version of the client")
    workspace = group("workspace", "choose a workspace")
    add(workspace, "list", sessions.workspace_list, "workspaces that you see")
    add(workspace, "show", sessions.workspace_show, "the workspace that commands work in here")
    use = add(workspace, "use", sessions.workspace_use, "work in a workspace from now on")
    use.add_argument("name")
    use.add_argument("--write-config", action="store_true", help="also write .azureml/config.json here")


def _runs(add: Any, run: Any) -> None:
    submit = add(
        run,
        "submit",
        commands.run_submit,
        "send a folder and run a script of it; what follows -- are the script's arguments",
    )
    submit.add_argument("script", help="path of the script in the folder")
    submit.add_argument("--source", default=".", help="the folder (the working folder)")
    submit.add_argument("--experiment", "-e", help="its experiment (the name of the folder)")
    submit.add_argument("--target", "-t", default="local")
    submit.add_argument("--env", help="a registered environment: name or name:version")
    submit.add_argument("--conda", help="a conda file")
    submit.add_argument("--requirements", "-r", help="a requirements.txt")
    submit.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an environment variable")
    submit.add_argument("--tag", action="append", default=[], metavar="KEY[=VALUE]")
    submit.add_argument("--name", default="", help="a name to show")
    submit.add_argument("--time-limit", type=int, metavar="SECONDS")
    workbench.limits(submit)
    submit.add_argument("--follow", "-f", action="store_true", help="show the output until the end")
    submit.add_argument("--wait", action="store_true", help="wait for the end")
    listed = add(run, "list", commands.run_list, "runs, the newest first")
    listed.add_argument("--experiment", "-e")
    listed.add_argument("--status", "-s")
    listed.add_argument("--search")
    listed.add_argument("--sort", help="such as -created, metric:loss, -metric:accuracy")
    listed.add_argument("--limit", "-n", type=int, default=20)
    for name, call, text in (
        ("show", commands.run_show, "one run"),
        ("metrics", commands.run_metrics, "the metrics of a run"),
        ("archive", commands.run_archive, "take a run off the lists"),
    ):
        add(run, name, call, text).add_argument("run")
    logs = add(run, "logs", commands.run_logs, "the output of a run")
    logs.add_argument("run")
    logs.add_argument("--follow", "-f", action="store_true", help="until the run ends")
    logs.add_argument("--from", dest="start", type=int, default=0, metavar="BYTE", help="begin at this byte")
    cancel = add(run, "cancel", commands.run_cancel, "ask a run to end")
    cancel.add_argument("run")
    cancel.add_argument("--force", action="store_true", help="without a grace")
    download = add(run, "download", commands.run_download, "bring files of a run here")
    download.add_argument("run")
    download.add_argument("prefix", nargs="?", default="outputs/", help="a file, or the beginning of paths (outputs/)")
    download.add_argument("--to", default=".", help="the folder to put them into")
    delete = add(run, "delete", commands.run_delete, "delete runs with their files")
    delete.add_argument("runs", nargs="+", metavar="run")
    delete.add_argument("--yes", "-y", action="store_true", help="do not ask")


def _registry(add: Any, group: Any, experiment: Any) -> None:
    add(experiment, "list", registry.experiment_list, "experiments")
    env = group("env", "environments")
    add(env, "list", registry.env_list, "environments")
    build_ = add(env, "build", registry.env_build, "build an environment before a run needs it")
    build_.add_argument("name", help="a registered name, or the name to register a recipe under")
    build_.add_argument("--conda", help="a conda file")
    build_.add_argument("--requirements", "-r", help="a requirements.txt")
    build_.add_argument("--target", "-t", default="local")
    model = group("model", "models")
    listed = add(model, "list", registry.model_list, "models, or the versions of one")
    listed.add_argument("name", nargs="?")
    register = add(model, "register", registry.model_register, "register a file of a run, or of this machine")
    register.add_argument("name")
    register.add_argument("path", help="with --run a path among the run's files")
    register.add_argument("--run", help="id of the run")
    register.add_argument("--framework")
    register.add_argument("--framework-version")
    register.add_argument("--description", default="")
    register.add_argument("--tag", action="append", default=[], metavar="KEY[=VALUE]")
    deploy = add(model, "deploy", registry.model_deploy, "serve a model without code")
    deploy.add_argument("model", help="name or name:version")
    deploy.add_argument("name", help="name of the endpoint")
    deploy.add_argument("--target", "-t")
    deploy.add_argument("--no-auth", action="store_true", help="answer callers without a key")
    deploy.add_argument("--overwrite", action="store_true", help="put it behind an endpoint that exists")
    deploy.add_argument("--no-wait", action="store_true")
    endpoint = group("endpoint", "services")
    add(endpoint, "list", registry.endpoint_list, "endpoints")
    for name, call, text in (
        ("show", registry.endpoint_show, "one endpoint"),
        ("keys", registry.endpoint_keys, "its keys"),
        ("logs", registry.endpoint_logs, "what it wrote last"),
        ("delete", registry.endpoint_delete, "stop and delete it"),
    ):
        add(endpoint, name, call, text).add_argument("name")
    test = add(endpoint, "test", registry.endpoint_test, "send it data")
    test.add_argument("name")
    test.add_argument("data", help="JSON, or @file, or - for standard input")
