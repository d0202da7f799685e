"""The name ``az`` for people who type it from habit: ``az ml ...``, ``az login`` and ``az account`` by Atelier. It is
installed only by ``atelier install-az``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Sequence

from atelier.exceptions import UserErrorException

_MARK = "Made by `atelier install-az`; `atelier install-az --remove` takes it away."
_HELP = f"""az, as Atelier answers to it. {_MARK}

    az login                        keep a token for a studio
    az account list | set -s NAME | show
                                    workspaces: those that you see, the one to work in, the one in use
    az ml experiment submit -c docker myscript.py
    az ml ...                       as `atelier ...`

`atelier --help` has every command."""


def _output(words: list[str]) -> list[str]:
    """``-o json`` and ``--output json`` of az as ``--json``; other forms are what is printed anyway."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("-o", "--output"):
            if next(rest, "") in ("json", "jsonc"):
                found.append("--json")
        elif word.endswith(".py"):
            return [*found, word, *rest]  # what follows a script is its own
        else:
            found.append(word)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    from atelier.cli import main as atelier

    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in ([], ["-h"], ["--help"], ["help"]):
        print(_HELP)
        return 0
    if words[0] in ("--version", "version", "-v"):
        return atelier(["version"])
    if words[0] == "login":
        return atelier(["login", *_output(_without(words[1:], {"-u": True, "--use-device-code": False}))])
    if words[0] == "account":
        return _account(words[1:])
    if words[0] == "ml":
        return atelier(_output(words[1:]))
    print(f"az: this is Atelier's az, and it has no {words[0]!r}: it knows ml, login and account.", file=sys.stderr)
    return 2


def _without(words: list[str], options: dict[str, bool]) -> list[str]:
    """Without options that mean nothing here; the user name after -u is kept."""
    return [word for word in words if word not in options]


def _account(words: list[str]) -> int:
    from atelier.cli import main as atelier

    verb, rest = (words[0] if words else ""), _output(words[1:])
    if verb == "list":
        return atelier(["workspace", "list", *rest])
    if verb == "show":
        return atelier(["workspace", "show", *rest])
    if verb == "set":
        parser = argparse.ArgumentParser(prog="az account set")
        parser.add_argument("-s", "--subscription", "-n", "--name", dest="name", required=True)
        found, more = parser.parse_known_args(rest)
        return atelier(["workspace", "use", _workspace(found.name), *more])
    print("az account: list, set -s NAME, or show. A workspace is what a subscription was.", file=sys.stderr)
    return 2


def _workspace(name: str) -> str:
    """The workspace of that name, or of that subscription id where only one has it."""
    from atelier.exceptions import AzureMLException
    from atelier.workspace import Workspace

    try:
        items = list(Workspace(workspace_name="-", _disable_service_check=True)._pages("/api/v1/workspaces", {}))
    except AzureMLException:
        return name  # what is wrong is said by whoever uses the name
    same = [str(one["name"]) for one in items if one.get("subscription_id") == name]
    return same[0] if len(same) == 1 and name not in [one["name"] for one in items] else name


def _place() -> Path:
    """The folder that ``atelier`` itself was installed into."""
    started = Path(sys.argv[0])
    if started.stem == "atelier" and started.parent.name:
        found = started if started.is_absolute() else Path(shutil.which(sys.argv[0]) or started)
        return found.absolute().parent
    return Path(sysconfig.get_path("scripts"))


def install(arguments: argparse.Namespace) -> None:
    folder = _place()
    path = folder / ("az.bat" if os.name == "nt" else "az")
    ours = path.is_file() and _MARK in path.read_text(encoding="utf-8", errors="replace")
    if (path.exists() or path.is_symlink()) and not ours:
        raise UserErrorException(
            f"{path} is another program: it is left alone. `atelier ...` does what `az ml ...` did."
        )
    if arguments.remove:
        if not ours:
            raise UserErrorException(f"There is no az of Atelier in {folder}.")
        path.unlink()
        print(f"Removed {path}")
        return
    if os.name == "nt":
        text = f'@rem {_MARK}\r\n@"{sys.executable}" -m atelier.cli.az %*\r\n'
    else:
        text = f"#!{sys.executable}\n# {_MARK}\nimport sys\n\nfrom atelier.cli.az import main\n\nsys.exit(main())\n"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    print(f"Wrote {path}: `az ml experiment submit -c docker myscript.py` works now.")
    first = shutil.which("az")
    if first and Path(first).resolve() != path.resolve():
        print(f"The az that your shell finds first is another one: {first}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
