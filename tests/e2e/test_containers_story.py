"""The same script on this machine, in a container and on another machine, by naming another compute target: a real
browser, the command line, a real Docker engine and a real sshd.

Any error in the browser's console fails it, and so does any axe violation of level A or AA on a page that it passes.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from compute import host_keys
from tests.browser import Watch, launch
from tests.client.conftest import Script
from tests.gear import docker as gear
from tests.gear.sshd import Sshd, User
from tests.stack import Stack

pytestmark = [pytest.mark.services, pytest.mark.browser, pytest.mark.timeout(400)]

PASSWORD = "story-pass-12345"
SCRIPT = """
import os, platform, sys, time
from azureml.core.run import Run

lines, megabytes = (int(word) for word in sys.argv[1:])
run = Run.get_context()
for number in range(lines):
    print(f"line {number}, batch {os.environ['BATCH']}", flush=True)
    time.sleep(0.2)
held = b"x" * (megabytes << 20)
run.log("held", len(held) >> 20)
os.makedirs("outputs", exist_ok=True)
with open("outputs/where.txt", "w") as file:
    file.write(platform.node())
print("wrote it")
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environ = {"ATELIER_OWNER_PASSWORD": PASSWORD, "ATELIER_BASE_IMAGE": gear.test_image()}
    stack = Stack(tmp_path_factory.mktemp("containers-story"), environ=environ)
    stack.migrate()
    stack.manage("prepare")
    with stack:
        yield stack


@pytest.fixture
def server(stack: Stack) -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture
def page(stack: Stack) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context(base_url=stack.url, viewport={"width": 1440, "height": 1000})
        yield context.new_page()
        browser.close()


class Project:
    """A folder with the script, and the command line in it."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        token = stack.python(
            "from studio.accounts.models import User\nfrom studio.accounts.tokens import token_create\n"
            "print(token_create(user=User.objects.get(username='owner'), name='story', days=1)[1])"
        ).split()[-1]
        self.folder = folder
        self.script = Script({"ATELIER_TOKEN": token, "ATELIER_HOME": str(folder.parent / "home")})
        folder.mkdir()
        config = {"subscription_id": "s", "resource_group": "g", "workspace_name": "main", "endpoint": stack.url}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "myscript.py").write_text(SCRIPT)

    def atelier(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        return self.script("-m", "atelier", *words, cwd=self.folder, code=code)

    def submit(self, name: str, *words: str, code: int | None = 0) -> tuple[str, str]:
        """The run's id and everything that the terminal shows of it."""
        done = self.atelier("experiment", "submit", "-c", name, *words, code=code)
        found = re.search(r"^RunId: (\S+)$", done.stdout, re.M)
        assert found, done.stdout + done.stderr
        return found.group(1), done.stdout


@pytest.fixture
def project(tmp_path: Path, stack: Stack) -> Iterator[Project]:
    yield Project(tmp_path / "titanic", stack)
    # The images that the story built go with it; layers that others have too stay.
    found = stack.query("SELECT detail FROM compute_environmentbuild")
    for tag in {json.loads(row["detail"] or "{}").get("image") or "" for row in found}:
        if tag.startswith("atelier-env:"):
            subprocess.run(["docker", "-H", f"unix://{gear.SOCKET}", "rmi", tag], capture_output=True, check=False)


def test_the_same_script_here_in_a_container_and_over_there(page: Page, server: Sshd, project: Project) -> None:
    watch = Watch(page)
    _sign_in(page)
    _attach_docker(page, watch)
    _attach_remote(page, watch, server, server.user(groups=["docker"], banner=True))
    _configurations(project)

    local, said = project.submit("local", "myscript.py", "2", "1")
    assert "line 1, batch 32\nwrote it\n" in said and "Status: Completed" in said
    docker, said = project.submit("docker", "myscript.py", "2", "1")
    assert "line 1, batch 64\nwrote it\n" in said and "Status: Completed" in said
    remote = _watch_remote(page, watch, project)
    again = _reused(page, watch, project)
    limited = _new_run(page, watch)
    hungry = _out_of_memory(page, watch, project)
    _history(page, watch, project, {local: "local", docker: "docker", remote: "remotevm", again: "docker",
                                    limited: "docker", hungry: "docker"})  # fmt: skip
    _detach(page, watch)
    watch.finish()


def _sign_in(page: Page) -> None:
    page.goto("/w/main/compute/")
    page.locator("input[name=login]").fill("owner")
    page.locator("input[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").first.click()
    expect(page).to_have_url(re.compile("/w/main/compute/"))


def _attach_docker(page: Page, watch: Watch) -> None:
    watch.axe("compute")
    page.get_by_role("link", name="Attach compute").click()
    page.get_by_role("link", name=re.compile("Docker on this machine")).click()
    page.get_by_label("Name", exact=True).fill("docker")
    page.get_by_label(re.compile("^Memory")).fill("512m")
    watch.axe("attach docker")
    page.get_by_role("button", name="Attach and test").click()
    expect(page.locator("#target-state")).to_have_text("Ready", timeout=30_000)
    expect(page.locator("#target-facts")).to_contain_text(gear.engine_version())
    expect(page.locator("#target-facts")).to_contain_text("512m")
    expect(page.locator("#target-images")).not_to_contain_text("Asking the engine", timeout=30_000)
    watch.axe("docker")


def _attach_remote(page: Page, watch: Watch, server: Sshd, user: User) -> None:
    """Nobody signs in before the fingerprint on the page was found to be that of the machine."""
    page.goto("/w/main/compute/attach/?driver=remotedocker")
    page.get_by_label("Name", exact=True).fill("remotevm")
    page.get_by_label("Address").fill("127.0.0.1")
    page.get_by_label(re.compile("^Port")).fill(str(server.port))
    page.get_by_label("User", exact=True).fill(user.name)
    page.get_by_label(re.compile("^Private key")).fill(user.key)
    watch.axe("attach remotedocker")
    page.get_by_role("button", name="Attach and test").click()
    expect(page.get_by_role("heading", name="Confirm the host key")).to_be_visible(timeout=60_000)
    shown = re.search(r"SHA256:[A-Za-z0-9+/]{43}", page.locator(".cmp-key-card").inner_text())
    assert shown and shown.group() == host_keys.fingerprint(server.host_key()) and server.logins == 0
    watch.axe("host key")
    page.get_by_role("button", name="It is the same: confirm").click()
    expect(page.locator("#target-state")).to_have_text("Ready", timeout=60_000)
    expect(page.locator("#target-facts")).to_contain_text(user.name)
    expect(page.locator("#target-images")).not_to_contain_text("Asking the engine", timeout=30_000)
    watch.axe("remotevm")


def _configurations(project: Project) -> None:
    for name, batch in (("local", "32"), ("docker", "64"), ("remotevm", "128")):
        project.atelier("runconfiguration", "create", "--name", name, "--set", f"BATCH={batch}")
    (project.folder / "aml_config" / "conda_dependencies.yml").write_text("dependencies:\n- pip:\n  - six==1.13.0\n")


def _watch_remote(page: Page, watch: Watch, project: Project) -> str:
    """Lines appear by themselves while it runs; until it has ended the target is not let go."""
    words = ("experiment", "submit", "-c", "remotevm", "--no-wait", "myscript.py", "30", "1")
    run = project.atelier(*words).stdout.strip()
    page.goto(f"/w/main/runs/{run}/outputs/")
    expect(page.get_by_text("line 1, batch 128")).to_be_visible(timeout=120_000)
    expect(page.locator(".at-page-title")).to_contain_text("Running")
    refused = project.atelier("computetarget", "detach", "remotevm", code=1).stderr
    assert "1 run, build or service still lives on remotevm. Cancel it first. With --cancel" in refused
    expect(page.get_by_text("line 29, batch 128")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("wrote it")).to_be_visible(timeout=30_000)
    expect(page.locator(".at-page-title")).to_contain_text("Completed", timeout=30_000)
    text = page.locator("[data-log-view]").inner_text()
    assert [len(re.findall(rf"\bline {number}, batch 128\b", text)) for number in range(30)] == [1] * 30
    watch.axe("log of the remote run")
    expect(page.get_by_text("where.txt").first).to_be_visible()
    return run


def _reused(page: Page, watch: Watch, project: Project) -> str:
    run, said = project.submit("docker", "myscript.py", "1", "1")
    assert "Status: Completed" in said
    page.goto(f"/w/main/runs/{run}/")
    expect(page.locator(".run-stages")).to_contain_text("Reused image atelier-env:")
    watch.axe("run that reused an image")
    return run


def _new_run(page: Page, watch: Watch) -> str:
    page.goto("/w/main/compute/docker/")
    page.get_by_role("link", name="New run here").click()
    expect(page.locator("#target")).to_have_value("docker")
    page.locator("label", has=page.locator("input[name=source][value=paste]")).click()
    page.locator("textarea[name=code]").fill(SCRIPT)
    page.locator("#arguments").fill("2 100")
    page.locator("label", has=page.locator("input[name=environment_kind][value=system]")).click()
    page.get_by_role("textbox", name="Variable").first.fill("BATCH")
    page.locator("input[name=variable_value]").first.fill("8")
    page.locator("input[name=experiment]").fill("titanic")
    page.locator(".run-resources summary").click()
    page.get_by_label("Memory", exact=True).fill("200m")
    watch.axe("new run")
    page.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile(r"/w/main/runs/titanic_"), timeout=20_000)
    run = str(re.findall(r"/runs/([^/?#]+)", page.url)[0])
    expect(page.locator(".at-page-title")).to_contain_text("Completed", timeout=60_000)
    watch.axe("run with a limit")
    return run


def _out_of_memory(page: Page, watch: Watch, project: Project) -> str:
    sentence = "The run needed more memory than its limit of 64 MiB, so it was ended."
    run, said = project.submit("docker", "--memory", "64m", "myscript.py", "1", "400", code=None)
    assert sentence in said and "Status: Failed" in said
    page.goto(f"/w/main/runs/{run}/")
    expect(page.locator(".run-alert-title")).to_contain_text(sentence)
    watch.axe("run out of memory")
    return run


def _history(page: Page, watch: Watch, project: Project, runs: dict[str, str]) -> None:
    """All in one list, wherever they ran, and what they wrote is here."""
    listed = project.atelier("history", "list").stdout
    page.goto("/w/main/runs/")
    watch.axe("runs")
    for run, target in runs.items():
        assert re.search(rf"^{run} .* {target}\b", listed, re.M), listed
        expect(page.locator("tr", has=page.locator(f"a[href*='{run}']")).first).to_contain_text(target)
    where: dict[str, Any] = {}
    for run, target in runs.items():
        if target != "docker":
            project.atelier("history", "download", run, "outputs/", "--to", run)
            where[target] = (project.folder / run / "outputs" / "where.txt").read_text()
    assert where["local"] != where["remotevm"]


def _detach(page: Page, watch: Watch) -> None:
    page.goto("/w/main/compute/remotevm/")
    expect(page.locator("#target-live")).to_contain_text("Completed")
    watch.axe("target that has worked")
    page.get_by_role("link", name="Detach", exact=True).click()
    page.locator("#target-detach").get_by_role("button", name="Detach", exact=True).click()
    expect(page).to_have_url(re.compile("/w/main/compute/$"))
    expect(page.locator("main")).not_to_contain_text("remotevm")
