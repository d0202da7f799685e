"""Who gets what: one row for every page and every operation of the REST API.

``OPERATIONS`` is keyed by what the OpenAPI document says, ``"GET /workspaces/{workspace}/runs"``; ``PAGES`` by method
and the route of the resolver, ``"GET w/<slug:workspace>/runs/"``. A row is (who, request); ``who`` gives, in the order
of ``ROLES``, what is expected:

    401, 403, 404   refused like that
    "ok"            done (below 400)
    "past"          past the permission: whatever follows says that the request cannot be used or the thing is not ready
    "login"         sent to the sign-in page

Adding a row: name the address, choose one of the columns below, give what the request needs.
"""

from __future__ import annotations

from typing import Any

ROLES = ("anonymous", "outsider", "reader", "contributor", "owner", "unit")
Who = tuple[Any, ...]

# REST:            anonymous outsider reader contributor owner unit
OPEN: Who = ("ok", "ok", "ok", "ok", "ok", "ok")
SIGNED_IN: Who = (401, "ok", "ok", "ok", "ok", 403)
READ: Who = (401, 404, "ok", "ok", "ok", 403)
READ_UNIT: Who = (401, 404, "ok", "ok", "ok", "ok")
WRITE: Who = (401, 404, 403, "ok", "ok", 403)
WRITE_UNIT: Who = (401, 404, 403, "ok", "ok", "ok")
MANAGE: Who = (401, 404, 403, 403, "ok", 403)
WRITE_PAST: Who = (401, 404, 403, "past", "past", 403)
READ_PAST: Who = (401, 404, "past", "past", "past", 403)
NOBODY: Who = (401, 403, 403, 403, 403, 403)  # site administrators only

_W = "/workspaces/{workspace}"
_SHA = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of b"hello"
_FILE = {"path": "a.py", "sha256": _SHA, "size": 5, "mode": 420}


def body(
    content: Any = None, *, raw: bytes | None = None, kind: str = "application/json", query: str = "", **params: Any
) -> dict[str, Any]:
    """What a request needs: a JSON body, raw bytes, a query, path parameters other than those of the fixture."""
    return {"json": content, "raw": raw, "kind": kind, "query": query, "params": params}


OPERATIONS: dict[str, tuple[Who, dict[str, Any]]] = {
    "POST /token": (OPEN, body({"client_id": "$client_id", "client_secret": "$client_secret"})),
    "GET /me": (SIGNED_IN, body()),
    "GET /me/tokens": (SIGNED_IN, body()),
    "POST /me/tokens": (SIGNED_IN, body({"name": "another"})),
    "DELETE /me/tokens/{token_id}": ((401, 404, 404, 404, "ok", 403), body()),
    "GET /workspaces": (SIGNED_IN, body()),
    "POST /workspaces": (NOBODY, body({"name": "third"})),
    f"GET {_W}": (READ, body()),
    f"PATCH {_W}": (MANAGE, body({"title": "New"})),
    f"GET {_W}/members": (READ, body()),
    f"PATCH {_W}/members/{{user_id}}": (MANAGE, body({"role": "contributor"})),
    f"DELETE {_W}/members/{{user_id}}": (MANAGE, body()),
    f"GET {_W}/invitations": (MANAGE, body()),
    f"POST {_W}/invitations": (MANAGE, body({"role": "reader"})),
    f"DELETE {_W}/invitations/{{invitation_id}}": (MANAGE, body()),
    f"GET {_W}/service-principals": (MANAGE, body()),
    f"POST {_W}/service-principals": (MANAGE, body({"name": "weekly", "role": "reader"})),
    f"POST {_W}/service-principals/{{name}}/rotate": (MANAGE, body(name="nightly")),
    f"DELETE {_W}/service-principals/{{name}}": (MANAGE, body(name="nightly")),
    f"GET {_W}/audit": (MANAGE, body()),
    # Compute
    f"GET {_W}/targets": (READ, body()),
    f"GET {_W}/targets/{{name}}": (READ, body(name="local")),
    f"POST {_W}/targets/{{name}}/check": (WRITE, body(name="local")),
    f"GET {_W}/environments": (READ, body()),
    f"POST {_W}/environments": (WRITE, body({"name": "mine", "recipe": {"kind": "system"}})),
    f"POST {_W}/environments/check": (WRITE, body({"recipe": {"kind": "system"}})),
    f"GET {_W}/environments/{{name}}": (READ, body(name="system")),
    f"POST {_W}/environments/{{name}}/prepare": (WRITE, body({}, name="system")),
    # Snapshots
    f"POST {_W}/snapshots/missing": (WRITE, body({"files": [_FILE]})),
    f"PUT {_W}/blobs/{{sha256}}": (WRITE, body(raw=b"hello", kind="application/octet-stream", sha256=_SHA)),
    f"POST {_W}/snapshots": (WRITE_PAST, body({"files": [_FILE]})),
    f"POST {_W}/snapshots/upload": (WRITE_PAST, body(raw=b"", kind="text/plain")),
    f"GET {_W}/snapshots/{{digest}}": (READ, body()),
    f"GET {_W}/snapshots/{{digest}}/files/{{path}}": (READ, body(path="train.py")),
    f"HEAD {_W}/snapshots/{{digest}}/files/{{path}}": (READ, body(path="train.py")),
    f"GET {_W}/snapshots/{{digest}}/zip": (READ, body()),
    # Runs
    f"POST {_W}/runs": (WRITE, body({"experiment": "iris", "script": "a.py", "files": {"a.py": "1"}})),
    f"GET {_W}/runs": (READ, body()),
    f"GET {_W}/runs/delete-preview": (WRITE, body(query="ids=$ended")),
    f"GET {_W}/runs/{{run_id}}": (READ_UNIT, body()),
    f"PATCH {_W}/runs/{{run_id}}": (WRITE_UNIT, body({"tags": {"a": "1"}})),
    f"DELETE {_W}/runs/{{run_id}}": (WRITE, body(run_id="$ended")),
    f"GET {_W}/runs/{{run_id}}/details": (READ_UNIT, body()),
    f"POST {_W}/runs/{{run_id}}/cancel": (WRITE, body({})),
    f"POST {_W}/runs/{{run_id}}/resubmit": (WRITE, body({})),
    f"POST {_W}/runs/{{run_id}}/complete": ((401, 404, 403, "ok", "ok", 403), body(run_id="$interactive")),
    f"POST {_W}/runs/{{run_id}}/fail": (WRITE_UNIT, body({"error": "no"})),
    f"GET {_W}/runs/{{run_id}}/children": (READ_UNIT, body()),
    f"POST {_W}/runs/{{run_id}}/children": (WRITE_UNIT, body({"count": 2})),
    f"POST {_W}/runs/{{run_id}}/events": (
        WRITE_UNIT,
        body(raw=b'{"k":"metric","n":"loss","v":0.5}\n', kind="application/x-ndjson"),
    ),
    f"GET {_W}/runs/{{run_id}}/metrics": (READ_UNIT, body()),
    f"GET {_W}/runs/{{run_id}}/metrics/{{name}}": (READ_UNIT, body(name="accuracy")),
    f"GET {_W}/experiments": (READ, body()),
    f"GET {_W}/experiments/{{name}}": (READ, body(name="iris")),
    f"PATCH {_W}/experiments/{{name}}": (WRITE, body({"archived": True}, name="iris")),
    f"GET {_W}/compare": (READ, body(query="runs=$run,$ended")),
    # Files and logs
    f"GET {_W}/runs/{{run_id}}/files": (READ_UNIT, body()),
    f"GET {_W}/runs/{{run_id}}/files/content/{{path}}": (READ_UNIT, body(path="outputs/model.txt")),
    f"HEAD {_W}/runs/{{run_id}}/files/content/{{path}}": (READ_UNIT, body(path="outputs/model.txt")),
    f"PUT {_W}/runs/{{run_id}}/files/content/{{path}}": (
        WRITE_UNIT,
        body(raw=b"hello", kind="application/octet-stream", path="outputs/new.txt"),
    ),
    f"GET {_W}/runs/{{run_id}}/files/zip": (READ_UNIT, body()),
    f"GET {_W}/runs/{{run_id}}/logs": (READ_UNIT, body()),
    f"GET {_W}/runs/{{run_id}}/logs/search": (READ, body(query="q=epoch")),
    # Models and endpoints
    f"GET {_W}/models": (READ, body()),
    f"POST {_W}/models": (WRITE_UNIT, body({"name": "new", "run_id": "$run", "path": "outputs/model.txt"})),
    f"POST {_W}/models/upload": (WRITE_PAST, body(raw=b"", kind="text/plain")),
    f"GET {_W}/models/{{name}}": (READ, body(name="iris")),
    f"PATCH {_W}/models/{{name}}": (WRITE, body({"archived": True}, name="iris")),
    f"GET {_W}/models/{{name}}/versions/{{version}}": (READ, body(name="iris")),
    f"PATCH {_W}/models/{{name}}/versions/{{version}}": (WRITE, body({"description": "New"}, name="iris")),
    f"DELETE {_W}/models/{{name}}/versions/{{version}}": (WRITE_PAST, body(name="iris")),
    f"GET {_W}/models/{{name}}/versions/{{version}}/files/{{path}}": (READ, body(name="iris", path="model.txt")),
    f"HEAD {_W}/models/{{name}}/versions/{{version}}/files/{{path}}": (READ, body(name="iris", path="model.txt")),
    f"GET {_W}/models/{{name}}/versions/{{version}}/zip": (READ, body(name="iris")),
    f"GET {_W}/endpoints": (READ, body()),
    f"POST {_W}/endpoints": (WRITE_PAST, body({"name": "other", "model": "iris:1"})),
    f"GET {_W}/endpoints/{{name}}": (READ, body(name="iris-service")),
    f"DELETE {_W}/endpoints/{{name}}": (WRITE, body(name="iris-service")),
    f"POST {_W}/endpoints/{{name}}/score": (READ_PAST, body({"data": [[1]]}, name="iris-service")),
    f"GET {_W}/endpoints/{{name}}/keys": (WRITE, body(name="iris-service")),
    f"POST {_W}/endpoints/{{name}}/keys/rotate": (WRITE_PAST, body({}, name="iris-service")),
    f"GET {_W}/endpoints/{{name}}/logs": (READ, body(name="iris-service")),
    f"POST {_W}/endpoints/{{name}}/stop": (WRITE_PAST, body(name="iris-service")),
    f"POST {_W}/endpoints/{{name}}/start": (WRITE_PAST, body(name="iris-service")),
    f"GET {_W}/endpoints/{{name}}/swagger.json": (READ_PAST, body(name="iris-service")),
}

PAGES: dict[str, tuple[Who, dict[str, Any]]] = {}
