"""The client library as a wheel, made from its sources: pure Python, nothing to compile, always the one that fits."""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import io
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

TAG = "py3-none-any"
_ZEROED = (1980, 1, 1, 0, 0, 0)  # the same sources make the same bytes


@dataclass(frozen=True)
class Wheel:
    """``sha256`` is of ``content``, in hexadecimal."""

    name: str
    version: str
    content: bytes
    sha256: str
    requires_python: str

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}-{TAG}.whl"


def client_folder() -> Path:
    return Path(settings.BASE_DIR) / "client"


def _sources(root: Path) -> list[tuple[str, Path]]:
    """(path in the wheel, file) of every source, sorted."""
    base = root / "src"
    found = [path for path in base.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    kept = [path for path in found if path.suffix in {".py", ".pyi", ".typed", ".json", ".txt"}]
    return sorted((path.relative_to(base).as_posix(), path) for path in kept)


def wheel() -> Wheel:
    """The wheel of the sources as they are now; made again only when one of them has changed."""
    root = client_folder()
    stamp = tuple((name, path.stat().st_mtime_ns, path.stat().st_size) for name, path in _sources(root))
    return _build(root, (*stamp, ("pyproject.toml", (root / "pyproject.toml").stat().st_mtime_ns, 0)))


def _project(root: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if "version" not in project:
        space: dict[str, Any] = {}
        text = (root / "src" / "atelier" / "_version.py").read_text(encoding="utf-8")
        exec(compile(text, "_version.py", "exec"), space)  # noqa: S102 - a file of ours
        project["version"] = space.get("__version__") or space["VERSION"]
    return project


def _metadata(project: dict[str, Any]) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    if project.get("description"):
        lines.append(f"Summary: {project['description']}")
    if project.get("requires-python"):
        lines.append(f"Requires-Python: {project['requires-python']}")
    lines += [f"Requires-Dist: {one}" for one in project.get("dependencies", [])]
    for extra, wanted in (project.get("optional-dependencies") or {}).items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {one}; extra == "{extra}"' for one in wanted]
    return "\n".join(lines) + "\n"


@functools.lru_cache(maxsize=2)
def _build(root: Path, _stamp: tuple[Any, ...]) -> Wheel:
    project = _project(root)
    name, version = project["name"].replace("-", "_"), str(project["version"])
    info = f"{name}-{version}.dist-info"
    files = [(path, source.read_bytes()) for path, source in _sources(root)]
    tops = sorted({path.split("/", 1)[0].removesuffix(".py") for path, _content in files})
    files += [
        (f"{info}/METADATA", _metadata(project).encode()),
        (
            f"{info}/WHEEL",
            f"Wheel-Version: 1.0\nGenerator: atelier ({version})\nRoot-Is-Purelib: true\nTag: {TAG}\n".encode(),
        ),
        (f"{info}/top_level.txt", "".join(f"{top}\n" for top in tops).encode()),
    ]
    if scripts := project.get("scripts"):
        entries = "[console_scripts]\n" + "".join(f"{key} = {value}\n" for key, value in scripts.items())
        files.append((f"{info}/entry_points.txt", entries.encode()))
    files.append((f"{info}/RECORD", _record(files, f"{info}/RECORD")))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files:
            entry = zipfile.ZipInfo(path, _ZEROED)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    content = out.getvalue()
    return Wheel(name, version, content, hashlib.sha256(content).hexdigest(), project.get("requires-python", ""))


def _record(files: list[tuple[str, bytes]], own: str) -> bytes:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    for path, content in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest}", len(content)])
    rows.writerow([own, "", ""])
    return table.getvalue().encode()
