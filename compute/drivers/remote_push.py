"""Bringing a unit's folder to a machine behind SSH: one stream, unpacked by the machine's own tar."""

from __future__ import annotations

import io
import os
import shlex
import stat
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from django.utils.translation import gettext as _

from compute.drivers.base import Refused, Unreachable
from compute.drivers.container_files import STREAMS
from compute.drivers.remote_host import full_words, no_space
from compute.drivers.remote_tree import walk
from compute.drivers.ssh import Link
from compute.drivers.ssh_sessions import Pipe

SENT = ("code", "inputs", "outputs", "logs", "artifacts", "produced", "spec.json", "datasets.json")
CHUNK = 256 << 10

# Nothing is seen at its place before it is whole: a library, and a unit too, is unpacked beside it and then renamed.
# What was cut short is gone on with: files that are there with their size and time are not sent again. The folder is
# taken over under another name then, so that a tar which still empties its pipe cannot write into what is sent now; and
# whoever finds at the end that its folder was taken leaves the rest to the other.
SCRIPT = """
umask 077
cd {base} 2>/dev/null || {{ mkdir -p -- {base}/units {base}/lib && cd {base}; }} || exit 9
n=
for l in {libraries}; do if [ -d "lib/$l" ]; then echo have; else echo need; n=1; fi; done
w=units/.{key}.{mark}
if [ -e units/{key}/spec.json ]; then
  echo have
  [ -n "$n" ] || exit 0
else
  for o in units/.{key}.*; do [ -d "$o" ] && mv "$o" "$w" 2>/dev/null && break; done
  if [ -d "$w" ]; then echo part; else mkdir "$w" || exit 8; echo need; fi
  : >"$w/.sent-{mark}" || exit 8
fi
tar -xpof - || exit 8
for l in {libraries}; do
  if [ -d "lib/.$l.{mark}" ]; then mv -T "lib/.$l.{mark}" "lib/$l" 2>/dev/null || rm -rf "lib/.$l.{mark}"; fi
done
if [ ! -e units/{key}/spec.json ]; then
  [ -e "$w/.sent-{mark}" ] || {{ echo "it is being sent by another process" >&2; exit 6; }}
  rm -f "$w"/.sent-*
  for f in {streams}; do : >>"$w/$f" || exit 8; done
  mv -T "$w" units/{key} || exit 7
fi
rm -rf units/.{key}.*
echo done
"""


class _Stream(io.RawIOBase):
    """What tarfile writes into: gathered to chunks, and sent."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.parts: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self.parts.append(piece)
        self.size += len(piece)
        if self.size >= CHUNK:
            self.send()
        return len(piece)

    def send(self) -> None:
        data, self.parts, self.size = b"".join(self.parts), [], 0
        if data and not self.pipe.write(data):
            raise BrokenPipeError


def push(link: Link, base: str, key: str, local: Path, libraries: Sequence[Path]) -> None:
    """The unit's folder of this machine, and the libraries by their names, below ``base`` there. Idempotent.

    Raises Refused where a file of it is gone here, Unreachable with the reason for everything else.
    """
    names = [library.name for library in libraries]
    mark = uuid.uuid4().hex[:12]
    script = SCRIPT.format(
        base=shlex.quote(base), key=key, mark=mark, libraries=" ".join(shlex.quote(name) for name in names),
        streams=" ".join(STREAMS),
    )  # fmt: skip
    with link.pipe(script) as pipe:
        state = [pipe.read_line().strip() for _name in [*names, key]]
        if set(state) == {b"have"}:
            return
        if b"" not in state:
            there = _partial(link, f"{base}/units/.{key}.{mark}") if state[-1] == b"part" else {}
            needed = [library for library, word in zip(libraries, state, strict=False) if word == b"need"]
            try:
                _send(pipe, key, mark, local if state[-1] != b"have" else None, needed, there)
            except BrokenPipeError:
                pass  # it says why at its end
            except FileNotFoundError as error:
                raise Refused(_("A file of the run is gone: %(name)s") % {"name": error.filename}) from error
        done = pipe.finish()
    if done.out.strip().endswith(b"done"):
        return
    if no_space(done.err):
        raise Unreachable(full_words(link, base))
    raise Unreachable(
        _("The run's folder could not be made on %(host)s: %(why)s")
        % {"host": link.login, "why": done.err.splitlines()[0][:300] if done.err else "?"}
    )


def _partial(link: Link, folder: str) -> dict[str, tuple[int, int]]:
    """(size, time) of the files of an attempt that was cut short."""
    entries = walk(link, os.fsencode(folder), [os.fsencode(name) for name in SENT])
    return {os.fsdecode(entry.path): (entry.size, entry.mtime) for entry in entries if stat.S_ISREG(entry.mode)}


def _send(
    pipe: Pipe, key: str, mark: str, local: Path | None, libraries: Sequence[Path], there: dict[str, tuple[int, int]]
) -> None:
    stream = _Stream(pipe)
    options = {"format": tarfile.GNU_FORMAT, "encoding": "utf-8", "errors": "surrogateescape", "bufsize": CHUNK}
    with tarfile.open(fileobj=stream, mode="w|", **options) as tar:  # type: ignore[call-overload]
        for library in libraries:
            for name, path in _tree(library, library.name, library.resolve(), follow=False):
                _add(tar, f"lib/.{library.name}.{mark}{name[len(library.name) :]}", path)
        if local is not None:
            _folder(tar, f"units/.{key}.{mark}")
        root = local.resolve() if local is not None else Path()
        for top in SENT if local is not None else ():
            if not os.path.lexists(root / top):
                continue
            for name, path in _tree(root / top, top, root, follow=top == "inputs"):
                status = path.lstat()
                if there.get(name) != (status.st_size, int(status.st_mtime)) or not stat.S_ISREG(status.st_mode):
                    _add(tar, f"units/.{key}.{mark}/{name}", path)
    stream.send()


def _tree(path: Path, name: str, root: Path, *, follow: bool) -> Iterator[tuple[str, Path]]:
    """(name in the stream, path here), folders before what is in them.

    A link that leads out of ``root`` is left out; with ``follow``, what it leads to comes in its place (inputs are such
    links, and the studio made them). Links of that other folder are kept as they are.
    """
    waiting = [(path, name, root, follow)]
    while waiting:
        here, called, inside, following = waiting.pop()
        if here.is_symlink():
            real = Path(os.path.realpath(here))
            own = real.is_relative_to(inside) and not _elsewhere(real, inside)
            if not own and following and real.exists():
                # Of what is outside, only its own folder is known to be meant.
                waiting.append((real, called, real if real.is_dir() else inside, False))
            elif not own and following:
                raise FileNotFoundError(2, "gone", str(here))
            elif own and real.exists():
                yield called, here
            continue
        yield called, here
        if here.is_dir():
            waiting += [(child, f"{called}/{child.name}", inside, following) for child in sorted(here.iterdir())[::-1]]


def _elsewhere(real: Path, root: Path) -> bool:
    """Below the unit's folder, but not sent."""
    parts = real.relative_to(root).parts
    return bool(parts) and parts[0] in ("mounts", ".mounts", "outside")


def _folder(tar: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o700
    tar.addfile(entry)


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    entry = tar.gettarinfo(str(path), arcname=name)
    if entry is None:
        return  # a socket
    if entry.islnk():  # a hard link here says nothing there
        entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", path.stat().st_size
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode |= 0o700 if entry.isdir() else 0o600
    if entry.isreg():
        with path.open("rb") as content:
            tar.addfile(entry, content)
    elif entry.isdir() or entry.issym():
        tar.addfile(entry)
