"""Host keys as people compare them. Pure.

A key is a line as OpenSSH writes it: ``ssh-ed25519 AAAA...``, with or without a comment.
"""

from __future__ import annotations

import base64
import binascii
import hashlib


def _blob(line: str) -> bytes:
    parts = line.split()
    try:
        return base64.b64decode(parts[1], validate=True) if len(parts) > 1 else b""
    except binascii.Error:
        return b""


def key_type(line: str) -> str:
    """``ssh-ed25519``, ``ecdsa-sha2-nistp256``, ...; empty for what is no key."""
    return line.split()[0] if _blob(line) else ""


def fingerprint(line: str) -> str:
    """``SHA256:...`` as ``ssh-keygen -lf`` prints it; empty for what is no key."""
    blob = _blob(line)
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=") if blob else ""


def same(line: str, given: str) -> bool:
    """Whether ``given``, a fingerprint or a whole key as somebody typed it, is this key."""
    given = given.strip()
    if not given or not _blob(line):
        return False
    if _blob(given):
        return _blob(given) == _blob(line)
    return given.removeprefix("SHA256:").rstrip("=") == fingerprint(line).removeprefix("SHA256:")
