"""Workspaces, roles, invitations, tokens and service principals."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from studio.accounts import policy, services, tokens
from studio.accounts.models import AuditEntry, Membership, Role, ServicePrincipal, Token, User
from studio.accounts.policy import Right
from studio.lib import secrets
from studio.lib.errors import AtelierError, Conflict, Forbidden, Invalid, NotAuthenticated, NotFound


def test_roles_have_their_rights(team):
    ws = team.workspace
    assert {r for r in Right if policy.can(team.owner, r, ws)} == set(Right)
    assert {r for r in Right if policy.can(team.contributor, r, ws)} == {Right.READ, Right.WRITE}
    assert {r for r in Right if policy.can(team.reader, r, ws)} == {Right.READ}
    assert not any(policy.can(team.outsider, r, ws) for r in Right)
    with pytest.raises(NotFound):
        policy.require(team.outsider, Right.READ, ws)
    with pytest.raises(Forbidden, match="Your role in main is reader"):
        policy.require(team.reader, Right.WRITE, ws)


def test_a_user_that_was_switched_off_has_no_role(team):
    team.owner.is_active = False
    team.owner.save()
    assert policy.role_of(team.owner, team.workspace) is None


@pytest.mark.parametrize("name", ["", "A", "Main", "1st", "with space", "x" * 64, "trailing/", "..", "é"])
def test_bad_workspace_names_are_refused_by_name(team, name):
    with pytest.raises(Invalid) as caught:
        services.workspace_create(name=name, user=team.owner)
    assert "name" in caught.value.errors


def test_a_taken_workspace_name_is_a_conflict(team):
    with pytest.raises(Conflict, match="exists already"):
        services.workspace_create(name="main", user=team.owner)


def test_the_last_owner_stays(team):
    with pytest.raises(Conflict, match="last owner"):
        services.member_set_role(workspace=team.workspace, user_id=team.owner.pk, role="reader", by=team.owner)
    with pytest.raises(Conflict, match="last owner"):
        services.member_remove(workspace=team.workspace, user_id=team.owner.pk, by=team.owner)
    services.member_set_role(workspace=team.workspace, user_id=team.contributor.pk, role="owner", by=team.owner)
    services.member_remove(workspace=team.workspace, user_id=team.owner.pk, by=team.contributor)
    assert policy.role_of(team.owner, team.workspace) is None


def test_a_service_principal_does_not_count_as_the_last_owner(team):
    tokens.principal_create(workspace=team.workspace, name="robot", role="owner", user=team.owner)
    with pytest.raises(Conflict):
        services.member_remove(workspace=team.workspace, user_id=team.owner.pk, by=team.owner)


def test_an_invitation_works_once(team):
    invitation, secret = services.invitation_create(workspace=team.workspace, role="reader", by=team.owner)
    assert secret not in str(invitation.__dict__)
    found = services.invitation_find(secret)
    services.invitation_accept(invitation=found, user=team.outsider)
    assert policy.role_of(team.outsider, team.workspace) == Role.READER
    with pytest.raises(NotFound, match="used already"):
        services.invitation_find(secret)
    other = User.objects.create_user("other", "other@example.test", "correct-horse-battery")
    with pytest.raises(NotFound, match="used already"):
        services.invitation_accept(invitation=found, user=other)
    assert policy.role_of(other, team.workspace) is None


def test_an_invitation_can_be_for_one_address_only(team):
    invitation, _ = services.invitation_create(
        workspace=team.workspace, role="reader", email="Somebody@Example.test", by=team.owner
    )
    with pytest.raises(Conflict, match="somebody@example.test"):
        services.invitation_accept(invitation=invitation, user=team.outsider)
    invitation.refresh_from_db()
    assert invitation.accepted_at is None


def test_a_member_who_accepts_again_loses_nothing(team):
    invitation, _ = services.invitation_create(workspace=team.workspace, role="reader", by=team.owner)
    with pytest.raises(Conflict, match="already a member"):
        services.invitation_accept(invitation=invitation, user=team.owner)
    assert policy.role_of(team.owner, team.workspace) == Role.OWNER
    invitation.refresh_from_db()
    assert invitation.accepted_at is None


def test_expired_and_revoked_invitations_say_so(team):
    invitation, secret = services.invitation_create(workspace=team.workspace, role="reader", by=team.owner)
    invitation.expires_at = timezone.now() - dt.timedelta(seconds=1)
    invitation.save()
    with pytest.raises(NotFound, match="expired"):
        services.invitation_find(secret)
    second, secret = services.invitation_create(workspace=team.workspace, role="reader", by=team.owner)
    services.invitation_revoke(workspace=team.workspace, invitation_id=second.pk, by=team.owner)
    with pytest.raises(NotFound, match="taken back"):
        services.invitation_find(secret)


def test_tokens_are_stored_as_digests_and_end(team):
    token, plain = tokens.token_create(user=team.reader, name="laptop", days=1)
    assert plain.startswith("atp_")
    assert plain not in str(token.__dict__)
    assert tokens.user_from_token(plain) == team.reader
    assert tokens.user_from_token(plain + "x") is None
    Token.objects.filter(pk=token.pk).update(expires_at=timezone.now())
    assert tokens.user_from_token(plain) is None


def test_revoking_is_for_ones_own_tokens(team):
    token, plain = tokens.token_create(user=team.reader, name="laptop")
    with pytest.raises(NotFound):
        tokens.token_revoke(user=team.owner, token_id=token.pk)
    assert tokens.user_from_token(plain) == team.reader
    tokens.token_revoke(user=team.reader, token_id=token.pk)
    assert tokens.user_from_token(plain) is None


@pytest.mark.parametrize(("name", "days"), [("", 1), ("x" * 101, 1), ("ok", 0), ("ok", 10_000)])
def test_bad_token_requests_are_refused(team, name, days):
    with pytest.raises(Invalid):
        tokens.token_create(user=team.reader, name=name, days=days)


def test_a_service_principal_exchanges_its_secret_for_a_token_that_expires(team):
    principal, secret = tokens.principal_create(
        workspace=team.workspace, name="nightly", role="contributor", user=team.owner
    )
    plain, seconds = tokens.token_exchange(str(principal.client_id), secret)
    user = tokens.user_from_token(plain)
    assert seconds == 3600
    assert user == principal.user
    assert policy.can(user, Right.WRITE, team.workspace)
    assert not user.has_usable_password()
    for client_id, wrong in (
        (str(principal.client_id), secret + "x"),
        ("not-a-uuid", secret),
        (str(team.owner.pk), ""),
    ):
        with pytest.raises(NotAuthenticated):
            tokens.token_exchange(client_id, wrong)


def test_rotation_and_deletion_end_the_old_tokens(team):
    principal, secret = tokens.principal_create(workspace=team.workspace, name="a", role="reader", user=team.owner)
    plain, _ = tokens.token_exchange(str(principal.client_id), secret)
    fresh = tokens.principal_rotate(principal=principal, user=team.owner)
    assert tokens.user_from_token(plain) is None
    with pytest.raises(NotAuthenticated):
        tokens.token_exchange(str(principal.client_id), secret)
    plain, _ = tokens.token_exchange(str(principal.client_id), fresh)
    identity = str(principal.client_id)
    tokens.principal_delete(principal=principal, user=team.owner)
    assert tokens.user_from_token(plain) is None
    with pytest.raises(NotAuthenticated):
        tokens.token_exchange(identity, fresh)
    assert not ServicePrincipal.objects.exists()


def test_every_change_is_in_the_audit_log_without_secrets(team):
    _, invite = services.invitation_create(workspace=team.workspace, role="reader", by=team.owner)
    _, secret = tokens.principal_create(workspace=team.workspace, name="p", role="reader", user=team.owner)
    services.member_set_role(workspace=team.workspace, user_id=team.reader.pk, role="contributor", by=team.owner)
    actions = set(AuditEntry.objects.filter(workspace=team.workspace).values_list("action", flat=True))
    assert {"workspace.create", "invitation.create", "principal.create", "member.role"} <= actions
    everything = str(list(AuditEntry.objects.values()))
    assert invite not in everything
    assert secret not in everything


def test_preferences_are_checked_all_at_once(team):
    with pytest.raises(Invalid) as caught:
        services.workspace_update(
            workspace=team.workspace, user=team.owner, preferences={"snapshot_max_files": 0, "colour": "red"}
        )
    assert set(caught.value.errors) == {"snapshot_max_files", "colour"}
    team.workspace.refresh_from_db()
    assert team.workspace.preferences == {}


def test_secrets_rotate(settings):
    stored = secrets.encrypt("pass word")
    secrets.add_key()
    assert secrets.decrypt(stored) == "pass word"
    again = secrets.reencrypt(stored)
    assert again != stored
    lines = settings.ATELIER_KEYS_FILE.read_text().split()
    settings.ATELIER_KEYS_FILE.write_text(lines[0] + "\n")
    assert secrets.decrypt(again) == "pass word"
    with pytest.raises(secrets.SecretUnreadable, match="fernet.keys"):
        secrets.decrypt(stored)


def test_members_lists_people_before_programs_in_one_query(team, django_assert_num_queries):
    tokens.principal_create(workspace=team.workspace, name="a", role="reader", user=team.owner)
    with django_assert_num_queries(1):
        rows = services.members(team.workspace)
        assert [row.user.is_service for row in rows] == [False, False, False, True]
        assert rows[-1].user.service_principal.name == "a"
    assert Membership.objects.count() == 5


def test_an_error_names_its_field():
    error = AtelierError("wrong", field="name")
    assert error.errors == {"name": ["wrong"]}


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "6.6.6.6", "10.0.0.1"),
        (1, "6.6.6.6, 192.0.2.7", "192.0.2.7"),
        (2, "6.6.6.6, 192.0.2.7, 192.0.2.8", "192.0.2.7"),
        (1, "", "10.0.0.1"),
        (1, "rubbish", None),
    ],
)
def test_a_forged_forwarding_header_is_not_believed(rf, settings, proxies, forwarded, address):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    request = rf.get("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=forwarded)
    assert services.caller_address(request) == address
