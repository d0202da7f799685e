"""Words and options of the Workbench of 2017: computetarget, experiment, runconfiguration, history."""

from __future__ import annotations

import argparse
from typing import Any

from atelier.cli import az, experiments, history, targets


def words(add: Any, top: Any, group: Any, experiment: Any) -> None:
    _targets(add, group("computetarget", "attach, test and detach compute targets"))
    _experiment(add, experiment)
    configurations = group("runconfiguration", "run configurations in aml_config")
    create = add(configurations, "create", experiments.runconfiguration_create, "write aml_config/NAME.runconfig")
    create.add_argument("--name", "-n", required=True)
    create.add_argument("--target", "-t", help="the compute target (one of the same name)")
    create.add_argument("--framework", default="Python", choices=["Python", "PySpark"])
    create.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an environment variable")
    create.add_argument("--force", action="store_true", help="write one anew that is there already")
    add(configurations, "list", experiments.runconfiguration_list, "those of this project")
    _history(add, group("history", "the runs of a project, wherever they ran"))
    install = add(top, "install-az", az.install, "put a command az beside atelier, for `az ml ...` as in 2017")
    install.add_argument("--remove", action="store_true", help="take it away again")


def _targets(add: Any, where: Any) -> None:
    attach = add(where, "attach", targets.attach, "attach a machine, and write aml_config/NAME.compute and .runconfig")
    attach.add_argument("kind", nargs="?", metavar="TYPE", help="as --type says it")
    attach.add_argument("--type", "-t", help=", ".join(targets.TYPES))
    attach.add_argument("--name", "-n", help="the name that runs call it by")
    attach.add_argument("--address", "-a", help="name or IP address of the machine (remotedocker)")
    attach.add_argument("--port", type=int, help="of its SSH (22)")
    attach.add_argument("--username", "-u")
    attach.add_argument("--password", "-p", help="asked for when neither it nor a key is given; - reads standard input")
    attach.add_argument("--private-key-file", metavar="FILE")
    attach.add_argument("--passphrase", help="of the private key")
    attach.add_argument("--host-key", metavar="SHA256:...", help="the host key that the machine is known to have")
    attach.add_argument("--yes", "-y", action="store_true", help="trust the host key that it shows, without asking")
    attach.add_argument("--folder", help="where runs lie on the machine")
    attach.add_argument("--cpus", help="processors of one run, at most")
    attach.add_argument("--memory", help="memory of one run, at most, such as 8g")
    attach.add_argument("--gpus", help="none, all, or how many a run gets")
    attach.add_argument("--shm-size", help="shared memory of a run, such as 2g")
    attach.add_argument("--pids", type=int, help="processes of one run, at most")
    attach.add_argument("--slots", type=int, help="runs at the same time")
    attach.add_argument(
        "--volume",
        action="append",
        default=[],
        metavar="/HERE:/THERE[:ro]",
        help="a folder of the machine (localdocker)",
    )
    attach.add_argument("--keep", action="store_true", help="attach it although it cannot be used yet")
    add(where, "list", targets.listed, "compute targets")
    for name, call, text in (
        ("show", targets.show, "one compute target"),
        ("test", targets.test, "look at everything that could be wrong with it"),
    ):
        add(where, name, call, text).add_argument("name")
    confirm = add(where, "confirm", targets.confirm, "trust the host key that a machine shows")
    confirm.add_argument("name")
    confirm.add_argument("--host-key", metavar="SHA256:...", help="the key that you compared; else it is asked for")
    detach = add(where, "detach", targets.detach, "take it out of the workspace; what ran there keeps its history")
    detach.add_argument("name")
    detach.add_argument("--cancel", action="store_true", help="end what runs there first")


def limits(made: Any) -> None:
    """What a run may ask of its container."""
    made.add_argument("--cpus", help="processors of the container")
    made.add_argument("--memory", help="memory of the container, such as 4g")
    made.add_argument("--gpus", help="none, all, or how many")
    made.add_argument("--shm-size", help="shared memory of the container, such as 2g")


def _configuration(made: Any) -> None:
    made.add_argument(
        "--run-configuration", "-c", metavar="NAME", help="a .runconfig of aml_config, or a compute target (local)"
    )
    made.add_argument("--target", "-t", metavar="NAME", help="another compute target than it says")


def _experiment(add: Any, where: Any) -> None:
    submit = add(
        where,
        "submit",
        experiments.submit,
        "run a script of this folder; what follows its name are the script's arguments",
    )
    _configuration(submit)
    submit.add_argument("script", nargs="?", help="its path in this folder")
    submit.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="arguments of the script")
    submit.add_argument("--experiment", "-e", help="its experiment (the name of the folder)")
    submit.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an environment variable")
    submit.add_argument("--tag", action="append", default=[], metavar="KEY[=VALUE]")
    submit.add_argument("--name", default="", help="a name to show")
    submit.add_argument("--wait", dest="wait", action="store_true", default=True, help="show the output (the default)")
    submit.add_argument("--no-wait", "--async", dest="wait", action="store_false", help="only submit")
    limits(submit)
    _configuration(add(where, "prepare", experiments.prepare, "build the environment before a run needs it"))


def _history(add: Any, where: Any) -> None:
    listed = add(where, "list", history.listed, "runs of this project, the newest first")
    listed.add_argument("--experiment", "-e")
    listed.add_argument("--all", action="store_true", help="of the whole workspace")
    listed.add_argument("--limit", "-n", type=int, default=20)
    info = add(where, "info", history.info, "one run, or a file of it")
    info.add_argument("run", nargs="?")
    info.add_argument("--run", "-r", dest="run_option", metavar="RUN", help="as the run itself says it")
    info.add_argument("--artifact", "-a", help="print this file of it")
    info.add_argument("--list-artifacts", action="store_true", help="the names of its files")
    compare = add(where, "compare", history.compare, "runs side by side; what differs has a star")
    compare.add_argument("runs", nargs="*", metavar="run")
    compare.add_argument("--run1", metavar="RUN", help="as the runs themselves say it")
    compare.add_argument("--run2", metavar="RUN")
    compare.add_argument("--differing", "-d", action="store_true", help="only what differs")
    download = add(where, "download", history.download, "bring files of a run here")
    download.add_argument("run", nargs="?")
    download.add_argument("prefix", nargs="?", default="outputs/", help="a file, or the beginning of paths (outputs/)")
    download.add_argument("--run", "-r", dest="run_option", metavar="RUN", help="as the run itself says it")
    download.add_argument("--artifact", "-a", help="as the prefix says it")
    download.add_argument("--to", "-d", default=".", help="the folder to put them into")
