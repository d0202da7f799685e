"""Registries of images: their credentials, their test, and images that come from there and go there."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from compute.models import ContainerRegistry
from compute.services import registries
from studio.lib import secrets as locks
from studio.lib.errors import Conflict, Invalid
from tests.gear.container_registry import PASSWORD, USER, Registry
from tests.images.conftest import Done, Index

Build = Callable[..., Done]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    made = Registry(tmp_path_factory.mktemp("registry"))
    yield made
    made.stop()


@pytest.mark.django_db
def test_credentials_are_encrypted_and_one_registry_gets_what_is_built(team: Any) -> None:
    def make(address: str, **more: Any) -> ContainerRegistry:
        return registries.registry_create(workspace=team.workspace, user=team.owner, address=address, **more)

    first = make("Example.org:5000/team/", username="u", password="hidden-word", push=True)
    assert first.address == "Example.org:5000/team" and "hidden-word" not in first.password
    assert locks.decrypt(first.password) == "hidden-word"
    second = make("hub.docker.com", push=True)
    first.refresh_from_db()
    assert (second.address, second.push, first.push) == ("docker.io", True, False)
    with pytest.raises(Conflict):
        make("docker.io")
    for wrong in ("https://example.org", "nohost", "", "exa mple.org", "example.org/UPPER"):
        with pytest.raises(Invalid) as caught:
            make(wrong)
        assert "address" in caught.value.errors
    with pytest.raises(Invalid):
        make("other.example", password="x")
    registries.registry_update(first, user=team.owner, push=True)
    second.refresh_from_db()
    assert first.push and not second.push and locks.decrypt(first.password) == "hidden-word"
    # A password stays with the name that it was given for.
    assert registries.registry_update(first, user=team.owner, username="other").password == ""
    registries.registry_delete(first, user=team.owner)
    assert [one.address for one in ContainerRegistry.objects.filter(workspace=team.workspace)] == ["docker.io"]


@pytest.mark.django_db
def test_the_base_image_of_a_workspace(team: Any, settings: Any) -> None:
    from compute.env_services import base_image_for

    registries.base_image_set(team.workspace, "example.org/base:1", user=team.owner)
    team.workspace.refresh_from_db()
    assert base_image_for(team.workspace) == "example.org/base:1"
    with pytest.raises(Invalid, match="is not the name of an image"):
        registries.base_image_set(team.workspace, "https://example.org/base", user=team.owner)
    registries.base_image_set(team.workspace, "", user=team.owner)
    assert base_image_for(team.workspace) == settings.ATELIER_BASE_IMAGE


class _Bearer(http.server.BaseHTTPRequestHandler):
    """A registry that sends people elsewhere for a token, as the public ones do."""

    seen: list[str] = []

    def do_GET(self) -> None:
        base = f"http://{self.headers['Host']}"
        self.seen.append(self.path)
        given = self.headers.get("Authorization", "")
        if self.path.startswith("/token"):
            good = given == "Basic c29tZW9uZTpjb3JyZWN0LWhvcnNl"
            self._answer(200 if good else 401, {"token": "t0ken"} if good else {})
        elif given == "Bearer t0ken":
            self._answer(200, {})
        else:
            self._answer(401, {}, f'Bearer realm="{base}/token",service="test"')

    def _answer(self, code: int, body: Any, challenge: str = "") -> None:
        self.send_response(code)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_words: Any) -> None: ...


@contextlib.contextmanager
def _served(kind: type[_Bearer]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_registry_that_gives_tokens() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Bearer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"127.0.0.1:{server.server_port}"
        assert registries.check(address, USER, PASSWORD) == []
        assert any("service=test" in path and "account=someone" in path for path in _Bearer.seen)
        assert [one.code for one in registries.check(address, USER, "wrong")] == ["credentials"]
        assert [one.code for one in registries.check(address, "", "")] == ["credentials"]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("realm", ["http://[", "here", "http://169.254.169.254/token"])
def test_a_registry_that_sends_the_studio_elsewhere(realm: str) -> None:
    """Where it says that one signs in: no address, or one to which the studio does not go."""

    class Hostile(_Bearer):
        def do_GET(self) -> None:
            self._answer(401, {}, f'Bearer realm="{realm}",service="x"')

    with _served(Hostile) as address:
        problems = registries.check(address, "ann", "hidden-word")
    assert [one.code for one in problems] in (["credentials"], ["unreachable"])
    assert "hidden-word" not in str(problems)


def test_a_token_without_an_end() -> None:
    class Endless(_Bearer):
        def do_GET(self) -> None:
            if self.path.startswith("/v2"):
                return self._answer(401, {}, f'Bearer realm="http://{self.headers["Host"]}/token"')
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b" " * 65536)

    with _served(Endless) as address:
        assert [one.code for one in registries.check(address, "ann", "x")] == ["credentials"]


def test_what_is_no_registry_or_is_not_there() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_words: None  # type: ignore[method-assign,assignment]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"127.0.0.1:{server.server_port}"
        assert [one.code for one in registries.check(address, "", "")] == ["no-registry"]
    finally:
        server.shutdown()
        server.server_close()
    silent = registries.check(address, "", "")
    assert silent[0].code == "unreachable" and "Connection refused" in silent[0].message
    assert "not allowed" in registries.check("169.254.169.254", "", "")[0].message


@pytest.mark.services
def test_a_real_registry_is_asked(registry: Registry) -> None:
    assert registries.check(registry.address, USER, PASSWORD) == []
    assert [one.code for one in registries.check(registry.address, USER, "wrong")] == ["credentials"]
    assert [one.code for one in registries.check(registry.address, "", "")] == ["credentials"]


def _credentials(registry: Registry) -> list[dict[str, str]]:
    return [{"address": registry.address, "username": USER, "password": PASSWORD}]


def _forget(engine: docker.APIClient, *images: str) -> None:
    for image in images:
        with contextlib.suppress(DockerException):
            engine.remove_image(image, force=True)


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_built_image_is_sent_and_the_next_engine_gets_it_from_there(
    build: Build, index: Index, registry: Registry, engine: docker.APIClient
) -> None:
    name = f"p{uuid.uuid4().hex[:8]}"
    index.add(name, "1.0")
    given: dict[str, Any] = {
        "packages": [name], "environ": index.environ, "registries": _credentials(registry),
        "options": {"push_to": registry.address},
    }  # fmt: skip
    first = build(**given)
    assert first.code == 0 and first.result["how"] == "built" and not first.result["warnings"], first.log
    assert "It is not there." in first.log and "Pushing" in first.log and PASSWORD not in first.log
    tags = [tag for one in engine.images() for tag in one["RepoTags"] or []]
    assert first.result["image"] in tags and not any(tag.startswith(registry.address) for tag in tags)
    _forget(engine, first.result["image"])
    second = build(**given)
    assert second.result["how"] == "pulled" and second.result["image_id"] == first.result["image_id"], second.log


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_push_that_fails_is_a_warning(build: Build, index: Index, registry: Registry) -> None:
    name = f"p{uuid.uuid4().hex[:8]}"
    index.add(name, "1.0")
    wrong = [{"address": registry.address, "username": USER, "password": "not-the-word"}]
    done = build(packages=[name], environ=index.environ, registries=wrong, options={"push_to": registry.address})
    assert done.code == 0 and "could not be sent" in done.result["warnings"][0], done.log


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_private_base_image_is_pulled_with_the_password(
    build: Build, registry: Registry, engine: docker.APIClient, base_image: str
) -> None:
    private = f"{registry.address}/team/base:{uuid.uuid4().hex[:8]}"
    repository, tag = private.rsplit(":", 1)
    engine.tag(base_image, repository, tag=tag)
    told = engine.push(repository, tag=tag, auth_config={"username": USER, "password": PASSWORD})
    assert "errorDetail" not in told
    _forget(engine, private)
    refused = build(dockerfile=f"FROM {private}\nRUN true\n")
    assert refused.code == 2 and refused.problems[0]["code"] == "base-missing", refused.log
    assert refused.problems[0]["line"] == 1
    try:
        done = build(dockerfile=f"FROM {private}\nRUN true\n", registries=_credentials(registry))
        assert done.code == 0 and f"Pulling {private}" in done.log, done.log
    finally:
        _forget(engine, private)
