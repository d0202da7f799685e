"""What notebooks show of a run, as text."""

from __future__ import annotations

from typing import Any


class RunDetails:
    """``RunDetails(run).show()`` prints a summary of the run as it is now."""

    def __init__(self, run_instance: Any) -> None:
        self._run = run_instance

    def get_widget_data(self) -> dict[str, Any]:
        run = self._run
        return {
            "status": run.get_status(),
            "run_id": run.id,
            "workbench_run_details_uri": run.get_portal_url(),
            "run_metrics": run.get_metrics(),
        }

    def show(self, render_lib: Any = None, widget_settings: Any = None) -> None:
        found = self.get_widget_data()
        print(f"Run {found['run_id']}: {found['status']}")
        print(found["workbench_run_details_uri"])
        for name, value in found["run_metrics"].items():
            print(f"  {name}: {value}")


def set_diagnostics_collection(send_diagnostics: bool = True, verbosity: Any = None) -> None:
    """Does nothing: this client sends nothing but to its studio."""
