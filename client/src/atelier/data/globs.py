"""Globs over relative paths with "/" between names: one meaning of a pattern, for files here and in every datastore."""

from __future__ import annotations

import fnmatch
import re

_MAGIC = re.compile(r"[*?\[]")


def has_magic(pattern: str) -> bool:
    return bool(_MAGIC.search(pattern))


def fixed_part(pattern: str) -> str:
    """The folders before the first wildcard, with their slash; for a plain path the folder it lies in.

    ``a/b/*.csv`` -> ``a/b/``, ``a/b.csv`` -> ``a/``, ``*.csv`` -> ````.
    """
    match = _MAGIC.search(pattern)
    head = pattern[: match.start()] if match else pattern
    return head[: head.rfind("/") + 1]


class Glob:
    """A pattern: ``*`` and ``?`` within a name, ``**`` across folders (none, too), ``[ab]`` and ``[!ab]``.

    ``prefix`` is the folder that every match lies in (no wildcard in it); ``plain`` says that there is no wildcard at
    all: the pattern is a file, or everything below a folder. Names that begin with a dot match like all others.
    """

    def __init__(self, pattern: str) -> None:
        self.parts = [part for part in pattern.split("/") if part not in ("", ".")]
        self.pattern = "/".join(self.parts)
        self.plain = not has_magic(self.pattern)
        self.prefix = fixed_part(self.pattern).rstrip("/")
        self.deep = "**" in self.parts
        if self.parts[-1:] == ["**"]:  # at its end it means the files below, not the folder itself
            self.parts.append("*")
        self._names = [None if part == "**" else re.compile(fnmatch.translate(part)) for part in self.parts]

    def matches(self, path: str) -> bool:
        """Whether this file matches."""
        if self.plain:
            return path == self.pattern or self._below(path)
        return self._reach(tuple(path.split("/")), whole=True)

    def may_hold(self, folder: str) -> bool:
        """Whether a file below this folder could match; false prunes a walk."""
        if not folder:
            return True
        if self.plain:
            return folder == self.pattern or self._below(folder) or self.pattern.startswith(folder + "/")
        return self._reach(tuple(folder.split("/")), whole=False)

    def _below(self, path: str) -> bool:
        return not self.pattern or path.startswith(self.pattern + "/")

    def _reach(self, names: tuple[str, ...], *, whole: bool) -> bool:
        """Follow all ways through the pattern at once: no pattern makes this slow."""
        states = {0}
        for name in names:
            states = self._past_deep(states)
            following: set[int] = set()
            for at in states:
                if at < len(self._names):
                    wanted = self._names[at]
                    if wanted is None:
                        following.add(at)
                    elif wanted.match(name):
                        following.add(at + 1)
            states = following
            if not states:
                return False
        if whole:
            return len(self._names) in self._past_deep(states)
        return any(at < len(self._names) for at in self._past_deep(states))

    def _past_deep(self, states: set[int]) -> set[int]:
        found = set(states)
        for at in states:
            step = at
            while step < len(self._names) and self._names[step] is None:
                step += 1
                found.add(step)
        return found
