"""The settings that keep an installation safe."""

from __future__ import annotations

import stat

import pytest
from django.contrib.auth.hashers import make_password

from studio import settings as real
from studio.lib import env, secrets, storage
from studio.lib.errors import Invalid


def test_passwords_are_hashed_with_argon2(settings):
    settings.PASSWORD_HASHERS = real.PASSWORD_HASHERS
    assert make_password("x").startswith("argon2")


def test_key_files_are_private(settings):
    secrets.encrypt("x")
    assert stat.S_IMODE(settings.ATELIER_KEYS_FILE.stat().st_mode) == 0o600


def test_sign_in_is_limited(client, team, settings):
    codes = [client.post("/account/login/", {"login": "owner", "password": "wrong"}).status_code for _ in range(12)]
    right = client.post("/account/login/", {"login": "owner", "password": "correct-horse-battery"})
    assert codes[0] == 200
    assert right.status_code != 302, "the right password must not help once the limit is reached"


def test_forms_need_the_csrf_token(team):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    strict.force_login(team.owner)
    assert strict.post("/w/main/members/invite/", {"invite-role": "reader"}).status_code == 403


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "a\x00b", "a\\b", "C:/x", "http:x", "", ".", "x" * 300]
)
def test_paths_cannot_leave_their_folder(tmp_path, path):
    with pytest.raises(Invalid):
        storage.safe_join(tmp_path, path)


def test_links_cannot_leave_their_folder(tmp_path):
    (tmp_path / "out").symlink_to("/etc")
    with pytest.raises(Invalid):
        storage.safe_join(tmp_path, "out/passwd")
    assert storage.safe_join(tmp_path, "./a/./b") == tmp_path / "a" / "b"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda e: env.flag("X", environ=e), "X='maybe' is not a yes or a no"),
        (lambda e: env.integer("X", 1, environ=e), "X='maybe' is not a whole number"),
    ],
)
def test_a_typo_in_the_configuration_names_the_setting(call, words):
    with pytest.raises(env.ConfigurationError, match=words):
        call({"X": "maybe"})


def test_secure_cookies_and_headers_with_https():
    assert real.SESSION_COOKIE_HTTPONLY
    assert real.SESSION_COOKIE_SAMESITE == "Lax"
    assert real.X_FRAME_OPTIONS == "DENY"
    assert real.SESSION_COOKIE_SECURE == real.HTTPS
