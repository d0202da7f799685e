"""The pages of members, tokens, invitations, the audit log and settings, for every kind of visitor."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from studio.accounts import policy, services, tokens
from studio.accounts.models import AuditEntry, Invitation, ServicePrincipal, Workspace


def _as(client, user):
    client.force_login(user)
    return client


def test_members_page_for_everybody(client, team):
    url = reverse("member-list", args=["main"])
    assert client.get(url).status_code == 302
    assert _as(client, team.outsider).get(url).status_code == 404
    page = _as(client, team.reader).get(url)
    assert page.status_code == 200
    assert b"Invite by link" not in page.content
    page = _as(client, team.owner).get(url)
    assert b"Invite by link" in page.content
    assert _as(client, team.owner).get("/w/nowhere/members/").status_code == 404


def test_members_page_costs_the_same_for_many(client, team, django_assert_max_num_queries):
    for number in range(15):
        tokens.principal_create(workspace=team.workspace, name=f"p{number}", role="reader", user=team.owner)
    _as(client, team.owner)
    with django_assert_max_num_queries(8):
        client.get(reverse("member-list", args=["main"]))


@pytest.mark.parametrize(
    ("name", "args", "data"),
    [
        ("member-invite", [], {"invite-role": "reader"}),
        ("principal-create", [], {"principal-name": "robot", "principal-role": "reader"}),
        ("member-role", [1], {"role": "owner"}),
        ("member-remove", [1], {}),
        ("invitation-revoke", [1], {}),
        ("principal-rotate", [1], {}),
        ("principal-delete", [1], {}),
    ],
)
def test_changes_are_for_owners(client, team, name, args, data):
    url = reverse(name, args=["main", *args])
    assert client.post(url, data).status_code == 302
    assert _as(client, team.outsider).post(url, data).status_code == 404
    assert _as(client, team.reader).post(url, data).status_code == 403
    assert _as(client, team.contributor).post(url, data).status_code == 403
    assert client.get(url).status_code == 405


def test_the_whole_way_of_an_invitation(client, team):
    page = _as(client, team.owner).post(reverse("member-invite", args=["main"]), {"invite-role": "contributor"})
    link = re.search(r"/invite/ati_[\w-]+/", page.content.decode()).group()
    again = client.get(reverse("member-list", args=["main"]))
    assert link not in again.content.decode()
    client.logout()
    page = client.get(link)
    assert page.status_code == 200
    assert b"Make an account" in page.content
    made = client.post(
        reverse("account_signup") + f"?next={link}",
        {
            "username": "newcomer",
            "email": "newcomer@example.test",
            "password1": "a-long-password-4-you",
            "password2": "a-long-password-4-you",
        },
    )
    assert made.status_code == 302, made.content.decode()
    assert made.headers["Location"] == link
    joined = client.post(link)
    assert joined.headers["Location"] == "/w/main/"
    assert policy.role_of(Invitation.objects.get().accepted_by, team.workspace) == "contributor"
    assert client.get(link).status_code == 404


def test_nobody_signs_up_without_an_invitation(client, db):
    page = client.post(reverse("account_signup"), {"username": "x", "email": "x@example.test"})
    assert b"By invitation" in page.content


def test_a_principal_s_secret_is_shown_once(client, team):
    url = reverse("principal-create", args=["main"])
    page = _as(client, team.owner).post(url, {"principal-name": "robot", "principal-role": "reader"})
    secret = re.search(r"ats_[\w-]+", page.content.decode()).group()
    assert tokens.token_exchange(str(ServicePrincipal.objects.get().client_id), secret)
    assert secret not in client.get(reverse("member-list", args=["main"])).content.decode()
    taken = client.post(url, {"principal-name": "robot", "principal-role": "reader"})
    assert taken.status_code == 422
    assert b"exists already" in taken.content


def test_tokens_page(client, team):
    url = reverse("token-list")
    assert client.get(url).status_code == 302
    page = _as(client, team.reader).post(url, {"name": "laptop", "days": "30"})
    secret = re.search(r"atp_[\w-]{30,}", page.content.decode()).group()
    assert tokens.user_from_token(secret) == team.reader
    assert secret not in client.get(url).content.decode()
    assert "no-store" in page.headers["Cache-Control"]
    assert client.post(url, {"name": "", "days": "30"}).status_code == 422
    mine = team.reader.tokens.get()
    assert _as(client, team.owner).post(reverse("token-revoke", args=[mine.pk])).status_code == 404
    _as(client, team.reader).post(reverse("token-revoke", args=[mine.pk]))
    assert tokens.user_from_token(secret) is None


def test_audit_log_is_for_owners_and_pages_by_key(client, team, django_assert_max_num_queries):
    for number in range(120):
        services.audit(team.owner, "run.submit", workspace=team.workspace, label=f"run {number}")
    url = reverse("audit-log", args=["main"])
    assert _as(client, team.reader).get(url).status_code == 403
    assert _as(client, team.outsider).get(url).status_code == 404
    _as(client, team.owner)
    seen, target = [], url
    with django_assert_max_num_queries(21):
        while target:
            page = client.get(target)
            seen += [entry.pk for entry in page.context["page"].items]
            cursor = page.context["page"].next
            target = f"{url}?cursor={cursor}" if cursor else None
    assert seen == list(
        AuditEntry.objects.filter(workspace=team.workspace).order_by("-id").values_list("pk", flat=True)
    )
    assert len(client.get(url, {"q": "run 117"}).context["page"].items) == 1
    assert client.get(url, {"cursor": "rubbish"}).status_code == 422


def test_settings_are_for_owners_and_keep_what_was_typed(client, team):
    url = reverse("workspace-settings", args=["main"])
    assert _as(client, team.contributor).get(url).status_code == 403
    assert _as(client, team.outsider).get(url).status_code == 404
    _as(client, team.owner)
    bad = client.post(url, {"title": "T", "snapshot_max_mb": "0"})
    assert bad.status_code == 422
    assert client.post(url, {"title": "Vision", "snapshot_max_mb": "10", "strict_python": "on"}).status_code == 302
    workspace = Workspace.objects.get(name="main")
    assert workspace.title == "Vision"
    assert workspace.preferences == {"strict_python": True, "snapshot_max_bytes": 10 * 2**20}


def test_only_site_administrators_make_workspaces(client, team):
    url = reverse("workspace-new")
    assert _as(client, team.owner).get(url).status_code == 403
    team.owner.is_superuser = True
    team.owner.save()
    assert client.post(url, {"name": "Second one"}).status_code == 422
    assert client.post(url, {"name": "second", "title": "Second"}).headers["Location"] == "/w/second/"


def test_pages_carry_the_strict_policy(client, team):
    page = _as(client, team.owner).get(reverse("member-list", args=["main"]))
    policy_text = page.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy_text
    assert "unsafe" not in policy_text
    text = page.content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)", text)
    assert not re.search(r"\son[a-z]+=|\sstyle=", text)
