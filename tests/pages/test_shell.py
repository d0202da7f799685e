"""The frame of every page: navigation by role, theme, errors, sign-in, and the home page."""

from __future__ import annotations

import re

import pytest
from django.template import engines
from django.test import Client
from django.utils import timezone

from studio import nav
from studio.accounts.models import User, Workspace
from studio.accounts.policy import Right

pytestmark = pytest.mark.django_db

HOME = "/w/main/"


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def links(html: str) -> list[str]:
    return re.findall(r'class="at-nav-link" href="([^"]+)"', html)


@pytest.mark.parametrize("person", ["owner", "contributor", "reader"])
def test_every_entry_of_the_menu_leads_somewhere(team, person):
    client = signed_in(getattr(team, person))
    entries = links(client.get(HOME).content.decode())
    assert entries[0] == HOME
    assert {href: client.get(href).status_code for href in entries} == dict.fromkeys(entries, 200)


def test_the_menu_follows_the_role(team):
    seen = {
        person: links(signed_in(getattr(team, person)).get(HOME).content.decode())
        for person in ("owner", "contributor", "reader")
    }
    assert "/w/main/audit/" in seen["owner"] and "/w/main/settings/" in seen["owner"]
    assert "/w/main/audit/" not in seen["contributor"] and "/w/main/runs/new/" in seen["contributor"]
    assert "/w/main/runs/new/" not in seen["reader"] and "/w/main/runs/" in seen["reader"]


@pytest.mark.parametrize(
    ("path", "active"),
    [
        ("/w/main/", "/w/main/"),
        ("/w/main/runs/new/", "/w/main/runs/new/"),
        ("/w/main/runs/abc_1/", "/w/main/runs/"),
        ("/w/main/compare/", "/w/main/runs/"),
        ("/w/main/compute/local/edit/", "/w/main/compute/"),
        ("/w/main/nothing/", None),
    ],
)
def test_the_longest_prefix_is_the_active_entry(path, active):
    items = [item for section in nav.navigation("/w/main/", path, frozenset(Right)) for item in section.items]
    assert [item.href for item in items if item.active] == ([active] if active else [])


def test_outsiders_and_strangers_see_nothing_of_a_workspace(team):
    assert signed_in(team.outsider).get(HOME).status_code == 404
    assert signed_in(team.owner).get("/w/nowhere/").status_code == 404
    answer = Client().get(HOME)
    assert answer.status_code == 302 and answer["Location"].startswith("/account/login/")


def test_home_offers_the_first_steps_by_role(team):
    page = signed_in(team.owner).get(HOME)
    assert b"First steps" in page.content and b"Invite your team" in page.content
    assert b"Invite your team" not in signed_in(team.reader).get(HOME).content
    assert b"New run" not in signed_in(team.reader).get(HOME).content


def make_run(team, number: int, status: str = "Completed", **columns):
    from runs.models import Experiment, Run

    experiment, _made = Experiment.objects.get_or_create(workspace=team.workspace, name="iris")
    return Run.objects.create(
        run_id=f"iris_{number}",
        key=f"{number:032x}",
        workspace=team.workspace,
        experiment=experiment,
        number=number,
        status=status,
        created_by=team.contributor,
        **columns,
    )


def test_home_counts_and_lists_the_runs(team):
    for number in range(3):
        make_run(team, number)
    make_run(team, 7, "Running", started_at=timezone.now(), name="wider <crop>")
    html = signed_in(team.reader).get(HOME).content.decode()
    assert "At work now" in html and "wider &lt;crop&gt;" in html
    assert re.search(r"Running</span>\s*<span class=\"at-stat-value\">1</span>", html)
    assert re.search(r"Completed</span>\s*<span class=\"at-stat-value\">3</span>", html)


def test_home_costs_the_same_whatever_the_number_of_runs(team, django_assert_max_num_queries):
    client = signed_in(team.owner)
    client.get(HOME)
    for number in range(12):
        make_run(team, number, "Running" if number % 3 else "Completed", started_at=timezone.now())
    with django_assert_max_num_queries(32):
        client.get(HOME)
    with django_assert_max_num_queries(22):
        part = client.get(HOME, headers={"HX-Request": "true"})
    assert part.content.lstrip().startswith(b"<div") and b"<html" not in part.content


@pytest.mark.parametrize(
    ("cookie", "attribute"), [("dark", b'data-bs-theme="dark"'), ("light", b'data-bs-theme="light"')]
)
def test_the_theme_is_in_the_first_byte(team, cookie, attribute):
    client = signed_in(team.reader)
    assert b"data-bs-theme" not in client.get(HOME).content.split(b">", 2)[1]
    client.cookies["theme"] = cookie
    assert attribute in client.get(HOME).content
    client.cookies["theme"] = '"><script>'
    assert b'data-theme="auto"' in client.get(HOME).content


def test_pages_hold_nothing_that_the_content_policy_forbids(team):
    client = signed_in(team.owner)
    for path in (HOME, "/account/email/", "/account/2fa/", "/account/password/change/", "/w/none/"):
        html = client.get(path).content.decode()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|hx-on", html), path
        assert not re.search(r"<script(?![^>]*\b(src=|type=\"application/json\"))", html), path
        assert "https://" not in re.sub(r'value="https://[^"]*"', "", html), path


@pytest.mark.parametrize(
    "path",
    [
        "/account/login/",
        "/account/password/reset/",
        "/account/password/reset/done/",
        "/account/signup/",
        "/account/inactive/",
    ],
)
def test_entrance_pages_wear_the_look(path):
    page = Client().get(path)
    assert page.status_code == 200 and b"at-entrance" in page.content


@pytest.mark.parametrize(
    "path", ["/account/email/", "/account/password/change/", "/account/2fa/", "/account/logout/", "/account/3rdparty/"]
)
def test_account_pages_wear_the_look(team, path):
    page = signed_in(team.reader).get(path)
    assert page.status_code == 200 and b"atelier.css" in page.content and b"<h1" in page.content


def test_signing_in_and_out_by_the_forms(team):
    client = Client()
    wrong = client.post("/account/login/", {"login": "reader", "password": "no"})
    assert wrong.status_code == 200 and b'role="alert"' in wrong.content
    assert client.post("/account/login/", {"login": "reader", "password": "correct-horse-battery"}).status_code == 302
    assert client.get(HOME).status_code == 200
    client.post("/account/logout/")
    assert client.get(HOME).status_code == 302


def test_somebody_without_a_workspace_is_told_what_to_do(db):
    lonely = User.objects.create_user("lonely", "lonely@example.test", "correct-horse-battery")
    page = signed_in(lonely).get("/")
    assert page.status_code == 200 and b"not in a workspace yet" in page.content


def test_errors_are_pages_and_for_htmx_parts(team):
    client = signed_in(team.reader)
    page = client.get("/w/main/audit/")
    assert page.status_code == 403 and b"<html" in page.content and b"at-error" in page.content
    part = client.get("/w/main/audit/", headers={"HX-Request": "true"})
    assert part.status_code == 403 and b"<html" not in part.content and b"data-error-detail" in part.content


@pytest.mark.parametrize("name", ["404.html", "403.html", "500.html", "403_csrf.html"])
def test_error_pages_need_no_request(name):
    assert "Atelier" in engines["django"].get_template(name).render()


def test_workspaces_of_others_are_not_in_the_switcher(team):
    Workspace.objects.create(name="secret", title="Secret plans")
    assert b"Secret plans" not in signed_in(team.owner).get(HOME).content


def test_the_second_factor_is_turned_on_and_asked_for(team):
    from allauth.mfa.totp.internal import auth as totp

    client = Client()
    client.post("/account/login/", {"login": "reader", "password": "correct-horse-battery"})
    proof = client.get("/account/2fa/totp/activate/", follow=True)
    assert b"Confirm that it is you" in proof.content
    page = client.post(
        proof.request["PATH_INFO"] + "?" + proof.request["QUERY_STRING"],
        {"password": "correct-horse-battery"},
        follow=True,
    )
    secret = page.context["form"].secret
    assert page.status_code == 200 and secret.encode() in page.content
    wrong = client.post("/account/2fa/totp/activate/", {"code": "nonsense"})
    assert b"aria-invalid" in wrong.content
    secret = wrong.context["form"].secret
    code = totp.format_hotp_value(totp.hotp_value(secret, int(timezone.now().timestamp()) // 30))
    codes = client.post("/account/2fa/totp/activate/", {"code": code}, follow=True)
    assert codes.redirect_chain and b"recovery-codes" in codes.content
    assert b"10 of 10 left" in client.get("/account/2fa/").content
    client.post("/account/logout/")
    asked = client.post("/account/login/", {"login": "reader", "password": "correct-horse-battery"}, follow=True)
    assert b"One more step" in asked.content and client.get(HOME).status_code == 302


def test_the_sign_in_page_offers_the_configured_provider(settings, db):
    app = {
        "provider_id": "oidc",
        "name": "Corp SSO",
        "client_id": "x",
        "secret": "y",
        "settings": {"server_url": "https://id.test"},
    }
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
    page = Client().get("/account/login/")
    assert b"Continue with Corp SSO" in page.content and b"/account/oidc/oidc/login/" in page.content
    ask = Client().get("/account/oidc/oidc/login/")
    assert ask.status_code == 200 and b"at-entrance" in ask.content
