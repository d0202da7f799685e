"""A real scikit-learn in a virtual environment of its own, real models, and services that really run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from compute import env_services, reconcile, states
from compute.environments import Recipe
from compute.models import Environment, Unit
from compute.resolving import uv_binary
from compute.services import unit_advance
from compute.services.targets import target_driver
from compute.spec import Handle
from models_registry import services
from models_registry.models import Deployment, ModelVersion
from tests.stack import free_port

TRAIN = """
import joblib, pandas, sys
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
out = sys.argv[1]
x, y = load_iris(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=1000).fit(x, y), out + "/iris.joblib")
joblib.dump(RandomForestClassifier(400, random_state=0).fit(x, y), out + "/forest.joblib")
frame = pandas.DataFrame({"colour": ["red", "blue", "red", "blue"], "size": [1.0, 2.0, 3.0, 4.0]})
columns = ColumnTransformer([("c", OneHotEncoder(), ["colour"])], remainder="passthrough")
joblib.dump(make_pipeline(columns, LogisticRegression()).fit(frame, ["a", "b", "a", "b"]), out + "/named.joblib")
texts = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good day", "bad night"], ["+", "-"])
joblib.dump(texts, out + "/text.joblib")
"""
IRIS = {"data": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}


@pytest.fixture(scope="session")
def sklearn_python() -> str:
    """The interpreter of a virtual environment with scikit-learn and pandas, built once and kept for later sessions."""
    folder = Path(tempfile.gettempdir()) / f"atelier-test-sklearn-{sys.version_info[0]}{sys.version_info[1]}"
    python = folder / "bin" / "python"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            uv = str(uv_binary())
            subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, str(folder)], check=True)
            packages = ["scikit-learn", "pandas", "joblib"]
            subprocess.run([uv, "pip", "install", "-q", "-p", str(python), *packages], check=True)
            subprocess.run([str(python), "-c", TRAIN, str(folder)], check=True)
            (folder / "ready").touch()
    return str(python)


@pytest.fixture(scope="session")
def trained(sklearn_python: str) -> Path:
    """The folder with iris.joblib, forest.joblib, named.joblib and text.joblib."""
    return Path(sklearn_python).parent.parent


def http(
    url: str, body: Any = None, key: str = "", method: str | None = None, mime: str = "application/json"
) -> tuple[int, Any]:
    """(status, JSON) of one call; raises OSError where nobody answers."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": mime})
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def wait(check: Callable[[], Any], timeout: float = 30.0, what: str = "") -> Any:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            value = check()
            if value:
                return value
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout} s: {what}")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would have been sent to the workers; there is no broker in these tests."""
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr("compute.publish.app.send_task", lambda task, args=(), **_rest: sent.append((task, *args)))
    return sent


@pytest.fixture
def register(team: Any) -> Callable[..., ModelVersion]:
    """Registers bytes as a model."""

    def make(name: str = "iris", content: Path | None = None, **columns: Any) -> ModelVersion:
        with contextlib.ExitStack() as stack:
            import io

            stream = stack.enter_context(content.open("rb")) if content else io.BytesIO(b"not a model")
            given = {"framework": "ScikitLearn", "files": [("model.joblib", stream)], **columns}
            return services.model_register(workspace=team.workspace, user=team.contributor, name=name, **given)

    return make


@pytest.fixture
def environment(team: Any, sklearn_python: str) -> Environment:
    recipe = Recipe(kind="system", interpreter=sklearn_python)
    return env_services.environment_register(workspace=team.workspace, name="sklearn", recipe=recipe, user=None)


@dataclass
class Serving:
    """Deploys and drives services by hand, as worker and beat would."""

    team: Any
    made: list[int] = field(default_factory=list)

    def deploy(self, version: ModelVersion, name: str = "iris", **columns: Any) -> Deployment:
        made = services.deploy(
            workspace=self.team.workspace, user=self.team.contributor, name=name, version=version, **columns
        )
        self.made.append(made.endpoint_id)
        return made

    def until(self, deployment: Deployment, *wanted: str, timeout: float = 40.0) -> Deployment:
        def check() -> bool:
            for unit in Unit.objects.exclude(state__in=states.TERMINAL):
                unit_advance(unit.pk)
            reconcile.tick()
            services.health_tick()
            deployment.refresh_from_db()
            return deployment.state in wanted

        try:
            wait(check, timeout, f"{deployment} is {wanted}")
        except AssertionError:
            raise AssertionError(f"{deployment.state}: {deployment.error} {deployment.unit}") from None
        return deployment


@pytest.fixture
def serving(team: Any, published: list[Any], settings: Any) -> Iterator[Serving]:
    first = free_port()
    settings.ATELIER_SERVICE_PORTS = f"{first}-{min(first + 40, 65535)}"
    yield Serving(team)
    for unit in Unit.objects.filter(kind="service"):
        driver = target_driver(unit.target)
        if driver.find(unit.key) is not None:
            driver.cancel(Handle(unit.key), 0)
            wait(
                lambda found=unit: (
                    Path(settings.ATELIER_DATA) / "units" / found.key[:2] / found.key / "exit.json"
                ).exists(),
                15,
            )
