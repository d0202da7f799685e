"""The client's reference as Markdown: the library from its source, the command line from its parser."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

from studio.management.markdown import NOTE, anchor, item, paragraph, plain

# Modules that scripts have no reason to import.
PLUMBING = frozenset(
    f"atelier.{name}"
    for name in ("events", "gate", "ignore", "later", "snapshot", "tinyyaml", "transport", "unit_files")
)


def client(root: Path) -> str:
    """``root`` is the folder of the package ``atelier``. Raises OSError when it is not there."""
    from atelier.cli.parser import build

    preface = (root.parent.parent / "REFERENCE.md").read_text(encoding="utf-8")
    sections: dict[str, list[str]] = {}
    for module in sorted(root.rglob("*.py")):
        if "cli" in module.parts:
            continue
        name = ".".join(module.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        if name in PLUMBING or any(part.startswith("_") for part in name.split(".")):
            continue
        tree = ast.parse(module.read_text(encoding="utf-8"))
        entries = [text for node in tree.body if (text := _definition(node))]
        if entries:
            sections[name] = [paragraph(plain(ast.get_docstring(tree))) + "\n", *_grouped(entries)]
    titles = ["Command line", *sections]
    parts = [NOTE, "# Client reference\n", preface]
    parts.append("\n".join(f"- [{title}](#{anchor(title)})" for title in titles) + "\n")
    parts += ["## Command line\n", _command_line(build())]
    for name, texts in sections.items():
        parts += [f"## {name}\n", *texts]
    return "\n".join(parts).rstrip() + "\n"


def _grouped(entries: list[str]) -> list[str]:
    """Functions first, as one list; then the classes."""
    functions = [text for text in entries if text.startswith("- ")]
    classes = [text for text in entries if not text.startswith("- ")]
    return [*(["\n".join(functions) + "\n"] if functions else []), *classes]


def _signature(node: ast.FunctionDef) -> str:
    arguments = ast.unparse(node.args)
    return "" if arguments in {"self", "cls"} else arguments.removeprefix("self, ").removeprefix("cls, ")


def _entry(call: str, node: ast.FunctionDef) -> str:
    return item(f"`{call}` {plain(ast.get_docstring(node))}".rstrip())


def _definition(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
        return _entry(f"{node.name}({_signature(node)})", node)
    if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
        return ""
    lines = [f"### {node.name}\n"]
    if text := plain(ast.get_docstring(node)):
        lines.append(paragraph(text) + "\n")
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and (not member.name.startswith("_") or member.name == "__init__"):
            shown = node.name if member.name == "__init__" else f".{member.name}"
            lines.append(_entry(shown if _is_property(member) else f"{shown}({_signature(member)})", member))
    return "\n".join(lines).rstrip() + "\n"


def _is_property(node: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list)


def _command_line(parser: argparse.ArgumentParser) -> str:
    """Every command with its options. Read from the parser's actions, whose print differs between Pythons."""
    text = (
        "Every command takes `--json`, `--workspace NAME` and `--endpoint ADDRESS`. Exit status: 0 done, 1 refused, "
        "2 wrong use, 3 the run failed."
    )
    return "\n".join([paragraph(text) + "\n", *_commands(parser, "atelier")])


COMMON = frozenset({"help", "json", "workspace", "endpoint", "version"})


def _commands(parser: argparse.ArgumentParser, path: str) -> list[str]:
    lines: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                lines += _commands(sub, f"{path} {name}")
    if lines:
        return lines
    positional = [_shown(one) for one in parser._actions if not one.option_strings]
    title = " ".join([path, *positional])
    entries = [item(_option(one)) for one in parser._actions if _is_own(one)]
    about = (parser.description or "").strip()
    about = about[:1].upper() + about[1:] + ("" if about.endswith(".") else ".")
    return [f"### `{title}`\n", paragraph(about) + "\n", *(["\n".join(entries) + "\n"] if entries else [])]


def _is_own(action: argparse.Action) -> bool:
    """Not among the options of every command; a positional that only repeats the title needs no line."""
    return action.dest not in COMMON and bool(action.option_strings or action.help)


def _shown(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest).upper()
    return f"[{name}]" if action.nargs == "?" else f"{name} ..." if action.nargs in {"+", "*"} else name


def _option(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_shown(action)}` {action.help or ''}".rstrip()
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return f"`{', '.join(action.option_strings)}{value}` {action.help or ''}".rstrip()
