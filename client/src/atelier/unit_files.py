"""Files of the run that this process is: they are put into the unit's directory, without the network."""

from __future__ import annotations

import os
import time
from typing import Any

from atelier.exceptions import UserErrorException


def clean_name(name: str) -> str:
    """The artifact path of ``name``: slashes, no ``./``, nothing that leaves its folder. Raises UserErrorException."""
    parts = [part for part in str(name).replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or ".." in parts or str(name).startswith("/"):
        raise UserErrorException(
            f"{name!r} is not the name of a file of a run: give a relative path such as outputs/model.pkl."
        )
    return "/".join(parts)


def place(unit: str, name: str) -> str:
    """Where ``name`` lies below the directory ``unit``: outputs/ and logs/ as they are, everything else in
    artifacts/."""
    name = clean_name(name)
    return os.path.join(unit, name if name.startswith(("outputs/", "logs/")) else "artifacts/" + name)


def model_file(unit: str, name: str) -> tuple[str, str] | None:
    """(artifact path, place) of the file or folder that ``register_model(model_path=name)`` means, None where there is
    none: among the files of the run, else beside the script, where samples of v1 save it."""
    first = os.path.join(unit, name) if name in ("outputs", "logs") else place(unit, name)
    if os.path.exists(first):
        return name, first
    for beside in (name[len("outputs/") :] if name.startswith("outputs/") else name, name):
        if os.path.exists(os.path.join(unit, "code", beside)):
            return "outputs/" + beside, os.path.join(unit, "code", beside)
    return None


def keep(unit: str, name: str, source: str) -> str:
    """Copy ``source`` to its place, appearing there whole; gives the artifact path. Raises UserErrorException."""
    import shutil

    target = place(unit, name)
    if not os.path.isfile(source):
        raise UserErrorException(f"There is no file {source} to upload.")
    if not (os.path.exists(target) and os.path.samefile(source, target)):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        partial = f"{target}.{os.getpid()}.part"
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    return clean_name(name)


def below(folder: str) -> list[str]:
    """Paths with slashes of all files below ``folder``. Raises UserErrorException when there is no such folder."""
    if not os.path.isdir(folder):
        raise UserErrorException(f"There is no folder {folder} to upload.")
    found = []
    for root, _folders, names in os.walk(folder):
        found += [os.path.relpath(os.path.join(root, name), folder).replace(os.sep, "/") for name in names]
    return sorted(found)


def image_name(name: str, path: str | None = None) -> str:
    """An artifact path for an image: its metric's name, the time, and the ending of its file."""
    safe = "".join(char if char.isalnum() or char in "-_." else "_" for char in str(name))[:100] or "image"
    ending = os.path.splitext(path)[1] if path else ".png"
    return f"{safe}_{time.time_ns() // 1000000}{ending or '.png'}"


def plot_save(plot: Any, path: str) -> None:
    """Draw ``plot`` (a matplotlib figure, or the pyplot module itself) into a PNG file."""
    if not hasattr(plot, "savefig"):
        raise UserErrorException("log_image(plot=...) takes a matplotlib figure or matplotlib.pyplot.")
    plot.savefig(path, format="png", bbox_inches="tight")


def own_image(unit: str, path: str) -> str | None:
    """The artifact path of a file that lies in the unit's outputs/ or logs/ already."""
    root, real = os.path.realpath(unit), os.path.realpath(path)
    inner = os.path.relpath(real, root).replace(os.sep, "/")
    return inner if inner.startswith(("outputs/", "logs/")) else None
