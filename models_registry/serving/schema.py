"""The OpenAPI description of a service, from what the model says of itself."""

from __future__ import annotations

from typing import Any, Dict, List, Optional


def example(features: Optional[int], row: List[Any], sample: Any) -> Any:
    """A body that works: the sample input of the registration, else a row from the model's own words."""
    if isinstance(sample, dict) and "data" in sample:
        return sample
    if isinstance(sample, list) and sample:
        return {"data": sample if isinstance(sample[0], (list, dict)) else [sample]}
    return {"data": [row]} if features else {"data": ["text"]}


def _row(features: Optional[int], names: Optional[List[str]], row: List[Any]) -> Dict[str, Any]:
    types = ["string" if isinstance(value, str) else "number" for value in row]
    if features is None:
        return {"description": "A row as the model takes it: a list of values, or a text."}
    if len(set(types)) == 1:
        items: Dict[str, Any] = {"type": types[0]}
    else:
        items = {}
    as_list: Dict[str, Any] = {"type": "array", "items": items, "minItems": features, "maxItems": features}
    if not names:
        return as_list
    as_list["description"] = "Values in this order: " + ", ".join(names)
    as_object = {
        "type": "object",
        "required": names,
        "additionalProperties": False,
        "properties": {name: {"type": kind} for name, kind in zip(names, types)},
    }
    return {"oneOf": [as_list, as_object]}


_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def _operation(sample: Any) -> Dict[str, Any]:
    """Scoring as an operation; ``sample`` is a body that works."""
    return {
        "operationId": "score",
        "summary": "Score rows with the model",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Input"},
                    "example": sample,
                }
            },
        },
        "responses": {
            "200": {
                "description": "The answers",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Output"}}},
            },
            "400": {"description": "The body is not JSON", "content": _PROBLEM},
            "413": {"description": "The body is too large", "content": _PROBLEM},
            "422": {
                "description": "The rows do not fit the model; the answer names row and column",
                "content": _PROBLEM,
            },
            "503": {"description": "The model is still being loaded", "content": _PROBLEM},
        },
    }


def _schemas(row: Dict[str, Any], methods: List[str], classes: Optional[List[Any]]) -> Dict[str, Any]:
    """What goes in, what comes out, and what a refusal says; ``row`` is the schema of one row."""
    body = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {"type": "array", "items": row},
            "method": {
                "type": "string",
                "enum": methods,
                "description": f"Without it: {methods[0]}, answered as a plain list. "
                f'With it: an object like {{"{methods[0]}": [...]}}.',
            },
        },
    }
    answer: Dict[str, Any] = {"description": "One answer per row."}
    if classes:
        answer["items"] = {"enum": classes[:100]}
    else:
        answer["items"] = {}
    answer["type"] = "array"
    return {
        "Input": body,
        "Output": {"oneOf": [answer, {"type": "object", "additionalProperties": answer}]},
        "Problem": {
            "type": "object",
            "properties": {"status": {"type": "integer"}, "title": {"type": "string"}, "detail": {"type": "string"}},
        },
    }


def openapi(
    *,
    name: str,
    model: str,
    description: str,
    url: str,
    auth: bool,
    methods: List[str],
    features: Optional[int],
    names: Optional[List[str]],
    classes: Optional[List[Any]],
    row: List[Any],
    sample: Any,
) -> Dict[str, Any]:
    """An OpenAPI 3.0 document with the real input schema and an example that can be sent as it is."""
    score = _operation(example(features, row, sample))
    components: Dict[str, Any] = {"schemas": _schemas(_row(features, names, row), methods, classes)}
    if auth:
        score["security"] = [{"key": []}]
        score["responses"]["401"] = {"description": "The key is missing or wrong", "content": _PROBLEM}
        components["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "The endpoint's primary or secondary key"}
        }
    return {
        "openapi": "3.0.3",
        "info": {
            "title": name,
            "version": model,
            "description": description or f"The model {model}, served by Atelier.",
        },
        "servers": [{"url": url}],
        "paths": {
            "/score": {"post": score},
            "/healthz": {
                "get": {
                    "operationId": "health",
                    "summary": "Is the service ready?",
                    "responses": {"200": {"description": "Ready"}},
                }
            },
        },
        "components": components,
    }
