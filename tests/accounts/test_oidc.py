"""Sign-in through a company's identity provider: the real web process against an OpenID Connect provider of the test.

Two installations: ``invited`` takes newcomers by invitation alone, ``everybody`` (ATELIER_OIDC_SIGNUP) whomever the
provider knows. The second one's provider asks people on another origin than its discovery document lies on.
"""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest
import requests
from allauth.mfa.totp.internal import auth as totp
from playwright.sync_api import expect, sync_playwright

from tests.accounts.oidc_provider import Person, Provider
from tests.browser import Watch, launch
from tests.stack import Stack

pytestmark = pytest.mark.services

PASSWORD = "correct-horse-battery"
PEOPLE = """
import json
from allauth.mfa.totp.internal.auth import TOTP
from studio.accounts.models import User
from studio.accounts.services import invitation_create, workspace_create
names = ("owner", "known", "careful")
people = [User.objects.create_user(name, f"{name}@example.test", "correct-horse-battery") for name in names]
workspace = workspace_create(name="main", title="Main", user=people[0])
TOTP.activate(people[2], "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
print(json.dumps([invitation_create(workspace=workspace, role="contributor", by=people[0])[1] for _ in range(3)]))
"""


@dataclass
class Place:
    """A running installation, its provider, and the secrets of three open invitations."""

    stack: Stack
    provider: Provider
    invitations: list[str]

    def users(self) -> list[str]:
        return [row["username"] for row in self.stack.query("select username from accounts_user order by username")]

    def connected(self) -> dict[str, str]:
        """Accounts at the provider -> usernames here."""
        sql = "select uid, username from socialaccount_socialaccount s join accounts_user u on u.id = s.user_id"
        return {row["uid"]: row["username"] for row in self.stack.query(sql)}


def _place(stack: Stack, provider: Provider) -> Iterator[Place]:
    stack.migrate()
    invitations = json.loads(stack.python(PEOPLE).splitlines()[-1])
    with stack:
        yield Place(stack, provider, invitations)


@pytest.fixture(scope="module")
def invited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Provider() as provider:
        folder = tmp_path_factory.mktemp("invited")
        yield from _place(Stack(folder, services=("daphne",), environ=provider.environ()), provider)


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Provider() as provider:
        provider.front = provider.url.replace("127.0.0.1", "localhost")
        environ = provider.environ(
            ATELIER_OIDC_SIGNUP="1",
            ATELIER_OIDC_SERVER=provider.url + "/",  # as providers like to print their issuer
            ATELIER_OIDC_ORIGINS=provider.front,
        )
        yield from _place(Stack(tmp_path_factory.mktemp("everybody"), services=("daphne",), environ=environ), provider)


class Visitor(requests.Session):
    """A browser without a screen: follows links and sends forms with what they hold."""

    def __init__(self, place: Place, person: Person | None = None) -> None:
        super().__init__()
        self.place = place
        if person is not None:
            place.provider.person = person

    def open(self, path: str) -> requests.Response:
        return self.get(self.place.stack.url + path, timeout=20)

    def submit(self, path: str, **fields: str) -> requests.Response:
        """Post to ``path`` with the token of the page that lies there."""
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.open(path).text)
        assert token, path
        return self.post(
            self.place.stack.url + path, data={"csrfmiddlewaretoken": token.group(1), **fields}, timeout=20
        )

    def sign_in(self, start: str = "/account/login/") -> requests.Response:
        """Press the provider's button on the page at ``start``, and Continue; where that ends."""
        link = re.search(r'href="(/account/oidc/oidc/login/[^"]*)"', self.open(start).text)
        assert link, start
        return self.submit(html.unescape(link.group(1)))

    def path(self, answer: requests.Response) -> str:
        return answer.url.removeprefix(self.place.stack.url)

    def signed_in(self) -> bool:
        return self.open("/api/v1/me").status_code == 200


def test_the_sign_in_page_shows_the_provider_under_its_name(invited: Place) -> None:
    page = Visitor(invited).open("/account/login/")
    assert "Continue with Works &amp; Co sign-in" in page.text
    assert f"form-action 'self' {invited.provider.url}" in page.headers["Content-Security-Policy"].split("; ")


def test_who_was_invited_signs_in_and_joins(invited: Place) -> None:
    link = f"/invite/{invited.invitations[0]}/"
    visitor = Visitor(invited, Person("u-ada", "ada@example.test", verified=True, username="ada"))
    assert "Make an account" in visitor.open(link).text
    page = visitor.sign_in(f"/account/signup/?next={quote(link)}")
    assert visitor.path(page) == link
    assert "Join as" in page.text
    assert invited.provider.refused == []
    assert ("POST", "/token") in invited.provider.asked
    home = visitor.submit(link)
    assert visitor.path(home) == "/w/main/"
    assert home.status_code == 200
    assert invited.connected()["u-ada"] == "ada"
    # What opens the provider's own doors is not kept.
    assert invited.stack.query("select count(*) as n from socialaccount_socialtoken")[0]["n"] == 0
    again = Visitor(invited, invited.provider.person)
    assert again.path(again.sign_in("/account/login/?next=/w/main/members/")) == "/w/main/members/"
    assert invited.users().count("ada") == 1


def test_without_an_invitation_the_provider_alone_opens_nothing(invited: Place) -> None:
    before = invited.users()
    visitor = Visitor(invited, Person("u-eve", "eve@example.test", verified=True, username="eve"))
    page = visitor.sign_in()
    assert "By invitation" in page.text
    assert "Ask an owner of the workspace" in page.text
    assert not visitor.signed_in()
    assert invited.users() == before


@pytest.mark.parametrize("verified", [False, True])
def test_a_known_address_takes_no_account_over(everybody: Place, verified: bool) -> None:
    person = Person(f"u-thief-{verified}", "owner@example.test", verified=verified, username="owner")
    visitor = Visitor(everybody, person)
    page = visitor.sign_in()
    assert visitor.path(page) == "/account/3rdparty/signup/"
    assert not visitor.signed_in()
    refused = visitor.submit("/account/3rdparty/signup/", username=f"thief{verified}", email="owner@example.test")
    assert "An account already exists with this email address" in html.unescape(refused.text)
    assert not visitor.signed_in()
    assert person.sub not in everybody.connected()


def test_by_invitation_too_a_known_address_takes_no_account_over(invited: Place) -> None:
    visitor = Visitor(invited, Person("u-thief", "owner@example.test", verified=True, username="owner"))
    visitor.open(f"/invite/{invited.invitations[1]}/")
    visitor.sign_in("/account/signup/")
    assert not visitor.signed_in()
    assert "u-thief" not in invited.connected()


def test_the_owner_of_an_account_connects_it_and_then_signs_in_with_it(invited: Place) -> None:
    person = Person("u-known", "known@elsewhere.test", verified=True, username="kn")
    visitor = Visitor(invited, person)
    visitor.submit("/account/login/", login="known", password=PASSWORD)
    assert visitor.path(visitor.sign_in("/account/3rdparty/")) == "/account/3rdparty/"
    assert invited.connected()["u-known"] == "known"
    other = Visitor(invited, person)
    other.sign_in()
    assert other.open("/api/v1/me").json()["user"]["username"] == "known"


def test_the_second_factor_is_asked_for_after_the_provider_too(invited: Place) -> None:
    seed = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    person = Person("u-careful", "careful@elsewhere.test", verified=True, username="careful")
    invited.stack.python(
        "from allauth.socialaccount.models import SocialAccount; from studio.accounts.models import User\n"
        "SocialAccount.objects.create(provider='oidc', uid='u-careful', user=User.objects.get(username='careful'))"
    )
    visitor = Visitor(invited, person)
    assert visitor.path(visitor.sign_in()) == "/account/2fa/authenticate/"
    assert not visitor.signed_in()
    if time.time() % 30 > 25:
        time.sleep(5)
    code = totp.format_hotp_value(totp.hotp_value(seed, int(time.time()) // 30))
    visitor.submit("/account/2fa/authenticate/", code=code)
    assert visitor.signed_in()


def test_everybody_whom_the_provider_knows_where_the_administrator_says_so(everybody: Place) -> None:
    visitor = Visitor(everybody, Person("u-bob", "bob@example.test", verified=True, username="bob"))
    page = visitor.sign_in()
    assert page.status_code == 200
    assert visitor.signed_in()
    assert everybody.connected()["u-bob"] == "bob"
    assert visitor.open("/w/main/").status_code == 404  # an account, and no workspace of others
    namesake = Visitor(everybody, Person("u-bob-2", "bob@elsewhere.test", verified=True, username="bob"))
    namesake.sign_in()
    assert everybody.connected()["u-bob-2"] not in ("bob", "")


def test_what_goes_wrong_is_said_on_a_page(invited: Place) -> None:
    visitor = Visitor(invited, Person("u-no", "no@example.test", verified=True, username="no", refuses=True))
    assert "You went back before signing in" in visitor.sign_in().text
    # A code that this browser did not ask for, as a forged link would carry it.
    forged = visitor.open("/account/oidc/oidc/login/callback/?code=x&state=y")
    assert forged.status_code < 500
    assert "Signing in did not work" in forged.text
    assert not visitor.signed_in()


def test_a_provider_that_is_away_or_refuses_the_studio_is_said_on_a_page(invited: Place) -> None:
    visitor = Visitor(invited, Person("u-no", "no@example.test", verified=True, username="no"))
    for broken in ("client", "away"):
        invited.provider.broken = broken
        try:
            page = visitor.sign_in()
        finally:
            invited.provider.broken = ""
        assert page.status_code == (502 if broken == "away" else 401), broken
        assert "Signing in did not work" in page.text
        assert 'href="/account/login/"' in page.text
        assert not visitor.signed_in()


@pytest.mark.browser
@pytest.mark.parametrize("name", ["invited", "everybody"])
def test_a_real_browser_is_let_through_to_the_provider_and_back(name: str, request: pytest.FixtureRequest) -> None:
    """The content security policy holds the redirect after our own form against its form-action list."""
    place: Place = request.getfixturevalue(name)
    place.provider.person = Person("u-grace", "grace@example.test", verified=True, username="grace")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_context(base_url=place.stack.url).new_page()
        watch = Watch(page)
        page.goto(f"/invite/{place.invitations[2]}/")
        page.get_by_role("link", name="Make an account").click()
        page.get_by_role("link", name="Continue with Works & Co sign-in").click()
        expect(page.get_by_role("heading", name="Works & Co sign-in")).to_be_visible()
        watch.axe("on to the provider")
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name="Join as").click()
        expect(page).to_have_url(re.compile("/w/main/$"))
        page.goto("/account/3rdparty/")
        watch.axe("connections")
        watch.finish()
        browser.close()
    assert place.connected()["u-grace"] == "grace"
