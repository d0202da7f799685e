"""How operations that take or give bytes are described in the OpenAPI document."""

from __future__ import annotations

from typing import Any

BYTES = {"type": "string", "format": "binary"}


def binary_body(description: str, media_type: str = "application/octet-stream") -> dict[str, Any]:
    return {"requestBody": {"required": True, "description": description, "content": {media_type: {"schema": BYTES}}}}


def binary_response(media_type: str = "*/*", *, ranges: bool = False, status: int = 200) -> dict[str, Any]:
    content = {media_type: {"schema": BYTES}}
    responses: dict[int, Any] = {status: {"description": "The bytes.", "content": content}}
    if ranges:
        responses[206] = {"description": "The range that was asked for.", "content": content}
        responses[304] = {"description": "What the client has is still right."}
        responses[416] = {"description": "The range lies outside the file."}
    return {"responses": responses}
