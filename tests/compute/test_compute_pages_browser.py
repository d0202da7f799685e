"""Compute pages in a real browser: a machine behind a real sshd is attached, its key compared, tested and detached.

Any error in the browser's console fails it, and so does any axe violation of level A or AA on a page that it passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from compute import host_keys
from tests.browser import Watch, launch
from tests.gear.docker import clean, need_engine
from tests.gear.sshd import Sshd
from tests.stack import Stack

pytestmark = [pytest.mark.services, pytest.mark.browser, pytest.mark.timeout(300)]

PASSWORD = "story-pass-12345"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    need_engine()
    services = ("valkey", "daphne", "worker")
    stack = Stack(tmp_path_factory.mktemp("pages"), services=services, environ={"ATELIER_OWNER_PASSWORD": PASSWORD})
    stack.migrate()
    stack.manage("prepare")
    with stack:
        yield stack
    clean(stack.installation)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


def signed_in(browser: Browser, stack: Stack, **options: bool) -> Page:
    context = browser.new_context(base_url=stack.url, viewport={"width": 1440, "height": 1000}, **options)
    page = context.new_page()
    page.goto("/account/login/")
    page.locator("input[name=login]").fill("owner")
    page.locator("input[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").first.click()
    expect(page).to_have_url(re.compile("/w/main/"))
    return page


def test_a_machine_behind_ssh_from_its_key_to_its_detaching(browser: Browser, stack: Stack) -> None:
    page = signed_in(browser, stack)
    watch = Watch(page)
    with Sshd() as server:
        user = server.user(groups=["docker"])
        page.goto("/w/main/compute/")
        watch.axe("list")
        page.get_by_role("link", name="Attach compute").click()
        page.get_by_role("link", name=re.compile("Docker over SSH")).click()
        watch.axe("attach")
        page.get_by_label("Name", exact=True).fill("under-the-stairs")
        page.get_by_label("Address").fill("127.0.0.1")
        page.get_by_label(re.compile("^Port")).fill(str(server.port))
        page.get_by_label("User", exact=True).fill(user.name)
        page.get_by_label(re.compile("^Private key")).fill(user.key)
        page.get_by_role("button", name="Attach and test").click()

        # The worker asks the machine; the page follows by itself.
        expect(page).to_have_url(re.compile("/compute/under-the-stairs/$"))
        expect(page.get_by_role("heading", name="Confirm the host key")).to_be_visible(timeout=60_000)
        expect(page.locator(".cmp-key-card")).to_contain_text(host_keys.fingerprint(server.host_key()))
        watch.axe("host key")
        page.get_by_role("button", name="It is the same: confirm").click()
        expect(page.locator("#target-state")).to_have_text("Ready", timeout=60_000)
        expect(page.locator("#target-checks li[data-state=ok]").filter(has_text="Docker engine")).to_be_visible()
        expect(page.locator("#target-facts")).to_contain_text("Processors")
        expect(page.locator("#target-images")).not_to_contain_text("Asking the engine", timeout=60_000)
        watch.axe("target")

        # Its key is another one: nothing is sent, and the page says so loudly with both.
        stack.manage(
            "shell",
            "-c",
            "from compute.models import Target; Target.objects.filter(name='under-the-stairs')"
            ".update(host_key='ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA')",
        )
        page.get_by_role("button", name="Test now").click()
        expect(page.get_by_role("heading", name="The host key of this machine has changed")).to_be_visible(
            timeout=60_000
        )
        watch.axe("changed key")
        page.get_by_role("button", name="Accept the new key").click()
        page.get_by_role("dialog").get_by_role("button", name="Accept the new key").click()
        expect(page.locator("#target-state")).to_have_text("Ready", timeout=60_000)

        page.get_by_role("link", name="Detach", exact=True).click()
        box = page.locator("#target-detach")
        expect(box).to_be_visible()
        box.get_by_role("button", name="Keep it").click()
        expect(box).to_be_hidden()
        page.get_by_role("link", name="Detach", exact=True).click()
        box.get_by_role("button", name="Detach", exact=True).click()
        expect(page).to_have_url(re.compile("/w/main/compute/$"))
        expect(page.locator("main")).not_to_contain_text("under-the-stairs")
    watch.finish()


def test_the_forms_show_what_the_choice_needs(browser: Browser, stack: Stack) -> None:
    page = signed_in(browser, stack)
    watch = Watch(page)
    page.goto("/w/main/compute/attach/?driver=docker")
    page.get_by_label("Name", exact=True).fill("box")
    page.get_by_role("button", name="Attach and test").click()
    expect(page.locator("#target-checks")).to_contain_text("The Docker engine answers")

    page.goto("/w/main/runs/new/")
    resources = page.locator(".run-resources")
    expect(resources).to_be_hidden()
    page.locator("#target").select_option("box")
    expect(resources).to_be_visible()
    resources.get_by_text("Resources").click()
    expect(page.get_by_label("Shared memory")).to_be_visible()
    watch.axe("new run")

    page.goto("/w/main/environments/new/")
    expect(page.get_by_label("Base image")).to_be_visible()
    page.get_by_text("Dockerfile", exact=True).first.click()
    expect(page.get_by_label("Base image")).to_be_hidden()
    page.locator("#id_dockerfile").fill("COPY here /there")
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator("#check .at-alert")).to_contain_text("COPY")
    watch.axe("new environment")
    page.goto("/w/main/settings/containers/")
    watch.axe("container images")
    watch.finish()


def test_everything_works_without_javascript(browser: Browser, stack: Stack) -> None:
    page = signed_in(browser, stack, java_script_enabled=False)
    page.goto("/w/main/compute/attach/")
    page.get_by_role("link", name=re.compile("Docker on this machine")).click()
    page.get_by_label("Name", exact=True).fill("plain")
    page.get_by_role("button", name="Attach and test").click()
    expect(page).to_have_url(re.compile("/compute/plain/$"))
    page.get_by_role("button", name="Test now").click()
    expect(page.locator("#target-checks")).to_contain_text("The Docker engine answers")
    page.get_by_role("link", name="Show the images").click()
    expect(page.get_by_role("heading", name="Images on plain")).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="Detach", exact=True).click()
    expect(page).to_have_url(re.compile("/compute/plain/delete/$"))
    page.get_by_role("button", name="Detach", exact=True).click()
    expect(page.locator("main")).not_to_contain_text("plain")
