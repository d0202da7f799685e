"""The log view in a real browser: live lines, colours, redraws, reconnects, history, search, and no console errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.compute.test_log_socket import Studio
from tests.stack import Stack

pytestmark = [pytest.mark.services, pytest.mark.browser]
SHOTS = os.environ.get("ATELIER_SHOTS")
expect.set_options(timeout=20_000)  # software rendering on a machine that is shared

SESSION = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from studio.accounts.models import User
user, session = User.objects.get(username="owner"), SessionStore()
session[SESSION_KEY], session[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session.create()
print(session.session_key)
"""
SETTINGS = {"ATELIER_DEBUG": "1", "DJANGO_SETTINGS_MODULE": "tests.compute.log_page_settings"}
COLOURS = (
    "\x1b[1mEpoch 1/3\x1b[0m\n"
    + "".join(f"\x1b[{code}mcolour {code}\x1b[0m " for code in (*range(30, 38), *range(90, 98)))
    + "\n\x1b[41;97m ERROR \x1b[0m \x1b[38;5;208morange\x1b[0m \x1b[38;2;120;40;200mpurple\x1b[0m "
    + "\x1b[43mon yellow\x1b[0m\n"
    + "plain <b>text</b> & more: ünï ⚡ 日本\n"
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    stack = Stack(tmp_path_factory.mktemp("view"), environ=SETTINGS)
    try:
        stack.migrate()
        stack.start("valkey", "daphne")
        yield Studio(stack)
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def cookie(studio: Studio) -> str:
    return studio.stack.python(SESSION).split()[-1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
        yield browser
        browser.close()


class Tab:
    """A signed-in page and what its console said."""

    def __init__(self, browser: Any, studio: Studio, cookie: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        self.context.add_cookies([{"name": "sessionid", "value": cookie, "url": studio.stack.url}])
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.errors.append(said.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.studio = studio

    def open(self, key: str) -> Page:
        self.page.goto(f"{self.studio.stack.url}/w/main/log-page/{key}/")
        return self.page

    def lines(self) -> list[str]:
        return self.page.eval_on_selector_all(".log-line", "rows => rows.map(row => row.textContent)")

    def numbers(self) -> list[int]:
        return self.page.eval_on_selector_all(".log-line", "rows => rows.map(row => Number(row.dataset.n))")

    def shot(self, name: str) -> None:
        if SHOTS:
            self.page.screenshot(path=f"{SHOTS}/{name}.png")


@pytest.fixture
def tab(browser: Any, studio: Studio, cookie: str) -> Iterator[Tab]:
    tab = Tab(browser, studio, cookie)
    yield tab
    tab.context.close()
    assert tab.errors == []


def append(path: Path, text: str | bytes) -> None:
    with path.open("ab", buffering=0) as handle:
        handle.write(text.encode() if isinstance(text, str) else text)


def test_live_lines_colours_and_redraws(tab: Tab, studio: Studio) -> None:
    key, path = studio.unit()
    page = tab.open(key)
    expect(page.locator("[data-log-state]")).to_have_text("Live")
    expect(page.locator(".log-pane")).to_contain_text("No output yet")
    append(path, COLOURS)
    expect(page.locator(".log-line").nth(3)).to_have_text("plain <b>text</b> & more: ünï ⚡ 日本")
    assert page.locator(".log-pane b").count() == 0
    assert page.locator(".log-f1").count() == 1 and page.locator(".log-frgb").count() == 2
    for step in range(0, 101, 10):
        append(path, f"\rtraining {step:3d}%|{'#' * (step // 10):10s}|")
    expect(page.locator(".log-line").nth(4)).to_have_text("training 100%|##########|")
    append(path, b" done\n" + "é".encode()[:1])
    expect(page.locator(".log-line").nth(4)).to_have_text("training 100%|##########| done")
    append(path, "é".encode()[1:] + b"nd\n")
    expect(page.locator(".log-line").nth(5)).to_have_text("énd")
    append(path, "saved \u202egnp.exe\n")
    expect(page.locator(".log-line").nth(6)).to_have_text("saved ⟦U+202E⟧gnp.exe")
    assert tab.numbers() == [1, 2, 3, 4, 5, 6, 7]
    tab.shot("live-light")
    studio.end(key)
    expect(page.locator("[data-log-state]")).to_have_text("Ended")


def test_a_lost_connection_shows_every_line_once(tab: Tab, studio: Studio) -> None:
    key, path = studio.unit()
    append(path, "".join(f"line {n}\n" for n in range(100)))
    page = tab.open(key)
    expect(page.locator(".log-line").nth(99)).to_have_text("line 99")
    studio.stack.kill("daphne")
    append(path, "".join(f"line {n}\n" for n in range(100, 200)) + "half a li")
    expect(page.locator("[data-log-state]")).to_have_text("Connection lost, trying again")
    tab.shot("away")
    studio.stack.start("daphne", **SETTINGS)
    expect(page.locator("[data-log-state]")).to_have_text("Live", timeout=40_000)
    append(path, "ne\nlast\n")
    expect(page.locator(".log-line").last).to_have_text("last")
    assert tab.lines() == [f"line {n}" for n in range(200)] + ["half a line", "last"]
    tab.errors.clear()  # the browser itself notes each failed attempt


def test_a_long_log_is_a_window_that_scrolls_up_and_down(tab: Tab, studio: Studio) -> None:
    key, path = studio.unit()
    append(path, "".join(f"line {n:06d} {'x' * (n % 80)}\n" for n in range(1, 60001)))
    page = tab.open(key)
    expect(page.locator(".log-line").last).to_contain_text("line 060000")
    pane = page.locator(".log-pane")
    for _step in range(30):
        pane.evaluate("pane => { pane.scrollTop = 0; }")
        page.wait_for_timeout(60)
    page.wait_for_timeout(300)
    shown, numbers = tab.lines(), tab.numbers()
    assert len(shown) <= 5001 and numbers[0] < 55000
    assert [int(text.split()[1]) for text in shown] == numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    append(path, "new at the end\n")
    page.locator("[data-log-follow]").click()
    expect(page.locator(".log-line").last).to_have_text("new at the end")
    append(path, "and more\n")
    expect(page.locator(".log-line").last).to_have_text("and more")
    assert tab.numbers()[-1] == 60002


def test_search_goto_pause_and_wrap(tab: Tab, studio: Studio) -> None:
    key, path = studio.unit()
    append(path, "".join(f"step {n} loss={1 / n:.5f}\n" for n in range(1, 30001)))
    page = tab.open(key)
    box = page.get_by_label("Search the whole log")
    box.fill("step 777")
    box.press("Enter")
    expect(page.locator("[data-log-hits-count]")).to_have_text("11 lines found")
    tab.shot("search-light")
    box.press("Enter")
    expect(page.locator("[data-found]")).to_have_text("step 777 loss=0.00129")
    assert page.locator("[data-found]").get_attribute("data-n") == "777"
    expect(page.locator("[data-found]")).to_be_in_viewport()
    box.press("Enter")
    expect(page.locator("[data-found]")).to_have_attribute("data-n", "7770")
    page.get_by_label("Regular expression").check(force=True)
    box.fill("(")
    box.press("Enter")
    expect(page.locator("[data-log-hits-count]")).to_contain_text("cannot be read")
    tab.errors.clear()  # the browser notes the 422
    box.press("Escape")
    page.get_by_label("Go to line").fill("15000")
    page.get_by_label("Go to line").press("Enter")
    expect(page.locator("[data-found]")).to_have_text("step 15000 loss=0.00007")
    page.locator("[data-log-follow]").click()
    expect(page.locator(".log-line").last).to_have_text("step 30000 loss=0.00003")
    page.locator("[data-log-pause]").click()
    append(path, "while paused\n")
    page.wait_for_timeout(400)
    expect(page.locator(".log-line").last).to_have_text("step 30000 loss=0.00003")
    page.locator("[data-log-pause]").click()
    expect(page.locator(".log-line").last).to_have_text("while paused")
    page.locator("[data-log-wrap]").click()
    append(path, "w" * 30000 + "\nafter\n")
    expect(page.locator(".log-line").last).to_have_text("after")
    assert page.locator(".log-pane").evaluate("pane => pane.scrollWidth <= pane.clientWidth + 1")
    expect(page.locator(".log-more").last).to_contain_text("more on this line")


def test_a_burst_keeps_the_page_alive_and_ends_at_the_end(tab: Tab, studio: Studio) -> None:
    key, path = studio.unit()
    page = tab.open(key)
    expect(page.locator("[data-log-state]")).to_have_text("Live")
    for block in range(100):
        append(path, "".join(f"burst {block * 2000 + n:07d} with some text behind it\n" for n in range(2000)))
    append(path, "the end\n")
    expect(page.locator(".log-line").last).to_have_text("the end", timeout=40_000)
    page.wait_for_timeout(500)
    numbers = tab.numbers()
    assert numbers[-1] == 200001 and numbers == list(range(numbers[0], 200002)) and len(numbers) <= 5000


def test_without_scripts_the_end_of_the_log_is_there(browser: Any, studio: Studio, cookie: str) -> None:
    key, path = studio.unit()
    append(path, "\x1b[31mred\x1b[0m\n\r 10%\r 90%\nlast line\n")
    tab = Tab(browser, studio, cookie, java_script_enabled=False)
    page = tab.open(key)
    expect(page.locator(".log-static")).to_have_text("red\n 90%\nlast line\n", use_inner_text=True)
    with page.expect_download() as download:
        page.locator("noscript a").click()
    assert download.value.path().read_bytes() == path.read_bytes()
    tab.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_it_fits_wide_and_narrow_light_and_dark(
    browser: Any, studio: Studio, cookie: str, width: int, scheme: str
) -> None:
    key, path = studio.unit()
    append(
        path,
        COLOURS * 3 + "".join(f"[{n:4d}] loss={1 / (n + 1):.6f} accuracy={1 - 1 / (n + 2):.6f}\n" for n in range(40)),
    )
    tab = Tab(browser, studio, cookie, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = tab.open(key)
    expect(page.locator(".log-line").last).to_contain_text("[  39]")
    page.get_by_label("Search the whole log").fill("loss=0.1")
    page.get_by_label("Search the whole log").press("Enter")
    expect(page.locator("[data-log-hits-count]")).to_contain_text("lines found")
    page.locator(".log-pane").evaluate("pane => { pane.scrollTop = 0; }")
    page.wait_for_timeout(200)
    tab.shot(f"{scheme}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert tab.errors == []
    tab.context.close()
