"""The sample experiment of a new workspace: really run, its model really registered."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from compute import env_services, services
from compute.environments import recipe_from_conda
from models_registry.services import model_register
from runs.models import Run
from runs.services.snapshots import snapshot_from_directory
from runs.services.submit import run_submit
from studio.accounts.models import User, Workspace

EXPERIMENT = "iris-sample"
WAIT_SECONDS = 900


class Command(BaseCommand):
    help = "Run the sample experiment (iris with scikit-learn) in a workspace and register its model."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", default="", help="name of the workspace; the first one when left out")

    def handle(self, *args: Any, **options: Any) -> None:
        named = Workspace.objects.filter(name=options["workspace"]) if options["workspace"] else Workspace.objects
        workspace = named.order_by("pk").first()
        owner = User.objects.filter(
            memberships__workspace=workspace, memberships__role="owner", is_service=False
        ).first()
        if workspace is None or owner is None:
            raise CommandError("There is no such workspace with an owner. Start the studio first: manage.py up")
        run = self.submit(workspace, owner)
        self.wait(run)
        version = model_register(
            workspace=workspace,
            user=owner,
            name="iris",
            run=run,
            path="outputs/model.joblib",
            description="The sample model: which of three irises is it?",
            tags={"sample": None},
            framework="ScikitLearn",
            resource_configuration={"cpu": 1, "memory_in_gb": 0.5},
            sample_input=[[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]],
        )
        self.say(f"ready: experiment {EXPERIMENT}, model {version}")

    def submit(self, workspace: Workspace, owner: User) -> Run:
        folder = settings.BASE_DIR / "examples" / "iris"
        recipe = recipe_from_conda((folder / "conda_dependencies.yml").read_text(encoding="utf-8"))
        environment = env_services.environment_register(
            workspace=workspace, name="iris-sample", recipe=recipe, user=owner, description="For the sample experiment."
        )
        return run_submit(
            workspace=workspace,
            user=owner,
            experiment=EXPERIMENT,
            script="train_iris.py",
            arguments=["--kernel", "linear", "--penalty", "1.0"],
            snapshot=snapshot_from_directory(workspace, folder),
            target=services.ensure_local_target(workspace),
            environment=environment,
            environment_variables={},
            tags={"sample": None},
            properties={},
            time_limit_s=600,
        )

    def wait(self, run: Run) -> None:
        """Say each change; raises CommandError with the way out when the run does not complete."""
        shown, deadline = "", time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            run.refresh_from_db()
            if run.status != shown:
                shown = run.status
                self.say(shown + (" (building its environment with scikit-learn)" if shown == "Preparing" else ""))
            if run.status in {"Completed", "Failed", "Canceled"}:
                break
            time.sleep(0.5)
        if run.status != "Completed":
            why = (run.error or {}).get("message", "it did not end in time")
            raise CommandError(
                f"The sample did not complete: {why}. Its page: {settings.ATELIER_URL}{run.get_absolute_url()}"
            )

    def say(self, text: str) -> None:
        self.stdout.write(f"    sample: {text}")
        self.stdout.flush()
