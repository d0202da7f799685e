"""Uploads of whole folders: thousands of small files in one request without a file handle for each."""

from __future__ import annotations

import io
import tempfile
from typing import IO, Any

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest


class _Slice(io.RawIOBase):
    """Bytes ``[start, start + size)`` of a file that other slices share; each keeps its own position."""

    def __init__(self, shared: IO[bytes], start: int, size: int) -> None:
        self._shared, self._start, self._size, self._at = shared, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._size - self._at))
        self._shared.seek(self._start + self._at)
        data = self._shared.read(wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class FolderUploadHandler(FileUploadHandler):
    """Puts every file of the request into one temporary file, so 2,000 files cost one handle and no memory."""

    def __init__(self, request: HttpRequest | None = None) -> None:
        super().__init__(request)
        self._shared: IO[bytes] = tempfile.TemporaryFile(prefix="atelier-upload-")  # noqa: SIM115 - lives as long as the request
        self._start = self._end = 0

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self._start = self._end

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self._shared.seek(self._end)
        self._shared.write(raw_data)
        self._end += len(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile:
        content = io.BufferedReader(_Slice(self._shared, self._start, file_size))
        return UploadedFile(file=content, name=self.file_name, content_type=self.content_type, size=file_size)
