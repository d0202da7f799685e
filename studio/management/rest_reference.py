"""The REST reference as Markdown, from the OpenAPI document. Pure."""

from __future__ import annotations

from typing import Any

from studio.management.markdown import NOTE, anchor, item, paragraph, plain

Json = dict[str, Any]
PREFIX = "/api/v1"
PAGE = "PageOf_"  # the schema of a list; what its items are is enough to know

_PREFACE = """All addresses are below `/api/v1`. The live page with forms is at `/api/v1/docs`, the document at
`/api/v1/openapi.json`.

Sign in with `Authorization: Bearer TOKEN`: a personal access token, or what `POST /token` gives a service principal.
Lists answer `{"items": [...], "next": cursor}`; send the cursor back as `?cursor=` for the next page. A submit with an
`Idempotency-Key` header can be repeated: it makes one run.

Errors are `application/problem+json` with `type`, `title`, `status`, `detail`, and `errors` by field. Every operation
may give them; below only the answers are named that are not errors.

| status | meaning |
|---|---|
| 400, 422 | the request cannot be read; a value in it cannot be used |
| 401, 403, 404 | not signed in; a member without the right; not there, or in a workspace that you are no member of |
| 409, 413, 429 | it does not fit what is there now; too large; too often |
"""


def rest(document: Json) -> str:
    """One section per tag with its operations, then every object that goes in or out with its fields."""
    schemas: Json = document.get("components", {}).get("schemas", {})
    sections: dict[str, list[str]] = {}
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["Other"])[0]
            sections.setdefault(tag, []).append(_operation(method, path, operation))
    parts = [NOTE, "# REST reference\n", _PREFACE]
    parts += ["\n".join(f"- [{tag}](#{anchor(tag)})" for tag in [*sorted(sections), "Objects"]) + "\n"]
    for tag in sorted(sections):
        parts += [f"## {tag}\n", *sections[tag]]
    parts.append("## Objects\n")
    parts += [_object(name, schemas[name]) for name in sorted(schemas) if _is_shown(name, schemas[name])]
    return "\n".join(parts)


def _is_shown(name: str, schema: Json) -> bool:
    return bool(schema.get("properties")) and not name.startswith(PAGE)


def _operation(method: str, path: str, operation: Json) -> str:
    lines = [f"### `{method.upper()} {path.removeprefix(PREFIX)}`\n"]
    if text := plain(operation.get("description") or operation.get("summary")):
        lines.append(paragraph(text) + "\n")
    entries = [_parameter(one) for one in operation.get("parameters", []) if one["name"] != "workspace"]
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        entries.append(item(f"body: {_type(body.get('schema', {}))} as `{media}`"))
    entries += _answers(operation.get("responses", {}))
    return "\n".join([*lines, *entries]) + "\n"


def _parameter(parameter: Json) -> str:
    schema = parameter.get("schema", {})
    words = [parameter["in"], _type(schema)]
    if parameter.get("required") and parameter["in"] != "path":
        words.append("required")
    if schema.get("default") not in (None, "", [], {}):
        words.append(f"default `{schema['default']}`")
    about = plain(parameter.get("description") or schema.get("description"))
    return item(f"`{parameter['name']}` ({', '.join(words)}) {about}".rstrip())


def _answers(responses: Json) -> list[str]:
    lines = []
    for status, answer in sorted(responses.items(), key=lambda pair: str(pair[0])):
        if str(status) >= "400":
            continue
        contents: Json = answer.get("content") or {"": {}}
        media, content = next(iter(contents.items()))
        shape = _type(content.get("schema", {})) if content else ""
        if media and media != "application/json":
            shape = f"`{media}`"
        about = plain(answer.get("description"))
        words = [shape, "" if about in {"OK", "Created", "No Content", "Accepted"} else about]
        lines.append(item(f"answers {status} {': '.join(word for word in words if word)}".rstrip()))
    return lines


def _named(reference: str) -> str:
    name = reference.rsplit("/", 1)[-1]
    if name.startswith(PAGE):
        return f"page of {_named(name.removeprefix(PAGE).rstrip('_'))}"
    return f"[{name}](#{anchor(name)})"


def _type(schema: Json) -> str:
    """A schema in words; objects are links to their own section."""
    if "$ref" in schema:
        return _named(schema["$ref"])
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if options:
        return " or ".join(dict.fromkeys(_type(one) for one in options))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    if kind == "string" and schema.get("format") == "binary":
        return "bytes"
    return schema.get("format") or kind or "any value"


def _object(name: str, schema: Json) -> str:
    lines = [f"### {name}\n"]
    if text := plain(schema.get("description")):
        lines.append(paragraph(text) + "\n")
    needed = set(schema.get("required", []))
    for field, shape in schema["properties"].items():
        words = [_type(shape)]
        if field in needed:
            words.append("required")
        elif shape.get("default") not in (None, "", [], {}):
            words.append(f"default `{shape['default']}`")
        lines.append(item(f"`{field}` ({', '.join(words)}) {plain(shape.get('description'))}".rstrip()))
    return "\n".join(lines) + "\n"
