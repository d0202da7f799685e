"""The story in a real browser on real services: from sign-in to the score of a deployed model.

Any error in the browser's console fails it, and so does any axe violation of level A or AA on a page that it passes.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser import Watch, launch
from tests.stack import Stack

pytestmark = [pytest.mark.services, pytest.mark.browser, pytest.mark.timeout(600)]

SCRIPT = """
import time, joblib
from azureml.core import Run
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

run = Run.get_context()
x, y = load_iris(return_X_y=True)
for step in range(20):
    run.log("loss", 1 / (step + 1), step=step)
    print(f"line {step} of twenty", flush=True)
    time.sleep(0.1)
print("\\x1b[31m<b>not html</b>\\x1b[0m")
model = LogisticRegression(max_iter=500).fit(x, y)
run.log("accuracy", model.score(x, y))
joblib.dump(model, "outputs/model.joblib")
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environ = {"ATELIER_OWNER_PASSWORD": "story-pass-12345"}
    folder = tmp_path_factory.mktemp("story")
    stack = Stack(folder, environ=environ)
    stack.migrate()
    stack.manage("prepare")
    with stack:
        yield stack


@pytest.fixture(scope="module")
def page(stack: Stack) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context(base_url=stack.url, viewport={"width": 1440, "height": 900})
        yield context.new_page()
        browser.close()


def test_from_sign_in_to_score(stack: Stack, page: Page, tmp_path: Path) -> None:
    watch = Watch(page)
    _sign_in(page)
    watch.axe("home")

    run_url = _submit(page, watch)
    _watch_live(page, watch)
    _metrics(page, watch, run_url)
    _tabs(page, watch, run_url)
    _register(page, watch, run_url)
    _deploy(page, watch)
    _call_from_outside(page, stack)
    _lists(page, watch)
    watch.finish()


def _sign_in(page: Page) -> None:
    page.goto("/")
    expect(page).to_have_url(re.compile("/account/login/"))
    page.locator("input[name=login]").fill("owner")
    page.locator("input[name=password]").fill("story-pass-12345")
    page.get_by_role("button", name="Sign in").first.click()
    expect(page).to_have_url(re.compile("/w/main/"))


def _submit(page: Page, watch: Watch) -> str:
    page.get_by_role("link", name="New run").first.click()
    expect(page.get_by_role("heading", name="New run")).to_be_visible()
    watch.axe("new run")
    page.locator("label", has=page.locator("input[name=source][value=paste]")).click()
    page.locator("textarea[name=code]").fill(SCRIPT)
    page.locator("label", has=page.locator("input[name=environment_kind][value=pip]")).click()
    page.locator("textarea[name=packages]").fill("scikit-learn\njoblib")
    page.locator("input[name=experiment]").fill("story")
    page.get_by_role("button", name=re.compile("Submit")).click()
    expect(page).to_have_url(re.compile(r"/w/main/runs/story_"), timeout=20_000)
    return re.sub(r"[?#].*", "", page.url)


def _watch_live(page: Page, watch: Watch) -> None:
    """Preparing shows first; then lines appear by themselves; then the page says Completed by itself."""
    page.get_by_role("link", name="Outputs + logs").click()
    expect(page.get_by_text("line 3 of twenty")).to_be_visible(timeout=180_000)
    expect(page.get_by_text("line 19 of twenty")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("<b>not html</b>")).to_be_visible(timeout=30_000)
    expect(page.locator(".at-page-title")).to_contain_text("Completed", timeout=30_000)
    text = page.locator("[data-log-view]").inner_text()
    for number in range(20):
        assert len(re.findall(rf"line {number} of twenty", text)) == 1
    watch.axe("outputs and logs")
    page.get_by_placeholder(re.compile("Search")).fill("line 17")
    page.keyboard.press("Enter")
    expect(page.locator("[data-log-view]").get_by_text("line 17").first).to_be_visible()


def _metrics(page: Page, watch: Watch, run_url: str) -> None:
    page.goto(run_url + "metrics/")
    expect(page.get_by_text("accuracy").first).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible(timeout=15_000)
    watch.axe("metrics")


def _tabs(page: Page, watch: Watch, run_url: str) -> None:
    for tab in ("", "outputs/", "code/", "environment/", "details/"):
        assert page.goto(run_url + tab).status == 200
        watch.axe(f"run {tab or 'overview'}")
    page.goto(run_url + "code/")
    expect(page.get_by_text("LogisticRegression").first).to_be_visible()
    page.go_back()
    expect(page).to_have_url(re.compile("details/"))


def _register(page: Page, watch: Watch, run_url: str) -> None:
    page.goto(run_url)
    page.get_by_role("link", name="Register model").click()
    expect(page.get_by_role("heading", name="Register a model")).to_be_visible()
    watch.axe("register")
    page.locator("input[name=name]").fill("story-model")
    page.locator("input[name=path][value='outputs/model.joblib']").check(force=True)
    page.locator("select[name=framework]").select_option("ScikitLearn")
    page.get_by_role("button", name="Register").click()
    expect(page).to_have_url(re.compile("/models/story-model"))
    watch.axe("model version")


def _deploy(page: Page, watch: Watch) -> None:
    page.goto("/w/main/endpoints/deploy/?model=story-model:1")
    watch.axe("deploy")
    page.locator("input[name=name]").fill("story-service")
    page.get_by_role("button", name="Deploy").click()
    expect(page).to_have_url(re.compile("/endpoints/story-service/"))
    expect(page.get_by_text("Healthy").first).to_be_visible(timeout=60_000)
    watch.axe("endpoint")
    page.goto("/w/main/endpoints/story-service/test/")
    page.locator("textarea[name=body]").fill('{"data": [[5.1, 3.5, 1.4, 0.2]]}')
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#answer")).to_contain_text("200", timeout=15_000)
    expect(page.locator("#answer")).to_contain_text("0")
    watch.axe("endpoint test")


def _call_from_outside(page: Page, stack: Stack) -> None:
    """The address and a key from the API are all that a caller needs."""
    token = stack.python(
        "from studio.accounts.models import User\nfrom studio.accounts.tokens import token_create\n"
        "print(token_create(user=User.objects.get(username='owner'), name='story', days=1)[1])"
    ).strip().splitlines()[-1]  # fmt: skip
    base = stack.url + "/api/v1/workspaces/main/endpoints/story-service"
    bearer = {"Authorization": f"Bearer {token}"}
    endpoint = _json(urllib.request.Request(base, headers=bearer))
    keys = _json(urllib.request.Request(base + "/keys", headers=bearer))
    key = keys.get("primary") or keys["primaryKey"]
    body = json.dumps({"data": [[6.7, 3.0, 5.2, 2.3], [5.1, 3.5, 1.4, 0.2]]}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    assert _json(urllib.request.Request(endpoint["scoring_uri"], data=body, headers=headers)) == [2, 0]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(endpoint["scoring_uri"], data=body))
    assert refused.value.code == 401


def _json(request: urllib.request.Request):  # type: ignore[no-untyped-def]
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def _lists(page: Page, watch: Watch) -> None:
    for path in (
        "runs/", "experiments/", "experiments/story/", "models/", "models/story-model/", "endpoints/", "environments/",
        "compute/", "compute/local/", "members/", "audit/", "settings/", "endpoints/story-service/swagger/",
        "endpoints/story-service/logs/", "endpoints/story-service/keys/",
    ):  # fmt: skip
        answer = page.goto(f"/w/main/{path}")
        assert answer.status == 200, path
        watch.axe(path)
    page.goto("/account/tokens/")
    watch.axe("tokens")


def test_pages_fit_a_phone_in_both_themes(stack: Stack, page: Page) -> None:
    """No page is wider than a phone, and none has a contrast too low in dark."""
    run = stack.query("SELECT run_id FROM runs_run ORDER BY id DESC LIMIT 1")[0]["run_id"]
    page.set_viewport_size({"width": 390, "height": 844})
    watch = Watch(page)
    for theme in ("light", "dark"):
        page.context.add_cookies([{"name": "theme", "value": theme, "url": stack.url}])
        for path in (
            "", "runs/new/", "runs/", f"runs/{run}/", f"runs/{run}/metrics/", f"runs/{run}/outputs/", "experiments/",
            "models/", "models/story-model/", "endpoints/", "environments/", "compute/", "members/", "audit/",
            "settings/",
        ):  # fmt: skip
            page.goto(f"/w/main/{path}")
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, f"{path} is {width} px wide"
            watch.axe(f"{path} {theme}")
    watch.finish()
