"""The id of this installation: what its units on shared targets are labelled with."""

from __future__ import annotations

import os
import uuid

from studio.lib import storage


def installation_id() -> str:
    """Thirty-two hexadecimal characters, made at first use and kept in the data folder."""
    path = storage.data("installation")
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"installation.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    fresh.write_text(uuid.uuid4().hex + "\n", encoding="ascii")
    try:
        os.link(fresh, path)  # fails where another process was first, so that all agree on one id
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text(encoding="ascii").strip()
