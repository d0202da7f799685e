"""Signing in to the API, and the people's part of it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from studio.accounts.models import AuditEntry, Token
from tests.api.conftest import API, WS, World, bearer

pytestmark = pytest.mark.django_db


class TestAuthentication:
    def test_no_token(self, client: Client, check_problem: Any) -> None:
        response = client.get(f"{API}/me")
        check_problem(response, 401)
        assert response["WWW-Authenticate"].startswith("Bearer")

    @pytest.mark.parametrize("token", ["atp_wrong", "", "x", "atu_" + "a" * 40, "\u00e9"])
    def test_wrong_token(self, token: str, check_problem: Any) -> None:
        check_problem(bearer(token).get(f"{API}/me"), 401)

    def test_expired_and_revoked(self, team: Any, people: dict[str, str]) -> None:
        reader = bearer(people["reader"])
        assert reader.get(f"{API}/me").status_code == 200
        Token.objects.filter(user=team.reader).update(expires_at=timezone.now() - dt.timedelta(seconds=1))
        assert reader.get(f"{API}/me").status_code == 401
        Token.objects.filter(user=team.reader).update(expires_at=None, revoked_at=timezone.now())
        assert reader.get(f"{API}/me").status_code == 401

    def test_session_reads_and_writes_with_csrf(self, team: Any, check_problem: Any) -> None:
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(team.owner, backend="django.contrib.auth.backends.ModelBackend")
        assert browser.get(f"{API}/me").json()["user"]["username"] == "owner"
        body = {"data": '{"title": "New"}', "content_type": "application/json"}
        check_problem(browser.patch(WS, **body), 403)
        browser.get(f"{API}/docs")
        token = browser.cookies["csrftoken"].value
        assert browser.patch(WS, **body, headers={"X-CSRFToken": token}).status_code == 200

    def test_a_wrong_token_does_not_fall_back_to_the_session(self, team: Any) -> None:
        browser = Client()
        browser.force_login(team.owner, backend="django.contrib.auth.backends.ModelBackend")
        assert browser.get(f"{API}/me", headers={"authorization": "Bearer nothing"}).status_code == 401
        assert browser.get(f"{API}/me", headers={"authorization": "Basic abc"}).status_code == 401

    def test_principal_by_json_and_form(self, world: World) -> None:
        given = {"client_id": str(world.principal.client_id), "client_secret": world.principal_secret}
        form = Client().post(f"{API}/token", {**given, "grant_type": "client_credentials"})
        assert form.status_code == 422  # multipart is no form of OAuth 2
        encoded = "&".join(f"{key}={value}" for key, value in {**given, "grant_type": "client_credentials"}.items())
        form = Client().post(f"{API}/token", encoded, content_type="application/x-www-form-urlencoded")
        answer = Client().post(f"{API}/token", given, content_type="application/json")
        for response in (form, answer):
            body = response.json()
            assert body["token_type"] == "Bearer" and body["expires_in"] == 3600
            caller = bearer(body["access_token"])
            assert caller.get(f"{API}/me").json()["user"]["is_service"]
            assert caller.get(f"{WS}/runs").status_code == 200
            assert caller.post(f"{API}/me/tokens", {"name": "x"}, content_type="application/json").status_code == 403

    def test_principal_with_wrong_secret(self, world: World, check_problem: Any) -> None:
        given = {"client_id": str(world.principal.client_id), "client_secret": "no"}
        check_problem(Client().post(f"{API}/token", given, content_type="application/json"), 401)


class TestProblems:
    def test_not_found_and_method(self, world: World, check_problem: Any) -> None:
        check_problem(world.clients["owner"].get(f"{API}/nothing/here"), 404)
        refused = world.clients["owner"].put(f"{API}/me")
        check_problem(refused, 405)
        assert refused["Allow"] == "GET"

    def test_every_wrong_field_is_named(self, world: World, check_problem: Any) -> None:
        body = check_problem(world.send("owner", "POST", "/invitations", {"role": "king", "days": "x", "nme": 1}), 422)
        assert set(body["errors"]) == {"role", "days", "nme"}

    def test_broken_json(self, world: World, check_problem: Any) -> None:
        broken = world.clients["owner"].post(f"{WS}/runs", "{", content_type="application/json")
        check_problem(broken, 400)

    def test_unexpected_error_shows_no_trace(self, world: World, check_problem: Any, monkeypatch: Any) -> None:
        from studio.api.v1 import accounts

        def broken(*_args: Any) -> None:
            raise RuntimeError("the password is hunter2")

        monkeypatch.setattr(accounts, "_mine", broken)
        body = check_problem(world.clients["owner"].get(f"{API}/me"), 500)
        assert "hunter2" not in str(body)

    def test_forged_cursor(self, world: World, check_problem: Any) -> None:
        for path in ("/members", "/runs", "/experiments", "/models", "/endpoints", "/environments", "/audit"):
            for cursor in ("x", "e30", "WzFd", "WyJhIl0", "W251bGxd", "WzFlNDAwXQ"):
                response = world.get("owner", f"{path}?cursor={cursor}")
                assert response.status_code in (200, 422), (path, cursor)


class TestWorkspaces:
    def test_me_and_list(self, world: World) -> None:
        me = world.clients["reader"].get(f"{API}/me").json()
        assert [one["name"] for one in me["workspaces"]] == ["main"] and me["workspaces"][0]["role"] == "reader"
        assert [one["name"] for one in world.clients["outsider"].get(f"{API}/workspaces").json()["items"]] == [
            "elsewhere"
        ]

    def test_site_administrator_makes_one(self, world: World) -> None:
        type(world.team.owner).objects.filter(pk=world.team.owner.pk).update(is_superuser=True)
        made = world.clients["owner"].post(f"{API}/workspaces", {"name": "third"}, content_type="application/json")
        assert made.status_code == 201 and made.json()["role"] == "owner"
        again = world.clients["owner"].post(f"{API}/workspaces", {"name": "third"}, content_type="application/json")
        assert again.status_code == 409

    def test_members(self, world: World) -> None:
        first = world.get("reader", "/members?limit=2").json()
        rest = world.get("reader", f"/members?limit=2&cursor={first['next']}").json()
        names = [one["user"]["username"] for one in first["items"] + rest["items"]]
        assert names[:3] == ["owner", "contributor", "reader"] and len(names) == 4 and rest["next"] is None
        reader = world.team.reader.pk
        assert (
            world.send("owner", "PATCH", f"/members/{reader}", {"role": "contributor"}).json()["role"] == "contributor"
        )
        assert world.send("owner", "DELETE", f"/members/{reader}").status_code == 204
        assert world.get("reader", "").status_code == 404
        assert world.send("owner", "DELETE", f"/members/{world.team.owner.pk}").status_code == 409

    def test_invitation_link_is_shown_once(self, world: World) -> None:
        made = world.send("owner", "POST", "/invitations", {"role": "reader", "email": "new@example.test"}).json()
        assert "/invite/ati_" in made["link"]
        assert "link" not in world.get("owner", "/invitations").json()["items"][0]
        assert world.send("owner", "DELETE", f"/invitations/{made['id']}").status_code == 204
        assert world.send("owner", "POST", "/invitations", {"role": "reader", "email": "x"}).status_code == 422

    @pytest.mark.parametrize("name", ["a\0b", "\u202etest", "two\nlines"])
    def test_names_with_control_characters_are_refused(self, world: World, check_problem: Any, name: str) -> None:
        answers = {
            "name": world.send("owner", "POST", "/service-principals", {"name": name, "role": "reader"}),
            "title": world.send("owner", "PATCH", "", {"title": name}),
        }
        answers["tags"] = world.send("contributor", "PATCH", f"/runs/{world.run.run_id}", {"tags": {name: "1"}})
        for field, answer in answers.items():
            body = check_problem(answer, 422)
            assert list(body["errors"]) == [field] and "control character" in body["detail"]

    def test_principals(self, world: World) -> None:
        made = world.send("owner", "POST", "/service-principals", {"name": "weekly", "role": "contributor"})
        assert made.status_code == 201 and made.json()["client_secret"].startswith("ats_")
        rotated = world.send("owner", "POST", "/service-principals/weekly/rotate").json()
        assert rotated["client_secret"] != made.json()["client_secret"]
        assert world.send("owner", "DELETE", "/service-principals/weekly").status_code == 204
        assert [one["name"] for one in world.get("owner", "/service-principals").json()["items"]] == ["nightly"]

    def test_tokens(self, world: World) -> None:
        owner = world.clients["owner"]
        made = owner.post(f"{API}/me/tokens", {"name": "laptop", "days": 1}, content_type="application/json").json()
        assert bearer(made["token"]).get(f"{API}/me").status_code == 200
        assert "token" not in owner.get(f"{API}/me/tokens").json()["items"][0]
        assert owner.delete(f"{API}/me/tokens/{made['id']}").status_code == 204
        assert bearer(made["token"]).get(f"{API}/me").status_code == 401

    def test_audit_names_who_did_what(self, world: World) -> None:
        world.send("owner", "PATCH", "", {"description": "All of it", "preferences": {"strict_python": True}})
        entry = world.get("owner", "/audit").json()["items"][0]
        assert entry["action"] == "workspace.update" and entry["actor"] == "owner" and entry["address"] == "127.0.0.1"
        assert AuditEntry.objects.count() == len(world.get("owner", "/audit?limit=500").json()["items"]) + _elsewhere()


def _elsewhere() -> int:
    return AuditEntry.objects.exclude(workspace__name="main").count()
