"""Which files of a source folder are left out of its snapshot. Pure.

``.amlignore`` at the root of the folder wins; without one, ``.gitignore`` at the root is read. Both have the syntax
of gitignore. Version control, caches of Python and of notebooks are always left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pathspec import GitIgnoreSpec

ALWAYS = (".git/", ".hg/", ".svn/", "__pycache__/", "*.pyc", ".ipynb_checkpoints/", ".DS_Store", "__MACOSX/")
NAMES = (".amlignore", ".gitignore")


def spec_from(lines: Iterable[str]) -> GitIgnoreSpec:
    """The rules of ``lines`` with what is always left out after them, so that no rule brings it back."""
    return GitIgnoreSpec.from_lines([*lines, *ALWAYS])


def rules(read: Callable[[str], bytes | None]) -> GitIgnoreSpec:
    """The rules of a folder. ``read(name)`` gives the content of a file at its root, None where there is none."""
    for name in NAMES:
        content = read(name)
        if content is not None:
            return spec_from(content.decode("utf-8", "replace").splitlines())
    return spec_from(())


def kept(paths: Iterable[str], read: Callable[[str], bytes | None]) -> list[str]:
    """The paths (relative, with forward slashes) that go into the snapshot, in their order."""
    spec = rules(read)
    return [path for path in paths if not spec.match_file(path)]
