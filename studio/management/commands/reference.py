"""``manage.py reference``: docs/rest.md from the OpenAPI document, docs/client.md from the client's own docstrings."""

from __future__ import annotations

import ast
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

NOTE = "<!-- Made by `python3 manage.py reference`; change the code, not this file. -->\n"


def rest(document: dict[str, Any]) -> str:
    """One section per tag, one entry per operation with its parameters, body and answers."""
    sections: dict[str, list[str]] = {}
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            sections.setdefault(tag, []).append(_operation(method, path, operation))
    parts = [NOTE, "# REST reference\n", _PREFACE]
    for tag in sorted(sections):
        parts += [f"## {tag}\n", *sections[tag]]
    return "\n".join(parts)


_PREFACE = """All addresses are below `/api/v1`. The live page with forms is at `/api/v1/docs`, the document at `/api/v1/openapi.json`.

Sign in with `Authorization: Bearer TOKEN`: a personal access token, or what `POST /token` gives a service principal.
Errors are `application/problem+json` with `title`, `status`, `detail` and `errors` by field. Lists answer
`{"items": [...], "next": cursor}`; send the cursor back as `?cursor=` for the next page. A submit with an
`Idempotency-Key` header can be repeated: it makes one run.
"""


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lines = [f"### `{method.upper()} {path.removeprefix('/api/v1')}`\n"]
    text = operation.get("description") or operation.get("summary") or ""
    if text:
        lines.append(text.strip() + "\n")
    for parameter in operation.get("parameters", []):
        kind = parameter.get("schema", {}).get("type", "")
        needed = ", required" if parameter.get("required") else ""
        about = parameter.get("description") or parameter.get("schema", {}).get("description") or ""
        lines.append(f"- `{parameter['name']}` ({parameter['in']}{', ' + kind if kind else ''}{needed}) {about}".rstrip())
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        lines.append(f"- body `{media}`: {_schema(body.get('schema', {}))}")
    for status, answer in sorted(operation.get("responses", {}).items(), key=lambda pair: str(pair[0])):
        media = next(iter(answer.get("content", {}).values()), {})
        lines.append(f"- answers {status} {_schema(media.get('schema', {}))}".rstrip())
    return "\n".join(lines) + "\n"


def _schema(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"`{schema['$ref'].rsplit('/', 1)[-1]}`"
    if schema.get("type") == "array":
        return f"list of {_schema(schema.get('items', {}))}"
    return f"`{schema['type']}`" if "type" in schema else ""


def client(root: Path) -> str:
    """Every public class and function of the package ``atelier`` with its signature and the docstring's first paragraph."""
    parts = [NOTE, "# Client reference\n", (root.parent.parent / "REFERENCE.md").read_text(encoding="utf-8")]
    for module in sorted(root.rglob("*.py")):
        name = ".".join(module.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        if any(part.startswith("_") for part in name.split(".")):
            continue
        tree = ast.parse(module.read_text(encoding="utf-8"))
        entries = [text for node in tree.body if (text := _definition(node))]
        if entries:
            parts += [f"## {name}\n", _first(ast.get_docstring(tree)) + "\n", *entries]
    return "\n".join(parts)


def _first(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def _signature(node: ast.FunctionDef) -> str:
    arguments = ast.unparse(node.args)
    return arguments.removeprefix("self, ").removeprefix("cls, ") if arguments not in {"self", "cls"} else ""


def _definition(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
        return f"- `{node.name}({_signature(node)})` {_first(ast.get_docstring(node))}\n"
    if not isinstance(node, ast.ClassDef) or node.name.startswith("__"):
        return ""
    lines = [f"### {node.name}\n", _first(ast.get_docstring(node)) + "\n"]
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and (not item.name.startswith("_") or item.name == "__init__"):
            shown = node.name if item.name == "__init__" else f".{item.name}"
            is_property = any(isinstance(d, ast.Name) and d.id == "property" for d in item.decorator_list)
            call = shown if is_property else f"{shown}({_signature(item)})"
            lines.append(f"- `{call}` {_first(ast.get_docstring(item))}".rstrip())
    return "\n".join(lines) + "\n"


class Command(BaseCommand):
    help = "Write docs/rest.md and docs/client.md from the code, or with --check say whether they are current."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        from studio.api.urls import api

        made = {
            "rest.md": rest(api.get_openapi_schema()),
            "client.md": client(settings.BASE_DIR / "client" / "src" / "atelier"),
        }
        stale = []
        for name, text in made.items():
            path = settings.BASE_DIR / "docs" / name
            if options["check"] and (not path.is_file() or path.read_text(encoding="utf-8") != text):
                stale.append(name)
            elif not options["check"]:
                path.write_text(text, encoding="utf-8")
        if stale:
            raise CommandError(f"docs/{', docs/'.join(stale)} are not what the code says: run manage.py reference.")
