"""Builds, finds or pulls one image: the program of a unit of kind ``build``. No database.

Reads ``order.json`` in its working directory: {"mode": "environment" or "base", "label", "recipe", "content_hash",
"base_image", "strict", "fresh", "installation", "uv", "access" (of the engine), "push_to" (address of a registry or
""), "settings" (of Django)}. Secrets come in the environment and are taken out of it: ATELIER_ENGINE
({name: value}, for the way to the engine) and ATELIER_REGISTRIES ([{"address", "username", "password"}]).
Ends with ``outputs/image.json``: {"image", "image_id", "how": "there", "pulled", "built" or "base", "interpreter",
"python", "packages", "size" (bytes), "base_image", "base_image_id", "dockerfile", "warnings", "seconds"} or with
``outputs/problems.json``: [{"package", "code", "message", "hint", "line"}].
Safe to run again after a kill at any instant: what the engine has built by then it takes from its cache, and a name is
given to whole images only. Exit codes: 0 the image is there, 2 it cannot be had, 1 anything else.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from compute.shim import build_venv

RESULT = Path("outputs") / "image.json"
PATIENCE_S = {"docker": 60.0}  # how long an engine may not answer; elsewhere:
FAR_PATIENCE_S = 1800.0
MOST_TIMES = 30  # a build that is cut off again and again has another reason
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)


def configure(given: dict[str, Any]) -> None:
    """The few settings that drivers and texts ask for. Idempotent."""
    from django.conf import settings

    if settings.configured:
        return
    base = Path(__file__).resolve().parents[2]
    data = Path(os.environ.get("ATELIER_DATA") or base / "data").resolve()
    keys = os.environ.get("ATELIER_KEYS_FILE") or data / "secrets" / "fernet.keys"
    own = {"BASE_DIR": base, "ATELIER_DATA": data, "ATELIER_KEYS_FILE": Path(keys), "ATELIER_LOCAL_SLOTS": 0}
    settings.configure(USE_I18N=False, **{**own, **given})


def secret(name: str, empty: str) -> Any:
    return json.loads(os.environ.pop(name, "") or empty)


def fail(problems: list[dict[str, Any]]) -> int:
    from compute.images.words import say

    say()
    for one in problems:
        say("ERROR  " + one["message"])
        if one.get("hint"):
            say("       " + one["hint"])
    build_venv.report(problems)
    return 2


def hidden_of(settings: dict[str, str]) -> list[str]:
    """Passwords inside the addresses of package indexes."""
    found = []
    for value in settings.values():
        found += re.findall(r"://[^/\s:@]*:([^/\s@]+)@", value)
    return found


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(143))
    order = json.loads(Path("order.json").read_text(encoding="utf-8"))
    configure(order.get("settings") or {})
    engine_secrets, registries = secret("ATELIER_ENGINE", "{}"), secret("ATELIER_REGISTRIES", "[]")
    for name in [name for name in os.environ if name.startswith("ATELIER_HIDDEN_")]:
        os.environ.pop(name)
    from compute.images.resolve import index_settings, proxies
    from compute.images.words import hide, human, say

    hide(*map(str, engine_secrets.values()), *(str(one.get("password") or "") for one in registries))
    hide(*hidden_of(index_settings()), *hidden_of(proxies()))
    started = time.time()
    result = _patiently(order, engine_secrets, registries)
    if isinstance(result, int):
        return result
    result["seconds"] = round(time.time() - started, 3)
    RESULT.parent.mkdir(exist_ok=True)
    build_venv.write_json(str(RESULT), result)
    much = f"{len(result['packages'])} packages, {human(result['size'])}, {result['seconds']:.1f} s"
    say()
    say(f"Ready: {result['image']}, {much}")
    return 0


def _patiently(
    order: dict[str, Any], secrets: dict[str, str], registries: list[dict[str, Any]]
) -> dict[str, Any] | int:
    """The work, begun again while the engine does not answer: what is built is in its cache."""
    from compute.drivers import engine
    from compute.drivers.base import DriverError, HostKeyUnknown, Unreachable
    from compute.images.building import BuildFailed, problem
    from compute.images.making import Making
    from compute.images.words import say

    patience = PATIENCE_S.get(order["access"].get("kind", ""), FAR_PATIENCE_S)
    since, tries, begun = time.monotonic(), 0, 0
    while True:
        try:
            with engine.asking():
                client = engine.connect(order["access"], secrets)
                client.ping()
                since, tries, begun = time.monotonic(), 0, begun + 1
                return Making(client, order, registries).image()
        except BuildFailed as error:
            return fail(error.problems)
        except HostKeyUnknown as error:
            return fail([problem("engine", str(error))])
        except Unreachable as error:
            why = str(error)
        except DriverError as error:
            return fail([problem("engine", str(error))])
        if time.monotonic() - since > patience or begun >= MOST_TIMES:
            fail([problem("engine-unreachable", why, hint="Test the compute target: its check says more.")])
            return 1
        pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
        tries += 1
        say(f"The engine does not answer: {why} Trying again in {pause:.0f} s.")
        time.sleep(pause)


if __name__ == "__main__":
    sys.exit(main())
