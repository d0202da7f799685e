"""Docker on this machine: units are containers that see their folder at the path that it has in the studio.

What differs where the engine is far away is in two places: ``_engine``, which gives a client of the engine, and
``_files``, which knows the folders of the units (``compute.drivers.container_files``). A subclass overrides these.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from django.conf import settings
from django.utils.translation import gettext, gettext_lazy
from docker import APIClient
from docker.errors import APIError

from compute.drivers import container_exit, container_fields, docker_checks, engine, own_container, unit_records
from compute.drivers import containers as boxes
from compute.drivers.base import DriverError, NotFound, Refused, Unreachable
from compute.drivers.container_files import ContainerFiles, LocalFiles, Look
from compute.drivers.engine import asking
from compute.installation import installation_id
from compute.spec import Capacity, FormField, Handle, Observation, Owned, Phase, Problem, UnitSpec
from studio.lib.errors import Invalid

SUBMIT_TRIES = 6  # with pauses of 6 s in all
ALIVE = frozenset({"running", "paused", "restarting"})
KILL_SLACK_S = 150.0  # beyond its grace a supervisor may need this long to keep the last output on a full disk
STARTING_S = 120.0
FRESH_S = 60.0
LOG_LINES = 20
LAST_WORDS_S = 5

_told: dict[str, float] = {}  # by key: when this process first told a unit to end


class DockerDriver:
    """Runs units in containers of the engine on this machine."""

    name: ClassVar[str] = "docker"
    title: ClassVar[Any] = gettext_lazy("Docker on this machine")
    summary: ClassVar[Any] = gettext_lazy("Runs are containers on the machine that Atelier runs on.")
    containers: ClassVar[bool] = True
    shared: ClassVar[bool] = True
    checks: ClassVar[Sequence[tuple[str, Any]]] = container_fields.CHECKS
    fields: ClassVar[Sequence[FormField]] = (
        container_fields.SLOTS,
        *container_fields.LIMITS,
        container_fields.VOLUMES,
    )

    def __init__(self, config: dict[str, Any], secrets: dict[str, str]) -> None:
        self.config = config
        self.secrets = secrets

    # The two places in which an engine far away differs.

    def _engine(self, timeout: float = engine.TIMEOUT_S) -> APIClient:
        """A client of the engine, kept by whoever makes it. ``timeout``: seconds of one answer. Raises Unreachable."""
        return engine.client(self.address, timeout)

    @functools.cached_property
    def _files(self) -> ContainerFiles:
        """The folders of units. Asks nobody by itself."""
        return LocalFiles(own_container.translator(lambda: own_container.own_mounts(self._engine())))

    # Around them.

    @property
    def address(self) -> str:
        """The engine's address in words of errors."""
        return engine.local_socket()

    def engine(self, timeout: float = engine.TIMEOUT_S) -> APIClient:
        """The engine, for others than this driver: image builds. Raises DriverError."""
        return self._engine(timeout)

    def engine_access(self) -> dict[str, Any]:
        """What ``compute.drivers.engine.connect`` needs to find this engine again in another process; no secrets."""
        return {"kind": self.name, "config": self.config}

    def limits(self) -> boxes.Limits:
        """Raises Refused where the target's own settings are wrong."""
        try:
            return boxes.configured(self.config)
        except Invalid as error:
            raise Refused("; ".join(text for texts in (error.errors or {}).values() for text in texts)) from error

    def _image(self, spec: UnitSpec) -> str:
        return spec.image or str(settings.ATELIER_BASE_IMAGE)

    def _inspect(self, key: str) -> dict[str, Any] | None:
        """The unit's container, None when there is none."""
        try:
            with asking(self.address):
                found: dict[str, Any] = self._engine().inspect_container(boxes.container_name(key))
        except NotFound:
            return None
        return found

    # What it says of itself.

    def check(self) -> list[Problem]:
        return docker_checks.check(self)

    def facts(self) -> dict[str, Any]:
        return docker_checks.facts(self)

    def slots(self) -> int | None:
        return int(self.config.get("slots") or settings.ATELIER_LOCAL_SLOTS or os.cpu_count() or 1)

    def capacity(self) -> Capacity:
        return Capacity(total=self.slots(), used=sum(one["State"] in ALIVE for one in self._list()))

    def _list(self) -> list[dict[str, Any]]:
        """All containers of this installation, in one request."""
        with asking(self.address):
            found: list[dict[str, Any]] = self._engine().containers(
                all=True, filters={"label": f"{boxes.INSTALLATION}={installation_id()}"}
            )
        return [one for one in found if boxes.is_ours(one)]

    def list_owned(self) -> Iterable[Owned]:
        for one in self._list():
            key = (one.get("Labels") or {}).get(boxes.UNIT)
            if key:
                yield Owned(key, Handle(key, {"container": one["Id"]}), float(one.get("Created") or 0))

    # Its start.

    def prepare(self, spec: UnitSpec) -> None:
        """Raises ImageMissing, and Refused where it asks for more than the target gives."""
        limits = boxes.granted(spec.resources, self.limits())
        image = self._image(spec)
        with asking(self.address, image=image):
            self._engine().inspect_image(image)
        if limits.gpus and not docker_checks.has_gpu_runtime(self, docker_checks.engine_info(self)):
            raise Refused(docker_checks.no_gpu_runtime(docker_checks.engine_info(self)))
        docker_checks.refuse_volumes(self)
        self._files.lay_out(spec)

    def submit(self, spec: UnitSpec) -> Handle:
        found = self.find(spec.key)
        if found is not None:
            return found
        self.prepare(spec)
        self._files.write(spec.key, "secrets.json", spec.secret_env)
        for attempt in range(SUBMIT_TRIES):
            try:
                container = self._create(spec)
                if self._files.look([spec.key])[spec.key].beat is not None:
                    return self._adopt(spec.key, container)
                self._start(spec, container)
            except NotFound:  # somebody else is just making it, or has taken it away as it could not be started
                time.sleep(0.1 * 2**attempt)
                continue
            return Handle(spec.key, {"container": container})
        raise Unreachable(gettext("The container of the run could not be made."))

    def _create(self, spec: UnitSpec) -> str:
        """The id of the unit's container, made now or before. NotFound: its name is taken, and it is not there."""
        image, client = self._image(spec), self._engine()
        arguments, host = boxes.create_arguments(
            spec,
            image=image,
            installation=spec.installation or installation_id(),
            place=self._files.place(spec.key),
            binds=[*self._files.binds(spec), *docker_checks.refuse_volumes(self)],
            limits=boxes.granted(spec.resources, self.limits()),
            **docker_checks.rights(self),
        )
        with asking(self.address, image=image):
            try:
                made = client.create_container(**arguments, host_config=client.create_host_config(**host))
                return str(made["Id"])
            except APIError as error:
                if engine.status(error) != 409:
                    raise
        details = self._inspect(spec.key)
        if details is None:
            raise NotFound(spec.key)
        if (details["Config"].get("Labels") or {}).get(boxes.UNIT) != spec.key:
            name = boxes.container_name(spec.key)
            raise Refused(gettext("The engine has a container %(name)s that is not ours.") % {"name": name})
        return str(details["Id"])

    def _adopt(self, key: str, container: str) -> Handle:
        """It ran already, and its container is gone: the one that was just made for it is one too many."""
        with contextlib.suppress(DriverError), asking(self.address):
            self._engine().remove_container(container, v=True)  # not by force: one that runs stays
        self._files.remove(key, "secrets.json")
        return Handle(key, {"container": container})

    def _start(self, spec: UnitSpec, container: str) -> None:
        """Idempotent: the engine does nothing where it runs. Raises Refused where it never will, and takes it away."""
        details = self._inspect(spec.key)
        if details is None:
            raise NotFound(spec.key)
        if boxes.ever_started(details["State"]):
            return
        try:
            with asking(self.address, image=self._image(spec), python=spec.python or boxes.PYTHON):
                self._engine().start(container)
        except (Refused, Unreachable) as error:
            details = self._inspect(spec.key)
            if details is not None and boxes.ever_started(details["State"]):
                return  # it was started all the same, by somebody else or before the answer was lost
            if isinstance(error, Refused) and details is not None:
                with contextlib.suppress(DriverError), asking(self.address):
                    self._engine().remove_container(container, v=True)
                self._files.remove(spec.key, "secrets.json")
            raise

    def find(self, key: str) -> Handle | None:
        details = self._inspect(key)
        if details is not None and boxes.ever_started(details["State"]):
            return Handle(key, {"container": details["Id"]})
        look = self._files.look([key])[key]
        if look.beat is not None or look.exit is not None:
            return Handle(key, {"container": details["Id"]} if details else {})
        return None

    # Its life.

    def observe(self, handles: Sequence[Handle]) -> dict[str, Observation]:
        if not handles:
            return {}
        listed = {(one.get("Labels") or {}).get(boxes.UNIT): one for one in self._list()}
        looks = self._files.look([handle.key for handle in handles])  # after the list: what has ended wrote its record
        return {handle.key: self._seen(handle.key, listed.get(handle.key), looks[handle.key]) for handle in handles}

    def _seen(self, key: str, listed: dict[str, Any] | None, look: Look) -> Observation:
        state = str((listed or {}).get("State") or "")
        started = (look.beat or {}).get("started")
        if look.exit is not None:
            return self._seen_ended(key, state, look)
        if state in ALIVE:
            detail = gettext("Its container is frozen.") if state == "paused" else ""
            phase = Phase.RUNNING if look.beat is not None else Phase.PENDING
            return Observation(phase, None, look.sizes, started, detail)
        if state == "created":
            return Observation(self._created_phase(listed or {}, look), None, look.sizes, started)
        details = self._inspect(key) if listed is not None else None
        if details is None:
            return Observation(Phase.GONE, None, look.sizes, started)
        record = container_exit.without_record(details, look.beat, self._log(key))
        with contextlib.suppress(DriverError):
            self._files.write(key, "exit.json", record)
        return Observation(Phase.EXITED, record, look.sizes, record["started"])

    def _seen_ended(self, key: str, state: str, look: Look) -> Observation:
        record = look.exit or {}
        if container_exit.asks_engine(record):
            if state in ALIVE and record.get("oom_kills") is None:
                # It is about to be gone, and only then the engine says whether memory was the reason.
                return Observation(Phase.RUNNING, None, look.sizes, record.get("started"))
            record = container_exit.amended(record, self._inspect(key))
        return Observation(Phase.EXITED, record, look.sizes, record.get("started"))

    @staticmethod
    def _created_phase(listed: dict[str, Any], look: Look) -> Phase:
        """Of a container that the engine says was never started, though somebody has a handle of it: it is just being
        started, or the engine was killed before it could write down that it had."""
        now = time.time()
        if look.beat is not None:
            return Phase.RUNNING if now - float(look.beat.get("at") or 0) < FRESH_S else Phase.GONE
        return Phase.PENDING if now - float(listed.get("Created") or 0) < STARTING_S else Phase.GONE

    def read(self, handle: Handle, path: str, offset: int, limit: int) -> bytes:
        return self._files.read(handle.key, path, offset, limit)

    def fetch(self, handle: Handle, *, final: bool = False) -> bool:
        if final:
            self._over(handle.key)
        return True

    def _over(self, key: str) -> bool:
        """Whether nobody writes any more. A container lives on for a moment after the record of its end; one that lives
        on for longer, whoever wrote that record, changes no files while the studio reads them."""
        name = boxes.container_name(key)
        for kill in (False, True):
            details = self._inspect(key)
            if details is None or not details["State"].get("Running"):
                return True
            if kill:
                with contextlib.suppress(NotFound, Refused), asking(self.address):
                    self._engine().kill(name, "SIGKILL")
            with contextlib.suppress(DriverError), asking(self.address):
                self._engine().wait(name, timeout=LAST_WORDS_S)
        details = self._inspect(key)
        return details is None or not details["State"].get("Running")

    def cancel(self, handle: Handle, grace_s: float) -> None:
        look = self._files.look([handle.key])[handle.key]
        if look.exit is not None:
            return
        since = _told.setdefault(handle.key, time.time())
        with contextlib.suppress(NotFound):
            told = unit_records.parsed(self._files.read(handle.key, "cancel.json", 0, 1 << 16)) or {}
            since = min(since, told.get("at") or since)  # it may have been written in the container too
        with contextlib.suppress(NotFound):
            self._files.write(handle.key, "cancel.json", {"grace_s": grace_s, "at": since})
        overdue = time.time() - since > grace_s + KILL_SLACK_S
        with contextlib.suppress(NotFound, Refused), asking(self.address):  # refused: it does not run
            self._engine().kill(boxes.container_name(handle.key), "SIGKILL" if overdue else "SIGTERM")

    # Its end.

    def _log(self, key: str) -> str:
        """The last lines that the supervisor itself wrote: nothing, when all is well."""
        try:
            with asking(self.address):
                text: bytes = self._engine().logs(boxes.container_name(key), tail=LOG_LINES)
        except DriverError:
            return ""
        return text.decode("utf-8", "replace").strip()

    def diagnose(self, handle: Handle) -> str:
        try:
            look = self._files.look([handle.key])[handle.key]
            details = self._inspect(handle.key)
        except DriverError as error:
            return str(error)
        if look.exit is not None:
            return str(container_exit.amended(look.exit, details).get("message", ""))
        if details is not None:
            if details["State"].get("Status") in ALIVE:
                return self._log(handle.key)
            return str(container_exit.without_record(details, look.beat, self._log(handle.key))["message"])
        if look.beat is not None:
            return gettext("The run's container is gone, and left no exit record: somebody removed it.")
        return gettext("The run was never started on this target.")

    def release(self, handle: Handle) -> None:
        _told.pop(handle.key, None)
        try:
            with asking(self.address):
                self._engine().remove_container(boxes.container_name(handle.key), v=True, force=True)
        except NotFound:
            pass
        except Refused:  # somebody else is just removing it
            end = time.monotonic() + LAST_WORDS_S
            while self._inspect(handle.key) is not None and time.monotonic() < end:
                time.sleep(0.1)
        self._files.remove(handle.key, "secrets.json")
