"""Watching a run: its state, its live output, its metrics and details."""

from __future__ import annotations

import sys
import time
from typing import Any, Callable

from atelier.exceptions import ActivityFailedException, ExperimentExecutionException

ENDED = frozenset({"Completed", "Failed", "Canceled"})
LOG_NAME = "user_logs/std_log.txt"
_PIECE = 1 << 18
_GIVE_UP = 600.0  # seconds without the studio


class RunWatch:
    """Part of Run. Needs ``id``, ``workspace``, ``_load`` and ``_call``."""

    id: str
    workspace: Any
    _call: Any
    _load: Any
    flush: Any
    get_children: Any

    def get_status(self) -> str:
        """NotStarted, Preparing, Queued, Starting, Running, Finalizing, Completed, Failed, CancelRequested, Canceled or
        NotResponding."""
        return str(self._load(fresh=True)["status"])

    def update(self) -> dict[str, Any]:
        return dict(self._load(fresh=True))

    def get_portal_url(self) -> str:
        return str(self._load()["url"])

    def get_details(self) -> dict[str, Any]:
        """Keys runId target status startTimeUtc endTimeUtc properties inputDatasets outputDatasets runDefinition
        logFiles
        submittedBy, and error and warnings where there are some."""
        return dict(self._call("GET", "/details"))

    def get_details_with_logs(self) -> dict[str, Any]:
        """As ``get_details``, with the text of each log under ``logFiles``."""
        details = self.get_details()
        details["logFiles"] = {name: self._read_file(name) for name in details.get("logFiles") or {}}
        return details

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: str | None = None, populate: bool = False
    ) -> dict[str, Any]:
        """Metrics by name: a value for one that was logged once, a list for one that was logged more often. With
        ``recursive`` a dictionary by run id, this run and all below it."""
        self.flush()
        if recursive:
            found = {self.id: self.get_metrics(name)}
            found.update({child.id: child.get_metrics(name) for child in self.get_children(recursive=True)})
            return found
        metrics = dict(self._call("GET", "/metrics"))
        return metrics if name is None else {key: value for key, value in metrics.items() if key == name}

    def _read_file(self, name: str) -> str:
        from atelier.transport import relative, segment

        path = f"runs/{segment(self.id)}/files/content/{relative(name)}"
        return self.workspace._request("GET", path).body.decode("utf-8", "replace")

    # -- live output ----------------------------------------------------------------------------------------------

    def stream(
        self,
        write: Callable[[bytes], Any],
        *,
        start: int = 0,
        follow: bool = True,
        waiting: Callable[[dict[str, Any]], Any] | None = None,
    ) -> int:
        """Give the bytes of the log to ``write``, each once and in order, from offset ``start``; with ``follow``
        until the
        log is sealed. ``waiting`` is called with the run while nothing has come yet. Gives the offset reached.

        A lost connection is taken up again at the offset that was reached. Raises StudioUnreachable after ten minutes
        without an answer.
        """
        from atelier.exceptions import StudioUnreachable
        from atelier.transport import segment

        path, offset, lost, ended = f"runs/{segment(self.id)}/logs", start, 0.0, False
        while True:
            wait = 0 if not follow else 20 if offset > start or waiting is None else 2
            try:
                found = self.workspace._request(
                    "GET", path, params={"from": offset, "limit": _PIECE, "wait": wait}, timeout=60, retries=3
                )
            except StudioUnreachable:
                lost = lost or time.monotonic()
                if not follow or time.monotonic() - lost > _GIVE_UP:
                    raise
                time.sleep(1)
                continue
            lost = 0.0
            begins = int(found.headers.get("x-atelier-offset", offset))
            piece = found.body[max(offset - begins, 0) :]
            if piece:
                write(piece)
                offset = begins + len(found.body)
            sealed = found.headers.get("x-atelier-sealed", "").lower() in ("1", "true")
            if piece:
                ended = False
                continue
            if offset >= int(found.headers.get("x-atelier-size", 0)) and (sealed or ended or not follow):
                return offset
            # A run that ended before its command began has a log that nobody seals. What it wrote is there before its
            # state says that it ended, so one more look is enough.
            data = self._load(fresh=True)
            ended = data["status"] in ENDED
            if waiting is not None and offset == start:
                waiting(data)

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> dict[str, Any]:
        """Wait for the end and give the details. With ``show_output`` the run's output is printed as it comes.

        Raises ActivityFailedException when the run failed, unless ``raise_on_error`` is False.
        """
        if show_output:
            try:
                self._show(sys.stdout)
            except KeyboardInterrupt:
                raise ExperimentExecutionException(
                    f"The output of run {self.id} is no longer shown; the run goes on. run.cancel() ends it."
                ) from None
        pause = 0.1
        while self.get_status() not in ENDED:
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)
        details = self.get_details()
        if show_output:
            self._summary(details)
        if details["status"] == "Failed" and raise_on_error:
            import json

            raise ActivityFailedException(error_details=json.dumps(details.get("error"), indent=4))
        return details

    def _show(self, out: Any) -> None:
        import codecs

        print(f"RunId: {self.id}")
        print(f"Web View: {self.get_portal_url()}", flush=True)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        shown = {"title": False, "status": ""}

        def title() -> None:
            if not shown["title"]:
                shown["title"] = True
                print(f"\n{_ruled(f'Streaming {LOG_NAME}')}\n", flush=True)

        def write(piece: bytes) -> None:
            title()
            out.write(decoder.decode(piece))
            out.flush()

        def waiting(data: dict[str, Any]) -> None:
            status = data["status"]
            if status != shown["status"] and status not in ENDED and not shown["title"]:
                place = data.get("queue_position")
                print(f"Status: {status}{f' (place {place} in the queue)' if place else ''}", flush=True)
            shown["status"] = status

        self.stream(write, waiting=waiting)
        title()
        out.write(decoder.decode(b"", True))
        print(flush=True)

    def _summary(self, details: dict[str, Any]) -> None:
        print(_ruled("Execution Summary"))
        print(f"RunId: {self.id}")
        print(f"Web View: {self.get_portal_url()}\n")
        for warning in details.get("warnings") or ():
            print(f"Warning: {warning.get('message', warning) if isinstance(warning, dict) else warning}")
        if details.get("error"):
            import json

            print(f"Error:\n{json.dumps(details['error'], indent=4)}")
        sys.stdout.flush()


def _ruled(title: str) -> str:
    return f"{title}\n{'=' * len(title)}"
