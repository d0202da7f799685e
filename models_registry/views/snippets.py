"""Text for people who call a service: the same call as curl and Python, and the OpenAPI document as rows to draw."""

from __future__ import annotations

import json
import shlex
from typing import Any


def curl(url: str, body: str, auth: bool) -> str:
    lines = [f"curl {url}"]
    if auth:
        lines.append('-H "Authorization: Bearer $ENDPOINT_KEY"')
    lines += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(body)}"]
    return " \\\n  ".join(lines)


def python(url: str, body: str, auth: bool) -> str:
    """With the standard library alone."""
    headers = '"Content-Type": "application/json"'
    if auth:
        headers += ', "Authorization": "Bearer " + os.environ["ENDPOINT_KEY"]'
    imports = "import json\nimport os\nimport urllib.request\n" if auth else "import json\nimport urllib.request\n"
    return (
        f"{imports}\nrows = {json.loads(body)!r}\n"
        f"request = urllib.request.Request(\n    {url!r},\n"
        f"    data=json.dumps(rows).encode(),\n    headers={{{headers}}},\n)\n"
        "print(json.load(urllib.request.urlopen(request)))\n"
    )


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations of an OpenAPI document of ours, with their fields flattened for a table."""
    schemas = document.get("components", {}).get("schemas", {})
    out = []
    for path, methods in document.get("paths", {}).items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            schema = schemas.get(str(content.get("schema", {}).get("$ref", "")).rpartition("/")[2], {})
            required = schema.get("required", [])
            fields = [
                {"name": name, "required": name in required, **_kind(field)}
                for name, field in schema.get("properties", {}).items()
            ]
            responses = [
                {"status": code, "text": said.get("description", "")}
                for code, said in operation.get("responses", {}).items()
            ]
            example = json.dumps(content["example"]) if "example" in content else ""
            out.append(
                {
                    "method": method.upper(), "path": path, "summary": operation.get("summary", ""), "fields": fields,
                    "responses": responses, "example": example, "columns": _columns(schema),
                    "locked": bool(operation.get("security")),
                }
            )  # fmt: skip
    return out


def _kind(field: dict[str, Any]) -> dict[str, Any]:
    return {"type": field.get("type", ""), "text": field.get("description", ""), "choices": field.get("enum", [])}


def _columns(schema: dict[str, Any]) -> list[dict[str, str]]:
    """The columns of a row: by name where the model knows them, else by number."""
    items = schema.get("properties", {}).get("data", {}).get("items", {})
    for choice in items.get("oneOf", []):
        if choice.get("type") == "object":
            return [{"name": name, "type": str(kind.get("type", ""))} for name, kind in choice["properties"].items()]
    count = int(items.get("minItems", 0))
    kind = str(items.get("items", {}).get("type", "")) if isinstance(items.get("items"), dict) else ""
    return [{"name": str(number), "type": kind} for number in range(min(count, 500))]
