"""Data in a real browser on real services: from a folder of the machine to the dataset that a run made of it.

Any error in the browser's console fails it, and so does any axe violation of level A or AA on a page that it passes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser import Watch, launch
from tests.stack import Stack

pytestmark = [pytest.mark.services, pytest.mark.browser, pytest.mark.timeout(300)]

ROWS = "name;age;fare\n" + "".join(f"Braund {n};{n % 60 + 1};{n * 0.25:.2f}\n" for n in range(200))
SCRIPT = """
import csv, os, sys
from azureml.core import Run

folder, out = sys.argv[1:]
run = Run.get_context()
print("inputs:", run.input_datasets)
with open(os.path.join(folder, "passengers.csv"), newline="") as file:
    rows = list(csv.DictReader(file, delimiter=";"))
os.makedirs(out, exist_ok=True)
with open(os.path.join(out, "old.csv"), "w") as file:
    file.write("name\\n" + "".join(row["name"] + "\\n" for row in rows if int(row["age"]) > 50))
run.log("rows", len(rows))
print("read", len(rows), "rows")
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environ = {"ATELIER_OWNER_PASSWORD": "story-pass-12345"}
    stack = Stack(tmp_path_factory.mktemp("data-story"), environ=environ)
    stack.migrate()
    stack.manage("prepare")
    with stack:
        yield stack


@pytest.fixture
def page(stack: Stack) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context(base_url=stack.url, viewport={"width": 1440, "height": 900})
        yield context.new_page()
        browser.close()


def test_from_a_folder_to_what_a_run_made_of_it(page: Page, tmp_path: Path) -> None:
    watch = Watch(page)
    _sign_in(page)
    lake = tmp_path / "lake"
    lake.mkdir()
    _register_folder(page, watch, lake)
    _upload(page, watch, tmp_path, lake)
    _table(page, watch)
    _preview_and_profile(page, watch)
    _folder_as_dataset(page)
    run_url = _run(page, watch)
    _followed(page, watch)
    _made(page, watch, run_url)
    _around(page, watch, run_url)
    watch.finish()


def _sign_in(page: Page) -> None:
    page.goto("/w/main/datastores/")
    page.locator("input[name=login]").fill("owner")
    page.locator("input[name=password]").fill("story-pass-12345")
    page.get_by_role("button", name="Sign in").first.click()
    expect(page).to_have_url(re.compile("/w/main/datastores/"))


def _register_folder(page: Page, watch: Watch, lake: Path) -> None:
    watch.axe("datastores")
    page.get_by_role("link", name="Register datastore").click()
    page.get_by_role("textbox", name="Name", exact=True).fill("lake")
    page.get_by_role("textbox", name="Folder").fill(str(lake))
    watch.axe("register a datastore")
    page.get_by_role("button", name="Test and register").click()
    expect(page).to_have_url(re.compile("/datastores/lake/"))
    expect(page.get_by_text("It answers.")).to_be_visible()
    watch.axe("empty datastore")


def _upload(page: Page, watch: Watch, tmp_path: Path, lake: Path) -> None:
    """A file and a folder, dropped on the page, appear in the list by themselves once they are whole."""
    file, inner = tmp_path / "passengers.csv", tmp_path / "notes" / "of" / "readme.txt"
    file.write_text(ROWS, encoding="utf-8")
    inner.parent.mkdir(parents=True)
    inner.write_text("Who was aboard", encoding="utf-8")
    box = page.locator("#folder").bounding_box()
    assert box is not None
    dropped = {"items": [], "files": [str(tmp_path / "notes"), str(file)], "dragOperationsMask": 1}
    pointer = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        pointer.send("Input.dispatchDragEvent", {"type": kind, **where, "data": dropped})
    expect(page.get_by_role("link", name="passengers.csv", exact=True)).to_be_visible(timeout=15_000)
    assert (lake / "passengers.csv").read_text(encoding="utf-8") == ROWS
    assert (lake / "notes" / "of" / "readme.txt").read_text(encoding="utf-8") == "Who was aboard"
    shutil.rmtree(lake / "notes")  # the story goes on with the one file
    watch.axe("datastore with a file")


def _table(page: Page, watch: Watch) -> None:
    """From the file's own link through the wizard: the separator is found, a column renamed."""
    page.get_by_role("link", name="Make a dataset of passengers.csv").click()
    expect(page.locator("#matches")).to_contain_text("1 file", timeout=15_000)
    watch.axe("wizard, files")
    page.get_by_role("button", name=re.compile("^Next")).click()
    expect(page.locator("#id_separator")).to_have_value(";", timeout=15_000)
    expect(page.locator("#preview").get_by_role("columnheader", name=re.compile("fare"))).to_be_visible(timeout=30_000)
    page.get_by_role("button", name=re.compile("^Next")).click()
    page.get_by_label("Name of fare").fill("price", timeout=30_000)
    page.keyboard.press("Tab")
    expect(page.locator("#preview").get_by_role("columnheader", name=re.compile("price"))).to_be_visible(timeout=30_000)
    page.get_by_role("button", name=re.compile("^Next")).click()
    expect(page).to_have_url(re.compile("/name/"), timeout=30_000)
    expect(page.locator("input[name=name]")).to_have_value("passengers")
    watch.axe("wizard, name")
    page.get_by_role("button", name="Register").click()
    expect(page).to_have_url(re.compile("/datasets/passengers/"))
    expect(page.get_by_role("row", name=re.compile("price.*fare"))).to_be_visible()
    watch.axe("dataset")


def _preview_and_profile(page: Page, watch: Watch) -> None:
    page.get_by_role("link", name="Preview").click()
    expect(page.get_by_role("cell", name="Braund 0", exact=True)).to_be_visible(timeout=30_000)
    watch.axe("preview")
    page.get_by_role("link", name="Profile").click()
    page.get_by_role("button", name="Compute the profile").click()
    expect(page.get_by_text(re.compile("200 rows, 3 columns"))).to_be_visible(timeout=60_000)
    watch.axe("profile")


def _folder_as_dataset(page: Page) -> None:
    """Everything in the datastore, as files that a run can mount."""
    page.goto("/w/main/datastores/lake/")
    expect(page.get_by_role("link", name="passengers", exact=True)).to_be_visible()
    page.get_by_role("link", name="Make a dataset", exact=True).click()
    page.get_by_role("button", name="Take the whole folder").click()
    expect(page.locator("#matches")).to_contain_text("1 file", timeout=15_000)
    page.get_by_role("button", name=re.compile("^Next")).click()
    page.locator("label", has=page.locator("input[name=kind][value=files]")).click(timeout=15_000)
    expect(page.locator("#preview").get_by_role("columnheader", name=re.compile("^path"))).to_be_visible(timeout=30_000)
    page.get_by_role("button", name=re.compile("^Next")).click()
    expect(page).to_have_url(re.compile("/name/"), timeout=30_000)
    page.locator("input[name=name]").fill("lake-files")
    page.get_by_role("button", name="Register").click()
    expect(page).to_have_url(re.compile("/datasets/lake-files/"))


def _run(page: Page, watch: Watch) -> str:
    page.get_by_role("link", name="New run with it").click()
    expect(page.locator("input[name=input_dataset]").first).to_have_value("lake-files:1")
    expect(page.locator("select[name=input_mode]").first).to_have_value("mount")
    page.locator("label", has=page.locator("input[name=source][value=paste]")).click()
    page.locator("textarea[name=code]").fill(SCRIPT)
    page.locator("label", has=page.locator("input[name=environment_kind][value=system]")).click()
    page.locator("input[name=arguments]").fill("${{inputs.data}} ${{outputs.old}}")
    page.locator("input[name=output_name]").first.fill("old")
    page.locator("input[name=experiment]").fill("data-story")
    watch.axe("new run with data")
    page.get_by_role("button", name=re.compile("Submit")).click()
    expect(page).to_have_url(re.compile(r"/w/main/runs/data-story_"), timeout=20_000)
    return re.sub(r"[?#].*", "", page.url)


def _followed(page: Page, watch: Watch) -> None:
    """The page of the run says by itself that it is done, what it read and what it left."""
    expect(page.locator(".at-page-title")).to_contain_text("Completed", timeout=60_000)
    data = page.locator("section", has=page.get_by_role("heading", name="Inputs and outputs"))
    expect(data.get_by_role("link", name="lake-files:1")).to_be_visible()
    expect(data.get_by_role("link", name="old/", exact=True)).to_be_visible(timeout=15_000)
    watch.axe("run with data")
    page.get_by_role("link", name="Outputs + logs").click()
    expect(page.get_by_text(re.compile(r"inputs: \{'data': lake-files:1 at "))).to_be_visible(timeout=15_000)
    expect(page.get_by_text("read 200 rows")).to_be_visible()


def _made(page: Page, watch: Watch, run_url: str) -> None:
    page.goto(run_url)
    page.get_by_role("link", name="old/", exact=True).click()
    expect(page).to_have_url(re.compile("/w/main/data/"))
    expect(page.locator(".at-page-title")).to_contain_text("old/")
    expect(page.get_by_role("link", name=re.compile("data-story_")).first).to_be_visible()
    watch.axe("what the run made")
    page.get_by_role("link", name="Preview").click()
    expect(page.get_by_text("old.csv").last).to_be_visible(timeout=30_000)


def _around(page: Page, watch: Watch, run_url: str) -> None:
    """The graph leads from what the run read to what it wrote, and back to the run."""
    page.get_by_role("link", name="Lineage").click()
    graph = page.locator(".data-graph")
    for text in ("lake-files:1", "data-story #1", "old/"):
        expect(graph.get_by_role("link", name=text)).to_be_visible()
    watch.axe("lineage")
    graph.get_by_role("link", name="lake-files:1").click()
    expect(page).to_have_url(re.compile("/datasets/lake-files/"))
    page.locator("section", has=page.get_by_role("heading", name="Used by")).get_by_role("link").last.click()
    expect(page).to_have_url(run_url)
