"""The second factor through the real pages: turned on, asked for, refused, replaced by a recovery code, turned off."""

from __future__ import annotations

import time

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from studio.lib import secrets

PASSWORD = "correct-horse-battery"


def _code(seed: str) -> str:
    """The code of this moment, with at least five seconds left to use it: no test ends on the edge of a period."""
    left = 30 - time.time() % 30
    if left < 5:
        time.sleep(left)
    return totp.format_hotp_value(totp.hotp_value(seed, int(time.time()) // 30))


def _wrong(seed: str) -> str:
    return f"{(int(_code(seed)) + 1) % 1_000_000:06}"


def _sign_in(client: Client, name: str = "reader") -> str:
    """Where the right password leads."""
    answer = client.post(reverse("account_login"), {"login": name, "password": PASSWORD})
    assert answer.status_code == 302, answer.content.decode()
    return answer.headers["Location"]


def _signed_in(client: Client) -> bool:
    return client.get("/w/main/").status_code == 200


def _turn_on(client: Client) -> tuple[str, list[str]]:
    """Sign in and turn it on; the seed and the recovery codes, as the pages show them."""
    assert _sign_in(client) == "/"
    confirm = client.get(reverse("mfa_activate_totp"), follow=True)
    address = confirm.request["PATH_INFO"] + "?" + confirm.request["QUERY_STRING"]
    page = client.post(address, {"password": PASSWORD}, follow=True)
    seed = page.context["form"].secret
    assert seed in page.content.decode()
    done = client.post(reverse("mfa_activate_totp"), {"code": _code(seed)}, follow=True)
    codes = done.context["unused_codes"]
    assert len(set(codes)) == 10
    assert all(code in done.content.decode() for code in codes)
    return seed, codes


@pytest.fixture
def protected(team) -> tuple[str, list[str]]:
    """The reader has a second factor: (seed, recovery codes)."""
    return _turn_on(Client())


def test_only_the_code_of_the_shown_seed_turns_it_on(client, team):
    _sign_in(client)
    confirm = client.get(reverse("mfa_activate_totp"), follow=True)
    assert "Confirm that it is you" in confirm.content.decode()
    assert client.post(reverse("mfa_activate_totp"), {"code": "123456"}).status_code == 302  # not confirmed: sent back
    address = confirm.request["PATH_INFO"] + "?" + confirm.request["QUERY_STRING"]
    client.post(address, {"password": "not-the-password"})
    assert client.get(reverse("mfa_activate_totp")).status_code == 302
    page = client.post(address, {"password": PASSWORD}, follow=True)
    refused = client.post(reverse("mfa_activate_totp"), {"code": _wrong(page.context["form"].secret)})
    assert refused.status_code == 200
    assert "Incorrect code" in refused.content.decode()
    assert not Authenticator.objects.exists()


def test_nothing_of_it_lies_in_clear_in_the_database(protected):
    seed, codes = protected
    kept = Authenticator.objects.get(type=Authenticator.Type.TOTP).data["secret"]
    assert seed not in kept
    assert secrets.decrypt(kept) == seed
    recovery = Authenticator.objects.get(type=Authenticator.Type.RECOVERY_CODES)
    assert recovery.wrap().get_unused_codes() == codes
    assert not any(code in str(recovery.data) for code in codes)
    assert secrets.decrypt(recovery.data["seed"]) not in str(recovery.data)
    # While the picture is shown the seed waits in the session; afterwards it is gone from there.
    assert all(seed not in str(session.get_decoded()) for session in Session.objects.all())


def test_a_new_key_for_secrets_takes_the_seeds_along(client, protected, settings):
    seed, codes = protected
    call_command("rotate_secrets")
    settings.ATELIER_KEYS_FILE.write_text(settings.ATELIER_KEYS_FILE.read_text().splitlines()[0] + "\n")
    assert _sign_in(client) == reverse("mfa_authenticate")
    assert client.post(reverse("mfa_authenticate"), {"code": _code(seed)}).status_code == 302
    assert _signed_in(client)
    assert Authenticator.objects.get(type=Authenticator.Type.RECOVERY_CODES).wrap().get_unused_codes() == codes


def test_the_password_alone_opens_nothing(client, protected):
    assert _sign_in(client) == reverse("mfa_authenticate")
    assert not _signed_in(client)
    assert client.get("/api/v1/me").status_code == 401
    assert "One more step" in client.get(reverse("mfa_authenticate")).content.decode()
    away = client.post(reverse("account_logout"), {"next": reverse("account_login")})
    assert away.headers["Location"] == reverse("account_login")
    assert client.get(reverse("mfa_authenticate")).headers["Location"] == reverse("account_login")


def test_a_wrong_code_is_refused_and_the_right_one_signs_in(client, protected):
    seed, _codes = protected
    _sign_in(client)
    refused = client.post(reverse("mfa_authenticate"), {"code": _wrong(seed)})
    assert refused.status_code == 200
    assert "Incorrect code" in refused.content.decode()
    assert not _signed_in(client)
    assert client.post(reverse("mfa_authenticate"), {"code": _code(seed)}).headers["Location"] == "/"
    assert _signed_in(client)


def test_a_code_that_was_seen_over_a_shoulder_works_once(client, protected):
    seed, _codes = protected
    code = _code(seed)
    _sign_in(client)
    client.post(reverse("mfa_authenticate"), {"code": code})
    assert _signed_in(client)
    other = Client()
    _sign_in(other)
    assert "Incorrect code" in other.post(reverse("mfa_authenticate"), {"code": code}).content.decode()
    assert not _signed_in(other)


def test_guessing_is_stopped(client, protected):
    seed, _codes = protected
    _sign_in(client)
    for _attempt in range(20):
        client.post(reverse("mfa_authenticate"), {"code": _wrong(seed)})
    late = client.post(reverse("mfa_authenticate"), {"code": _code(seed)})
    assert late.status_code in (200, 429)
    assert not _signed_in(client)


def test_a_recovery_code_signs_in_once(client, protected):
    _seed, codes = protected
    _sign_in(client)
    assert client.post(reverse("mfa_authenticate"), {"code": codes[3]}).headers["Location"] == "/"
    assert _signed_in(client)
    assert "9 of 10 left" in client.get(reverse("mfa_index")).content.decode()
    client.post(reverse("account_logout"))
    _sign_in(client)
    assert "Incorrect code" in client.post(reverse("mfa_authenticate"), {"code": codes[3]}).content.decode()
    assert not _signed_in(client)


def test_the_code_of_somebody_else_opens_nothing(client, protected):
    seed, _codes = protected
    other = Client()
    assert _sign_in(other, "contributor") == "/"  # their own factor is their own choice
    _sign_in(client)
    owner_seed = totp.generate_totp_secret()
    assert owner_seed != seed
    assert "Incorrect code" in client.post(reverse("mfa_authenticate"), {"code": _code(owner_seed)}).content.decode()


def test_turned_off_the_password_alone_opens_again(client, protected):
    seed, _codes = protected
    _sign_in(client)
    client.post(reverse("mfa_authenticate"), {"code": _code(seed)})
    # A browser that was left signed in is not enough to turn it off.
    assert client.post(reverse("mfa_deactivate_totp")).headers["Location"].startswith(reverse("account_reauthenticate"))
    assert Authenticator.objects.exists()
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    assert "Turn off the authenticator app?" in client.get(reverse("mfa_deactivate_totp")).content.decode()
    off = client.post(reverse("mfa_deactivate_totp"), follow=True)
    assert off.status_code == 200
    assert "They are made when a second factor is turned on." in off.content.decode()
    assert not Authenticator.objects.exists()
    client.post(reverse("account_logout"))
    assert _sign_in(client) == "/"
    assert _signed_in(client)
