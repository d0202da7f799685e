"""Secrets at rest: Fernet with a rotating list of keys that lives in a file outside the database.

The first key encrypts; all of them decrypt. ``manage.py rotate_secrets`` puts a new key first and
encrypts every stored secret again.
"""

from __future__ import annotations

import hashlib
import os
import secrets as _secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class SecretUnreadable(Exception):
    """None of the keys in the key file opens this secret: it was written under a key that is gone."""


def _read_or_make(path: Path, make: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(descriptor, "w", encoding="ascii") as handle:
        handle.write(make + "\n")
    return make


def secret_key(path: Path) -> str:
    """Django's SECRET_KEY, made at the first start and kept in a file that only its owner reads."""
    return _read_or_make(path, _secrets.token_urlsafe(64))


def _keys_path() -> Path:
    return Path(settings.ATELIER_KEYS_FILE)


def _fernet() -> MultiFernet:
    lines = _read_or_make(_keys_path(), Fernet.generate_key().decode("ascii")).split()
    return MultiFernet([Fernet(line.encode("ascii")) for line in lines])


def encrypt(plain: str) -> str:
    return _fernet().encrypt(plain.encode()).decode("ascii")


def decrypt(stored: str) -> str:
    try:
        return _fernet().decrypt(stored.encode("ascii")).decode()
    except InvalidToken as error:
        raise SecretUnreadable(
            f"A stored secret cannot be opened with the keys in {_keys_path().name}. "
            "Put the old key back into that file."
        ) from error


def reencrypt(stored: str) -> str:
    """The same secret under the first key of the file."""
    return _fernet().rotate(stored.encode("ascii")).decode("ascii")


def add_key() -> None:
    """Put a fresh key first in the key file, atomically."""
    path = _keys_path()
    old = _read_or_make(path, Fernet.generate_key().decode("ascii"))
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as handle:
        handle.write(Fernet.generate_key().decode("ascii") + "\n" + old + "\n")
    fresh.replace(path)


def new_token(prefix: str) -> str:
    """A bearer secret with 256 bits of randomness; the prefix tells people and scanners what it is."""
    return f"{prefix}_{_secrets.token_urlsafe(32)}"


def digest(token: str) -> str:
    """What is stored of a bearer secret. Its randomness makes a slow hash needless."""
    return hashlib.sha256(token.encode()).hexdigest()
