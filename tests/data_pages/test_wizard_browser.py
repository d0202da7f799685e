"""The wizard in a real browser: from an upload to a dataset, back again, and its next version.

Any error in the browser's console fails it, and so does any axe violation of level A or AA on a page that it passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser import Watch, launch
from tests.stack import Stack

pytestmark = [pytest.mark.services, pytest.mark.browser, pytest.mark.timeout(300)]

ROWS = "name;age;boarded;age\n" + "".join(f"p{n};{n % 80};2024-01-{n % 28 + 1:02d};{n}\n" for n in range(60))
BROKEN = ROWS + "short;1\n" + "odd;old;2024-01-01;3;surplus\n"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environ = {"ATELIER_OWNER_PASSWORD": "story-pass-12345"}
    stack = Stack(tmp_path_factory.mktemp("wizard"), services=("valkey", "daphne"), environ=environ)
    stack.migrate()
    stack.manage("prepare")
    with stack:
        yield stack


@pytest.fixture
def page(stack: Stack) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context(base_url=stack.url, viewport={"width": 1440, "height": 1000})
        page = context.new_page()
        page.goto("/account/login/")
        page.locator("input[name=login]").fill("owner")
        page.locator("input[name=password]").fill("story-pass-12345")
        page.get_by_role("button", name="Sign in").first.click()
        expect(page).to_have_url(re.compile("/w/main/"))
        yield page
        browser.close()


def test_the_wizard(page: Page, tmp_path: Path) -> None:
    watch = Watch(page)
    files = [tmp_path / "people.csv", tmp_path / "more people.csv"]
    files[0].write_text(BROKEN, encoding="utf8")
    files[1].write_text(ROWS, encoding="utf8")

    page.goto("/w/main/datasets/")
    expect(page.get_by_text("No datasets yet")).to_be_visible()
    watch.axe("no datasets")
    page.get_by_role("link", name="New dataset").first.click()

    _files(page, watch, files)
    _settings(page, watch)
    _columns(page, watch)
    _name(page, watch)
    _tabs(page, watch)
    _next_version(page, watch)
    # Chromium writes a refused form into its console; those of this test are meant.
    watch.complaints = [one for one in watch.complaints if "status of 422" not in one]
    watch.finish()


def _next(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^Next")).click()


def _files(page: Page, watch: Watch, files: list[Path]) -> None:
    expect(page).to_have_url(re.compile(r"/data/new/[0-9a-f-]+/files/"))
    expect(page.get_by_text("This folder is empty")).to_be_visible()
    watch.axe("files, empty")
    _next(page)
    expect(page.get_by_role("alert").first).to_contain_text("Tick files or folders")
    page.locator("[data-upload-files]").set_input_files([str(path) for path in files])
    # What was uploaded is ticked by itself, and counted.
    expect(page.get_by_label("Take people.csv", exact=True)).to_be_checked(timeout=15_000)
    expect(page.get_by_label("Take more people.csv")).to_be_checked()
    expect(page.locator("#matches")).to_contain_text("2 files", timeout=10_000)
    page.get_by_label("Take more people.csv").uncheck()
    expect(page.locator("#matches")).to_contain_text("1 file")
    # Another place and back: the tick is still there, and after a reload too.
    page.get_by_role("button", name=re.compile("Web addresses")).click()
    expect(page.get_by_role("textbox", name="Addresses")).to_be_visible()
    watch.axe("web addresses")
    page.get_by_role("textbox", name="Addresses").fill("ftp://nowhere/x.csv")
    _next(page)
    expect(page.get_by_role("alert").first).to_contain_text("is not a web address")
    page.get_by_role("button", name=re.compile("Files in a datastore")).click()
    expect(page.get_by_label("Take people.csv", exact=True)).to_be_checked()
    page.reload()
    expect(page.get_by_label("Take people.csv", exact=True)).to_be_checked()
    expect(page.locator("#matches")).to_contain_text("1 file")
    watch.axe("files")
    _next(page)


def _settings(page: Page, watch: Watch) -> None:
    """The separator is guessed; the preview follows what is changed; problems name their lines."""
    expect(page).to_have_url(re.compile("/settings/"), timeout=15_000)
    preview = page.locator("#preview")
    expect(page.locator("#id_separator")).to_have_value(";")
    expect(preview.get_by_role("columnheader", name=re.compile("boarded"))).to_be_visible(timeout=30_000)
    expect(preview).to_contain_text("age_1")
    expect(preview).to_contain_text("line 62")
    watch.axe("settings")
    page.locator("#id_separator").select_option(",")
    expect(preview.get_by_role("columnheader", name=re.compile("name;age"))).to_be_visible(timeout=30_000)
    page.locator("#id_separator").select_option(";")
    expect(preview.get_by_role("columnheader", name=re.compile("boarded"))).to_be_visible(timeout=30_000)
    page.locator("#id_on_ragged").select_option("fail")
    expect(preview.locator(".at-alert")).to_contain_text("62", timeout=30_000)
    _next(page)
    expect(page.get_by_role("button", name="Register it without having looked")).to_be_visible(timeout=30_000)
    page.locator("#id_on_ragged").select_option("skip")
    expect(preview.get_by_role("columnheader", name=re.compile("boarded"))).to_be_visible(timeout=30_000)
    _next(page)
    expect(page).to_have_url(re.compile("/columns/"), timeout=30_000)
    # Back with the browser's own button: everything is as it was.
    page.go_back()
    expect(page.locator("#id_on_ragged")).to_have_value("skip")
    _next(page)


def _columns(page: Page, watch: Watch) -> None:
    expect(page).to_have_url(re.compile("/columns/"), timeout=30_000)
    expect(page.locator("#preview table")).to_be_visible(timeout=30_000)
    watch.axe("columns")
    page.get_by_label("Name of age_1").fill("age")
    _next(page)
    expect(page.locator(".wiz-columns")).to_contain_text("Another column has this name too")
    page.get_by_label("Name of age_1").fill("number")
    page.get_by_label("Keep name", exact=True).uncheck()
    expect(page.locator("#preview")).to_contain_text("number", timeout=30_000)
    expect(page.locator("#preview").get_by_role("columnheader", name=re.compile("^name"))).to_have_count(0)
    page.locator("#id_timestamp").select_option("boarded")
    _next(page)


def _name(page: Page, watch: Watch) -> None:
    expect(page).to_have_url(re.compile("/name/"))
    watch.axe("name")
    page.locator("#id_name").fill("a/b")
    page.get_by_label(re.compile("Description")).fill("Who was aboard")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_text("cannot hold /")).to_be_visible()
    expect(page.get_by_label(re.compile("Description"))).to_have_value("Who was aboard")
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_label("Name of age_1")).to_have_value("number")
    _next(page)
    expect(page.get_by_label(re.compile("Description"))).to_have_value("Who was aboard")
    page.locator("#id_name").fill("people")
    page.get_by_label(re.compile("Tags")).fill("stage=raw")
    page.get_by_role("button", name="Register").click()
    expect(page).to_have_url(re.compile(r"/w/main/datasets/people/"))
    expect(page.get_by_text("stage: raw")).to_be_visible()


def _tabs(page: Page, watch: Watch) -> None:
    watch.axe("dataset")
    for tab in ("Preview", "Profile", "Lineage", "Versions", "Consume"):
        page.get_by_label("Parts of the dataset").get_by_role("link", name=tab).click()
        if tab == "Preview":
            expect(page.locator("#rows table")).to_be_visible(timeout=30_000)
            expect(page.locator("#rows")).to_contain_text("number")
        watch.axe(tab)
    expect(page.get_by_text("Dataset.get_by_name(ws, name='people')").first).to_be_visible()


def _next_version(page: Page, watch: Watch) -> None:
    """Prefilled; registering the same name asks only where it was not said before."""
    page.get_by_role("link", name="New version").click()
    expect(page.get_by_role("heading", name="New version of people")).to_be_visible()
    expect(page.get_by_label("Take people.csv", exact=True)).to_be_checked()
    page.get_by_label("Take more people.csv").check()
    expect(page.locator("#matches")).to_contain_text("2 files")
    _next(page)
    expect(page.locator("#preview table")).to_be_visible(timeout=30_000)
    _next(page)
    expect(page.get_by_label("Name of age_1")).to_have_value("number", timeout=30_000)
    _next(page)
    page.get_by_role("button", name="Register version 2").click()
    expect(page.get_by_role("button", name=re.compile("Version 2"))).to_be_visible()
    page.get_by_label("Parts of the dataset").get_by_role("link", name="Versions").click()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".data-diff [data-changed]").first).to_contain_text("more people.csv")
    watch.axe("comparison")
