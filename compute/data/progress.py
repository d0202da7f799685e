"""How far a transfer is, in words."""

from __future__ import annotations

from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from compute.models import Transfer, Unit


def _files(done: int, total: int | None) -> str:
    if total is None:
        return _("looking which files there are")
    words = {"done": f"{done:,}", "total": f"{total:,}"}
    return ngettext("%(done)s of %(total)s file", "%(done)s of %(total)s files", total) % words


def percent_of(transfer: Transfer) -> int | None:
    if not transfer.bytes_total:
        return None
    return min(100, int(transfer.bytes_done * 100 / transfer.bytes_total))


def transfer_text(transfer: Transfer) -> str:
    """One line: files, bytes, percent, what came from the cache, and since when it waits."""
    incoming = transfer.direction == "in"
    if transfer.state == "failed":
        return ""
    if transfer.state == "done":
        return _ended_text(transfer)
    parts = [
        _("Fetching inputs") if incoming else _("Saving outputs"),
        _files(transfer.files_done, transfer.files_total),
    ]
    if transfer.bytes_total:
        size = {
            "done": filesizeformat(transfer.bytes_done), "total": filesizeformat(transfer.bytes_total),
            "percent": percent_of(transfer),
        }  # fmt: skip
        parts.append(_("%(done)s of %(total)s (%(percent)s %%)") % size)
    if transfer.cached_bytes:
        parts.append(_("%(size)s from the cache") % {"size": filesizeformat(transfer.cached_bytes)})
    text = ", ".join(parts)
    if transfer.note:
        since = date_format(timezone.localtime(transfer.noted_at), "H:i") if transfer.noted_at else ""
        text += ". " + _("Waits since %(since)s: %(why)s") % {"since": since, "why": transfer.note}
    return text


def _ended_text(transfer: Transfer) -> str:
    if not transfer.attempts:
        linked = [name for name, found in transfer.result.items() if found.get("how") == "link"]
        if linked:
            return _("Mounted: %(names)s") % {"names": ", ".join(linked)}
        if transfer.direction == "in" or not transfer.files_done:
            return ""
    words = {
        "files": ngettext("%(n)s file", "%(n)s files", transfer.files_done) % {"n": f"{transfer.files_done:,}"},
        "size": filesizeformat(transfer.bytes_done),
    }
    text = (_("Fetched %(files)s, %(size)s") if transfer.direction == "in" else _("Saved %(files)s, %(size)s")) % words
    if transfer.cached_bytes:
        text += ", " + _("%(size)s of it from the cache") % {"size": filesizeformat(transfer.cached_bytes)}
    return text


def transfer_notes(unit: Unit) -> dict[str, str]:
    """The line of each transfer of a unit, by the stage of the timeline that it belongs to."""
    if not (unit.spec.get("inputs") or unit.spec.get("outputs")):
        return {}
    stages = {"in": "preparing", "out": "finalizing"}
    return {stages[row.direction]: text for row in Transfer.objects.filter(unit=unit) if (text := transfer_text(row))}
