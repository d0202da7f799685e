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

_STORE = "workspaceblobstore"
_DEFINITION = {
    "type": "tabular",
    "source": {"kind": "delimited", "paths": [{"datastore": _STORE, "path": "iris/*.csv"}], "header": True},
}


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
    f"POST {_W}/targets": (MANAGE, body({"name": "second", "driver": "local"})),
    f"GET {_W}/targets/kinds": (READ, body()),
    f"GET {_W}/targets/{{name}}": (READ, body(name="local")),
    f"PATCH {_W}/targets/{{name}}": (MANAGE, body({"description": "Here."}, name="local")),
    f"DELETE {_W}/targets/{{name}}": ((401, 404, 403, 403, "past", 403), body(name="local")),
    f"POST {_W}/targets/{{name}}/host-key": (
        (401, 404, 403, 403, "past", 403),
        body({"fingerprint": "SHA256:none"}, name="local"),
    ),
    f"POST {_W}/targets/{{name}}/check": (WRITE, body(name="local")),
    f"GET {_W}/targets/{{name}}/images": (READ_PAST, body(name="local")),
    f"POST {_W}/targets/{{name}}/images/prune": ((401, 404, 403, 403, "past", 403), body({}, name="local")),
    f"GET {_W}/container-registries": (READ, body()),
    f"POST {_W}/container-registries": (MANAGE, body({"address": "example.org:5000", "check": False})),
    f"PATCH {_W}/container-registries/{{registry_id}}": (
        (401, 404, 403, 403, 404, 403),
        body({"push": True}, registry_id=999999),
    ),
    f"POST {_W}/container-registries/{{registry_id}}/test": (
        (401, 404, 403, 403, 404, 403),
        body(registry_id=999999),
    ),
    f"DELETE {_W}/container-registries/{{registry_id}}": ((401, 404, 403, 403, 404, 403), body(registry_id=999999)),
    f"GET {_W}/environments": (READ, body()),
    f"POST {_W}/environments": (WRITE, body({"name": "mine", "recipe": {"kind": "system"}})),
    f"POST {_W}/environments/check": (WRITE, body({"recipe": {"kind": "system"}})),
    f"GET {_W}/environments/{{name}}": (READ, body(name="system")),
    f"POST {_W}/environments/{{name}}/prepare": (WRITE, body({}, name="system")),
    f"GET {_W}/environments/{{name}}/log": (READ, body(name="system")),
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
    # Datastores and datasets
    f"GET {_W}/datastores/kinds": (READ_UNIT, body()),
    f"GET {_W}/datastores": (READ_UNIT, body()),
    f"POST {_W}/datastores": (
        MANAGE,
        body({"name": "other", "kind": "local", "config": {"path": "/nowhere"}, "check": False}),
    ),
    f"GET {_W}/datastores/{{name}}": (READ_UNIT, body(name="spare")),
    f"PATCH {_W}/datastores/{{name}}": (MANAGE, body({"description": "New"}, name="spare")),
    f"DELETE {_W}/datastores/{{name}}": (MANAGE, body(name="spare")),
    f"POST {_W}/datastores/{{name}}/test": (WRITE, body(name=_STORE)),
    f"POST {_W}/datastores/{{name}}/default": (MANAGE, body(name="spare")),
    f"GET {_W}/datastores/{{name}}/entries": (READ_UNIT, body(name=_STORE, query="path=iris")),
    f"GET {_W}/datastores/{{name}}/content/{{path}}": (READ_UNIT, body(name=_STORE, path="iris/a.csv")),
    f"HEAD {_W}/datastores/{{name}}/content/{{path}}": (READ_UNIT, body(name=_STORE, path="iris/a.csv")),
    f"PUT {_W}/datastores/{{name}}/content/{{path}}": (
        WRITE_UNIT,
        body(raw=b"hello", kind="application/octet-stream", name=_STORE, path="up/new.txt"),
    ),
    f"DELETE {_W}/datastores/{{name}}/content/{{path}}": (
        (401, 404, 403, 404, 404, 403),  # who may is told that there is no such file
        body(name=_STORE, path="iris/none.csv"),
    ),
    f"GET {_W}/datasets": (READ_UNIT, body()),
    f"POST {_W}/datasets": (WRITE_UNIT, body({"name": "other", "definition": _DEFINITION})),
    f"GET {_W}/datasets/{{name}}": (READ_UNIT, body(name="iris")),
    f"PATCH {_W}/datasets/{{name}}": (WRITE, body({"archived": True}, name="iris")),
    f"DELETE {_W}/datasets/{{name}}": (WRITE, body(name="iris")),
    f"GET {_W}/datasets/{{name}}/delete-preview": (WRITE, body(name="iris")),
    f"GET {_W}/datasets/{{name}}/versions": (READ_UNIT, body(name="iris")),
    f"GET {_W}/datasets/{{name}}/versions/{{version}}": (READ_UNIT, body(name="iris", version="latest")),
    f"PATCH {_W}/datasets/{{name}}/versions/{{version}}": (WRITE, body({"tags": {}}, name="iris")),
    f"POST {_W}/data/inspect": (READ_UNIT, body({"definition": _DEFINITION, "rows": 5})),
    f"POST {_W}/data/files": (READ_UNIT, body({"definition": _DEFINITION})),
    f"POST {_W}/data/definitions": (WRITE_UNIT, body({"definition": _DEFINITION})),
    f"GET {_W}/data/{{id}}": (READ_UNIT, body()),
    f"GET {_W}/data/{{id}}/files": (READ_UNIT, body()),
    f"GET {_W}/data/{{id}}/content/{{index}}": (READ_UNIT, body()),
    f"HEAD {_W}/data/{{id}}/content/{{index}}": (READ_UNIT, body()),
    f"GET {_W}/data/{{id}}/preview": (READ_UNIT, body()),
    f"POST {_W}/data/{{id}}/profile": (WRITE_UNIT, body()),
    f"GET {_W}/data/{{id}}/profile": ((401, 404, 404, 404, 404, 404), body()),  # nobody has asked for one
    f"GET {_W}/data/{{id}}/lineage": (READ_UNIT, body()),
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

# Pages (a unit's token opens none):  anonymous outsider reader contributor owner unit
EVERYBODY: Who = OPEN
PERSON: Who = ("login", "ok", "ok", "ok", "ok", "login")
PERSON_PAST: Who = ("login", "past", "past", "past", "past", "login")
PAGE: Who = ("login", 404, "ok", "ok", "ok", "login")
PAGE_PAST: Who = ("login", 404, "past", "past", "past", "login")
EDIT: Who = ("login", 404, 403, "ok", "ok", "login")
EDIT_PAST: Who = ("login", 404, 403, "past", "past", "login")
OWNERS: Who = ("login", 404, 403, 403, "ok", "login")
OWNERS_PAST: Who = ("login", 404, 403, 403, "past", "login")
NO_REGISTRY: Who = ("login", 404, 403, 403, 404, "login")
GONE: Who = (404, 404, 404, 404, 404, 404)
PERSON_NONE: Who = ("login", 404, 404, 404, 404, "login")  # needs a thing that nobody here has
ADMIN: Who = ("login", 403, 403, 403, 403, "login")  # site administrators only
SIGN_IN: Who = ("login", "login", "login", "login", "login", "login")
SIGN_IN_FAILED: Who = (401, 401, 401, 401, 401, 401)

_P = "w/<slug:workspace>/"

FORM = "application/x-www-form-urlencoded"

DRAFT: Who = ("login", 404, 403, "ok", 404, "login")
DRAFT_PAST: Who = ("login", 404, 403, "past", 404, "login")

PAGES: dict[str, tuple[Who, dict[str, Any]]] = {
    "GET ": (PERSON, body()),
    "POST ": (PERSON, body(kind=FORM)),
    "GET account/2fa/": (PERSON, body()),
    "GET account/2fa/authenticate/": (PERSON, body()),
    "POST account/2fa/authenticate/": (PERSON, body(kind=FORM)),
    "GET account/2fa/reauthenticate/": (PERSON, body()),
    "POST account/2fa/reauthenticate/": (PERSON, body(kind=FORM)),
    "GET account/2fa/recovery-codes/": (PERSON_NONE, body()),
    "GET account/2fa/recovery-codes/download/": (PERSON_NONE, body()),
    "POST account/2fa/recovery-codes/download/": (PERSON_NONE, body(kind=FORM)),
    "GET account/2fa/recovery-codes/generate/": (PERSON, body()),
    "POST account/2fa/recovery-codes/generate/": (PERSON, body(kind=FORM)),
    "GET account/2fa/totp/activate/": (PERSON, body()),
    "POST account/2fa/totp/activate/": (PERSON, body(kind=FORM)),
    "GET account/2fa/totp/deactivate/": (PERSON_NONE, body()),
    "POST account/2fa/totp/deactivate/": (PERSON_NONE, body(kind=FORM)),
    "GET account/3rdparty/": (PERSON, body()),
    "POST account/3rdparty/": (PERSON, body(kind=FORM)),
    "GET account/3rdparty/login/cancelled/": (EVERYBODY, body()),
    "GET account/3rdparty/login/error/": (SIGN_IN_FAILED, body()),
    "GET account/3rdparty/signup/": (SIGN_IN, body()),
    "POST account/3rdparty/signup/": (SIGN_IN, body(kind=FORM)),
    "GET account/confirm-email/": (EVERYBODY, body()),
    r"GET account/confirm-email/(?P<key>[-:\w]+)/": (EVERYBODY, body(key="b")),
    r"POST account/confirm-email/(?P<key>[-:\w]+)/": (GONE, body(kind=FORM, key="b")),
    "GET account/email/": (PERSON, body()),
    "POST account/email/": (PERSON, body(kind=FORM)),
    "GET account/inactive/": (EVERYBODY, body()),
    "GET account/login/": (EVERYBODY, body()),
    "POST account/login/": (EVERYBODY, body(kind=FORM)),
    "GET account/login/code/confirm/": (PERSON, body()),
    "POST account/login/code/confirm/": (PERSON, body(kind=FORM)),
    "GET account/logout/": (EVERYBODY, body()),
    "POST account/logout/": (EVERYBODY, body(kind=FORM)),
    "GET account/oidc/(?P<provider_id>[^/]+)/login/": (GONE, body(provider_id="none")),
    "POST account/oidc/(?P<provider_id>[^/]+)/login/": (GONE, body(kind=FORM, provider_id="none")),
    "GET account/oidc/(?P<provider_id>[^/]+)/login/callback/": (GONE, body(provider_id="none")),
    "POST account/oidc/(?P<provider_id>[^/]+)/login/callback/": (GONE, body(kind=FORM, provider_id="none")),
    "GET account/password/change/": (PERSON, body()),
    "POST account/password/change/": (PERSON, body(kind=FORM)),
    "GET account/password/reset/": (EVERYBODY, body()),
    "POST account/password/reset/": (EVERYBODY, body(kind=FORM)),
    "GET account/password/reset/done/": (EVERYBODY, body()),
    "GET account/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/": (EVERYBODY, body(uidb36="a", key="b-c")),
    "POST account/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/": (
        EVERYBODY,
        body(kind=FORM, uidb36="a", key="b-c"),
    ),
    "GET account/password/reset/key/done/": (EVERYBODY, body()),
    "GET account/password/set/": (PERSON, body()),
    "POST account/password/set/": (PERSON, body(kind=FORM)),
    "GET account/reauthenticate/": (PERSON, body()),
    "POST account/reauthenticate/": (PERSON, body(kind=FORM)),
    "GET account/signup/": (EVERYBODY, body()),
    "POST account/signup/": (EVERYBODY, body(kind=FORM)),
    "GET account/social/connections/": (EVERYBODY, body()),
    "POST account/social/connections/": (EVERYBODY, body(kind=FORM)),
    "GET account/social/login/cancelled/": (SIGN_IN, body()),
    "POST account/social/login/cancelled/": (SIGN_IN, body(kind=FORM)),
    "GET account/social/login/error/": (SIGN_IN, body()),
    "POST account/social/login/error/": (SIGN_IN, body(kind=FORM)),
    "GET account/social/signup/": (EVERYBODY, body()),
    "POST account/social/signup/": (EVERYBODY, body(kind=FORM)),
    "GET account/tokens/": (PERSON, body()),
    "POST account/tokens/": (PERSON, body(kind=FORM)),
    "POST account/tokens/<int:token_id>/revoke/": (
        ("login", 404, 404, 404, 302, "login"),
        body(kind=FORM, token_id="$token_id"),
    ),
    "GET api/v1/": (EVERYBODY, body()),
    "POST api/v1/": (EVERYBODY, body(kind=FORM)),
    "GET api/v1/(?P<path>.*)": (GONE, body(path="nothing")),
    "POST api/v1/(?P<path>.*)": (GONE, body(kind=FORM, path="nothing")),
    "GET api/v1/docs": (EVERYBODY, body()),
    "POST api/v1/docs": (EVERYBODY, body(kind=FORM)),
    "GET api/v1/openapi.json": (EVERYBODY, body()),
    "POST api/v1/openapi.json": (EVERYBODY, body(kind=FORM)),
    "GET client/": (EVERYBODY, body()),
    "GET client/files/<str:filename>": (EVERYBODY, body(filename="$wheel")),
    "GET client/simple/": (EVERYBODY, body()),
    "GET client/simple/<str:name>/": (EVERYBODY, body(name="atelier-client")),
    "GET healthz": (EVERYBODY, body()),
    "POST healthz": (EVERYBODY, body(kind=FORM)),
    "GET invite/<str:secret>/": (EVERYBODY, body(secret="$invitation")),
    "POST invite/<str:secret>/": ((200, 302, 409, 409, 409, 200), body(kind=FORM, secret="$invitation")),
    f"GET {_P}": (PAGE, body()),
    f"GET {_P}audit/": (OWNERS, body()),
    f"POST {_P}audit/": (OWNERS, body(kind=FORM)),
    f"GET {_P}compare/": (PAGE, body()),
    f"GET {_P}compute/": (PAGE, body()),
    f"GET {_P}compute/<slug:name>/": (PAGE, body(name="local")),
    f"POST {_P}compute/<slug:name>/check/": (EDIT, body(kind=FORM, name="local")),
    f"GET {_P}compute/<slug:name>/delete/": (OWNERS, body(name="local")),
    f"POST {_P}compute/<slug:name>/delete/": (OWNERS, body(kind=FORM, name="local")),
    f"GET {_P}compute/<slug:name>/edit/": (OWNERS, body(name="local")),
    f"POST {_P}compute/<slug:name>/edit/": (OWNERS, body(kind=FORM, name="local")),
    f"POST {_P}compute/<slug:name>/host-key/": (OWNERS, body(kind=FORM, name="local")),
    # This machine's own processes have no images.
    f"GET {_P}compute/<slug:name>/images/": (("login", 404, 404, 404, 404, "login"), body(name="local")),
    f"GET {_P}compute/<slug:name>/images/prune/": (("login", 404, 403, 403, 404, "login"), body(name="local")),
    f"POST {_P}compute/<slug:name>/images/prune/": (
        ("login", 404, 403, 403, 404, "login"),
        body(kind=FORM, name="local"),
    ),
    f"GET {_P}compute/attach/": (OWNERS, body()),
    f"POST {_P}compute/attach/": (OWNERS, body(kind=FORM)),
    f"GET {_P}environments/": (PAGE, body()),
    f"GET {_P}environments/<str:name>/": (PAGE, body(name="system")),
    f"GET {_P}environments/<str:name>/<int:version>/": (PAGE, body(name="system", version=1)),
    f"POST {_P}environments/<str:name>/<int:version>/prepare/": (
        EDIT,
        body(raw=b"target=local", kind=FORM, name="system", version=1),
    ),
    f"POST {_P}environments/check/": (EDIT, body(kind=FORM)),
    f"GET {_P}environments/new/": (EDIT, body()),
    f"POST {_P}environments/new/": (EDIT_PAST, body(kind=FORM)),
    f"GET {_P}experiments/": (PAGE, body()),
    f"GET {_P}experiments/<str:name>/": (PAGE, body(name="iris")),
    f"POST {_P}experiments/<str:name>/archive/": (EDIT, body(kind=FORM, name="iris")),
    f"GET {_P}members/": (PAGE, body()),
    f"POST {_P}members/": (EDIT, body(kind=FORM)),
    f"POST {_P}members/<int:user_id>/remove/": (OWNERS, body(kind=FORM)),
    f"POST {_P}members/<int:user_id>/role/": (OWNERS, body(kind=FORM)),
    f"POST {_P}members/invitations/<int:invitation_id>/revoke/": (OWNERS, body(kind=FORM)),
    f"POST {_P}members/invite/": (OWNERS_PAST, body(kind=FORM)),
    f"POST {_P}members/principals/": (OWNERS_PAST, body(kind=FORM)),
    f"POST {_P}members/principals/<int:principal_id>/delete/": (OWNERS, body(kind=FORM, principal_id="$principal_id")),
    f"POST {_P}members/principals/<int:principal_id>/rotate/": (OWNERS, body(kind=FORM, principal_id="$principal_id")),
    f"GET {_P}runs/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/": (PAGE, body()),
    f"POST {_P}runs/<str:run_id>/archive/": (EDIT, body(kind=FORM)),
    f"POST {_P}runs/<str:run_id>/cancel/": (EDIT, body(kind=FORM)),
    f"GET {_P}runs/<str:run_id>/code/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/code/files/<file:path>": (PAGE, body(path="train.py")),
    f"GET {_P}runs/<str:run_id>/code/zip/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/delete/": (EDIT, body()),
    f"POST {_P}runs/<str:run_id>/delete/": (EDIT_PAST, body(kind=FORM)),
    f"GET {_P}runs/<str:run_id>/details/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/details/json/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/environment/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/files/<file:path>": (PAGE, body(path="outputs/model.txt")),
    f"GET {_P}runs/<str:run_id>/live/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/metrics/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/metrics/others/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/metrics/series/": (PAGE, body()),
    f"POST {_P}runs/<str:run_id>/notes/": (EDIT, body(kind=FORM)),
    f"GET {_P}runs/<str:run_id>/outputs/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/outputs/tree/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/outputs/zip/": (PAGE, body()),
    f"GET {_P}runs/<str:run_id>/overview/": (PAGE, body()),
    f"POST {_P}runs/<str:run_id>/rename/": (EDIT, body(kind=FORM)),
    f"GET {_P}runs/<str:run_id>/resubmit/": (EDIT, body()),
    f"POST {_P}runs/<str:run_id>/resubmit/": (EDIT_PAST, body(kind=FORM)),
    f"POST {_P}runs/<str:run_id>/tags/": (EDIT, body(kind=FORM)),
    f"POST {_P}runs/bulk/": (PAGE, body(kind=FORM)),
    f"GET {_P}runs/delete/": (("login", 404, 403, 404, 404, "login"), body()),
    f"POST {_P}runs/delete/": (("login", 404, 403, 404, 404, "login"), body(kind=FORM)),
    f"GET {_P}runs/live/": (PAGE, body()),
    f"GET {_P}runs/new/": (EDIT, body()),
    f"POST {_P}runs/new/": (EDIT_PAST, body(kind=FORM)),
    f"GET {_P}runs/new/arguments/": (EDIT, body()),
    f"POST {_P}runs/new/packages/": (EDIT, body(kind=FORM)),
    f"POST {_P}runs/new/upload/": (EDIT_PAST, body(kind=FORM)),
    f"GET {_P}settings/": (OWNERS, body()),
    f"POST {_P}settings/": (OWNERS_PAST, body(kind=FORM)),
    f"GET {_P}settings/containers/": (OWNERS, body()),
    f"POST {_P}settings/containers/": (OWNERS, body(kind=FORM)),
    f"POST {_P}settings/containers/registries/": (OWNERS_PAST, body(kind=FORM)),
    f"POST {_P}settings/containers/registries/<int:registry_id>/push/": (NO_REGISTRY, body(kind=FORM, registry_id=1)),
    f"POST {_P}settings/containers/registries/<int:registry_id>/remove/": (NO_REGISTRY, body(kind=FORM, registry_id=1)),
    f"POST {_P}settings/containers/registries/<int:registry_id>/test/": (NO_REGISTRY, body(kind=FORM, registry_id=1)),
    f"GET {_P}units/<str:key>/log/": (PAGE, body(key="$unit")),
    f"GET {_P}units/<str:key>/log/line/": (PAGE, body(key="$unit")),
    f"GET {_P}units/<str:key>/log/line/<int:line>/": (PAGE, body(key="$unit", line="1")),
    f"GET {_P}units/<str:key>/log/search/": (PAGE_PAST, body(key="$unit")),
    "GET workspaces/new/": (ADMIN, body()),
    "POST workspaces/new/": (ADMIN, body(kind=FORM)),
    f"GET {_P}endpoints/": (PAGE, body()),
    f"GET {_P}endpoints/<slug:name>/": (PAGE, body(name="iris-service")),
    f"POST {_P}endpoints/<slug:name>/delete/": (EDIT, body(kind=FORM, name="iris-service")),
    f"GET {_P}endpoints/<slug:name>/keys/": (PAGE, body(name="iris-service")),
    f"POST {_P}endpoints/<slug:name>/keys/": (EDIT, body(kind=FORM, name="iris-service")),
    f"GET {_P}endpoints/<slug:name>/logs/": (PAGE, body(name="iris-service")),
    f"POST {_P}endpoints/<slug:name>/start/": (EDIT_PAST, body(kind=FORM, name="iris-service")),
    f"POST {_P}endpoints/<slug:name>/stop/": (EDIT, body(kind=FORM, name="iris-service")),
    f"GET {_P}endpoints/<slug:name>/swagger/": (PAGE, body(name="iris-service")),
    f"GET {_P}endpoints/<slug:name>/test/": (PAGE, body(name="iris-service")),
    f"POST {_P}endpoints/<slug:name>/test/": (PAGE, body(kind=FORM, name="iris-service")),
    f"GET {_P}endpoints/deploy/": (EDIT, body()),
    f"POST {_P}endpoints/deploy/": (EDIT, body(kind=FORM)),
    f"GET {_P}models/": (PAGE, body()),
    f"GET {_P}models/<str:name>/": (PAGE, body(name="iris")),
    f"GET {_P}models/<str:name>/<int:version>/": (PAGE, body(name="iris")),
    f"GET {_P}models/<str:name>/<int:version>/delete/": (EDIT, body(name="iris")),
    f"POST {_P}models/<str:name>/<int:version>/delete/": (EDIT_PAST, body(kind=FORM, name="iris")),
    f"GET {_P}models/<str:name>/<int:version>/edit/": (EDIT, body(name="iris")),
    f"POST {_P}models/<str:name>/<int:version>/edit/": (EDIT, body(kind=FORM, name="iris")),
    f"GET {_P}models/<str:name>/<int:version>/files/<file:path>": (PAGE, body(name="iris", path="model.txt")),
    f"GET {_P}models/<str:name>/<int:version>/zip/": (PAGE, body(name="iris")),
    f"POST {_P}models/<str:name>/archive/": (EDIT, body(kind=FORM, name="iris")),
    f"GET {_P}models/register/": (EDIT, body()),
    f"POST {_P}models/register/": (EDIT, body(kind=FORM)),
    f"GET {_P}models/register/version/": (EDIT, body()),
    f"GET {_P}models/upload/": (EDIT, body()),
    f"POST {_P}models/upload/": (EDIT, body(kind=FORM)),
    # Datasets and the wizard; a draft is open to whoever began it alone
    f"GET {_P}datasets/<str:name>/": (PAGE, body(name="iris")),
    f"POST {_P}datasets/<str:name>/": (EDIT, body(raw=b"description=New", kind=FORM, name="iris")),
    f"GET {_P}datasets/<str:name>/consume/": (PAGE, body(name="iris")),
    f"GET {_P}datasets/<str:name>/lineage/": (PAGE, body(name="iris")),
    f"GET {_P}datasets/<str:name>/preview/": (PAGE, body(name="iris")),
    f"GET {_P}datasets/<str:name>/preview/rows/": (PAGE, body(name="iris")),
    f"GET {_P}datasets/<str:name>/profile/": (PAGE, body(name="iris")),
    f"POST {_P}datasets/<str:name>/profile/": (EDIT, body(kind=FORM, name="iris")),
    f"POST {_P}datasets/<str:name>/profile/cancel/": (EDIT, body(kind=FORM, name="iris")),
    f"GET {_P}data/<uuid:key>/": (PAGE, body(key="$id")),
    f"POST {_P}data/<uuid:key>/": (EDIT, body(raw=b"description=New", kind=FORM, key="$id")),
    f"GET {_P}data/<uuid:key>/consume/": (PAGE, body(key="$id")),
    f"GET {_P}data/<uuid:key>/lineage/": (PAGE, body(key="$id")),
    f"GET {_P}data/<uuid:key>/preview/": (PAGE, body(key="$id")),
    f"GET {_P}data/<uuid:key>/preview/rows/": (PAGE, body(key="$id")),
    f"GET {_P}data/<uuid:key>/profile/": (PAGE, body(key="$id")),
    f"POST {_P}data/<uuid:key>/profile/": (EDIT, body(kind=FORM, key="$id")),
    f"POST {_P}data/<uuid:key>/profile/cancel/": (EDIT, body(kind=FORM, key="$id")),
    f"GET {_P}datastores/": (PAGE, body()),
    f"GET {_P}datastores/new/": (OWNERS, body()),
    f"POST {_P}datastores/new/": (OWNERS_PAST, body(kind=FORM)),
    f"GET {_P}datastores/<slug:name>/": (PAGE, body(name=_STORE)),
    f"POST {_P}datastores/<slug:name>/check/": (EDIT, body(kind=FORM, name=_STORE)),
    f"POST {_P}datastores/<slug:name>/default/": (OWNERS, body(kind=FORM, name="spare")),
    f"POST {_P}datastores/<slug:name>/delete/": (EDIT, body(raw=b"entry=iris/none.csv", kind=FORM, name=_STORE)),
    f"GET {_P}datastores/<slug:name>/edit/": (OWNERS, body(name="spare")),
    f"POST {_P}datastores/<slug:name>/edit/": (OWNERS_PAST, body(kind=FORM, name="spare")),
    f"GET {_P}datastores/<slug:name>/remove/": (OWNERS, body(name="spare")),
    f"POST {_P}datastores/<slug:name>/remove/": (OWNERS, body(kind=FORM, name="spare")),
    f"GET {_P}datasets/": (PAGE, body()),
    f"GET {_P}datasets/<str:name>/versions/": (PAGE, body(name="iris")),
    f"GET {_P}datasets/<str:name>/versions/<int:version>/": (PAGE, body(name="iris", version=1)),
    f"POST {_P}datasets/<str:name>/archive/": (EDIT, body(kind=FORM, name="iris")),
    f"GET {_P}datasets/<str:name>/delete/": (EDIT, body(name="iris")),
    f"POST {_P}datasets/<str:name>/delete/": (EDIT, body(kind=FORM, name="iris")),
    f"GET {_P}data/new/": (EDIT, body()),
    f"GET {_P}data/new/<uuid:draft>/files/": (DRAFT, body(draft="$draft")),
    f"POST {_P}data/new/<uuid:draft>/files/": (DRAFT_PAST, body(kind=FORM, draft="$draft")),
    f"GET {_P}data/new/<uuid:draft>/files/folder/": (DRAFT, body(draft="$draft")),
    f"POST {_P}data/new/<uuid:draft>/files/matches/": (DRAFT, body(kind=FORM, draft="$draft")),
    f"GET {_P}data/new/<uuid:draft>/settings/": (DRAFT, body(draft="$draft")),
    f"POST {_P}data/new/<uuid:draft>/settings/": (DRAFT_PAST, body(kind=FORM, draft="$draft")),
    f"POST {_P}data/new/<uuid:draft>/settings/preview/": (DRAFT, body(kind=FORM, draft="$draft")),
    f"GET {_P}data/new/<uuid:draft>/columns/": (DRAFT, body(draft="$draft")),
    f"POST {_P}data/new/<uuid:draft>/columns/": (DRAFT_PAST, body(kind=FORM, draft="$draft")),
    f"POST {_P}data/new/<uuid:draft>/columns/preview/": (DRAFT, body(kind=FORM, draft="$draft")),
    f"GET {_P}data/new/<uuid:draft>/name/": (DRAFT, body(draft="$draft")),
    f"POST {_P}data/new/<uuid:draft>/name/": (DRAFT_PAST, body(kind=FORM, draft="$draft")),
}
