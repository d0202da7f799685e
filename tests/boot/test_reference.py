"""The generated documents are what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError


def test_documents_are_current() -> None:
    call_command("reference", "--check")


def test_stale_document_is_named(settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.management.commands import reference

    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(reference, "documents", lambda: {"rest.md": "new"})
    settings.BASE_DIR = tmp_path
    with pytest.raises(CommandError, match=r"docs/rest\.md"):
        call_command("reference", "--check")
    call_command("reference")
    call_command("reference", "--check")
