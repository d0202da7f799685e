"""An S3 server (moto's) that checks signatures and rights: a refused key is really refused."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.gear.servers import free_port, start, stop

READS = ["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"]


class S3Server:
    """``access_key`` and ``secret_key`` may do everything, ``reader`` (a pair of keys) may only read."""

    def __init__(self, home: Path, *, checked: bool = True) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process: subprocess.Popen[bytes] = start(command, self.port, home / "s3.log")
        self.access_key, self.secret_key = self._user("writer", ["s3:*"])
        self.reader = self._user("reader", READS)
        if checked:
            self._post("/moto-api/reset-auth", b"0")

    def client(self, service: str = "s3") -> Any:
        """A plain boto3 client with the keys that may do everything, to look and to put behind a backend's back."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=getattr(self, "access_key", "first"),
            aws_secret_access_key=getattr(self, "secret_key", "first"),
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )

    def _user(self, name: str, actions: list[str]) -> tuple[str, str]:
        iam = self.client("iam")
        iam.create_user(UserName=name)
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def _post(self, path: str, data: bytes) -> None:
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "text/plain"}, method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def stop(self) -> None:
        stop(self.process)
