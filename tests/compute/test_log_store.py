"""The bytes of a log: reading, lines, search and the seal, against the plain way to do the same."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute.logs import grep, index
from compute.logs.store import LogFile
from studio.lib.errors import Invalid, NotFound

SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
pieces = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\n", b"\n\n", b"\r", b"needle", b"NEEDLE", b"nee", b"dle", "é⚡\n".encode(), b"\x1b[31m", b"x" * 700]
        ),
        st.binary(max_size=40),
    ),
    max_size=120,
)


def a_log(content: bytes) -> LogFile:
    file = LogFile(uuid.uuid4().hex)
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(content)
    return file


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders everywhere: an index entry every 64 bytes and chunks of 128."""
    monkeypatch.setattr(index, "BLOCK", 64)
    monkeypatch.setattr("compute.logs.store.BLOCK", 64)
    monkeypatch.setattr(grep, "CHUNK", 128)
    monkeypatch.setattr(grep, "LONGEST", 512)
    monkeypatch.setattr(grep, "OVERLAP", 32)


def starts(content: bytes) -> list[int]:
    found = [0] + [match.end() for match in re.finditer(b"\n", content)]
    return [start for start in found if start < len(content)]


@SLOW
@given(parts=pieces)
def test_lines_and_offsets_agree_with_splitting(small_blocks: None, parts: list[bytes]) -> None:
    content = b"".join(parts)
    file = a_log(content)
    lines = starts(content)
    assert file.lines() == len(lines)
    for number, start in enumerate(lines, 1):
        assert file.line_to_offset(number) == start
        assert file.offset_to_line(start) == number
        assert file.line_start(start) == start
    assert file.line_to_offset(len(lines) + 7) == (lines[-1] if lines else 0)


@SLOW
@given(parts=pieces, cut=st.integers(0, 100))
def test_an_index_made_early_serves_the_log_after_it_has_grown(
    small_blocks: None, parts: list[bytes], cut: int
) -> None:
    content = b"".join(parts)
    at = len(content) * cut // 100
    file = a_log(content[:at])
    file.lines()
    with file.path.open("ab") as handle:
        handle.write(content[at:])
    assert [file.line_to_offset(number) for number in range(1, len(starts(content)) + 1)] == starts(content)


@SLOW
@given(parts=pieces, fold=st.booleans(), regex=st.booleans(), limit=st.integers(1, 9))
def test_search_finds_what_a_look_at_every_line_finds(
    small_blocks: None, parts: list[bytes], fold: bool, regex: bool, limit: int
) -> None:
    content = b"".join(parts)
    file = a_log(content)
    expected = []
    for number, line in enumerate(content.split(b"\n"), 1):
        hay = line.lower() if fold else line
        if b"needle" in hay:
            expected.append((number, starts(content)[number - 1]))
    matcher = grep.Pattern("needle", fold) if regex else grep.Plain("needle", fold)
    found: list[tuple[int, int]] = []
    after: int | None = 0
    while after is not None:
        with file.path.open("rb", buffering=0) as handle:
            line = file.offset_to_line(after)
            hits, following, _scanned = grep.scan(
                handle, matcher, after=after, line=line, size=len(content), limit=limit, seconds=60
            )
        found += [(number, offset) for number, offset, _text in hits]
        assert len(hits) <= limit
        assert following is None or following > after
        after = following
    assert found == expected


def test_search_pages_and_shows_the_text_around_the_match() -> None:
    file = a_log(b"".join(b"\x1b[32mepoch %d\x1b[0m loss=0.%03d\n" % (n, n) for n in range(1000)))
    page = file.search("LOSS=0.9", limit=60)
    assert len(page.hits) == 60
    assert page.hits[0] == (901, file.line_to_offset(901), "epoch 900 loss=0.900")
    rest = file.search("LOSS=0.9", after=page.next or 0, limit=60)
    assert [hit[0] for hit in page.hits + rest.hits] == list(range(901, 1001))
    assert rest.next is None
    assert file.search("LOSS", ignore_case=False).hits == []
    assert [hit[0] for hit in file.search(r"epoch \d$|loss=0\.00[12]$", regex=True).hits] == [2, 3]
    assert file.search("ÉPOCH").hits == []


def test_search_folds_the_case_of_every_alphabet() -> None:
    assert [hit[0] for hit in a_log("un\nÉTÉ\nété\n".encode()).search("été").hits] == [2, 3]


def test_search_shows_the_last_redraw_of_a_progress_bar() -> None:
    file = a_log(b"\r 10%|#   |\r 50%|##  |\r100%|####| done\n")
    assert file.search("done").hits == [(1, 0, "100%|####| done")]


def test_a_pattern_that_explodes_is_stopped() -> None:
    file = a_log(b"a" * 60 + b"!\n")
    with pytest.raises(Invalid, match="too long"):
        file.search("(a+)+$", regex=True)
    with pytest.raises(Invalid, match="cannot be read"):
        file.search("(", regex=True)
    with pytest.raises(Invalid):
        file.search("")


def test_an_index_that_was_damaged_is_counted_again(small_blocks: None) -> None:
    content = b"line\n" * 500
    file = a_log(content)
    file.lines()
    beside = Path(str(file.path) + ".idx")
    raw = bytearray(beside.read_bytes())
    raw[8 + 8 * 10 : 8 + 8 * 12] = bytes(16)
    beside.write_bytes(raw)
    assert file.line_to_offset(400) == 399 * 5


def test_reading_by_offset_and_absent_files() -> None:
    file = a_log(b"0123456789")
    assert file.read(3, 4) == b"3456"
    assert file.read(20, 4) == file.read(-1, 4) == file.read(0, 0) == b""
    assert b"".join(file.chunks(2, 9, size=3)) == b"2345678"
    absent = LogFile(uuid.uuid4().hex)
    assert (absent.size(), absent.read(0, 9), absent.lines(), absent.search("x").hits) == (0, b"", 0, [])
    for key, name in (("../x", "stdout"), ("0" * 32, "../stdout"), ("0" * 31 + "g", "stdout")):
        with pytest.raises(NotFound):
            LogFile(key, name)


def test_the_tail_starts_with_a_line() -> None:
    file = a_log(b"first\nsecond\nthird\n")
    assert file.read(file.tail_start(8), 99) == b"third\n"
    assert file.tail_start(6) == 13
    assert file.tail_start(1000) == 0
    assert a_log(b"x" * 100).tail_start(10) == 90


@pytest.mark.django_db
def test_the_seal_records_size_lines_and_checksum(team) -> None:  # type: ignore[no-untyped-def]
    from compute.models import LogStream, Target, Unit

    content = b"one\ntwo"
    file = a_log(content)
    target = Target.objects.filter(workspace=team.workspace).first() or Target.objects.create(
        workspace=team.workspace, name="local", driver="local"
    )
    unit = Unit.objects.create(key=file.unit_key, workspace=team.workspace, target=target, spec={})
    file.seal()
    stream = LogStream.objects.get(unit=unit)
    assert (stream.size, stream.lines, stream.sealed) == (7, 2, True)
    assert stream.sha256 == hashlib.sha256(content).hexdigest()


def test_an_index_that_is_a_link_or_a_pipe_is_let_be(small_blocks: None, tmp_path: Path) -> None:
    """It lies where the command can write: the studio follows no link of it, and waits for nobody."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"open-sesame")
    file = a_log(b"a\n" * 500)
    file.path.with_name("stdout.log.idx").symlink_to(secret)
    assert file.lines() == 500 and secret.read_bytes() == b"open-sesame"
    file.path.with_name("stdout.log.idx").unlink()
    os.mkfifo(file.path.with_name("stdout.log.idx"))
    assert file.lines() == 500
