"""How times, sizes, durations and states look on every page."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

register = template.Library()

# Azure ML's words for a run's state, and the colour that goes with each everywhere.
STATUS_COLORS = {
    "NotStarted": "secondary",
    "Preparing": "azure",
    "Queued": "yellow",
    "Starting": "azure",
    "Running": "blue",
    "Finalizing": "blue",
    "Completed": "green",
    "Failed": "red",
    "CancelRequested": "orange",
    "Canceled": "secondary",
    "NotResponding": "orange",
}


@register.filter
def ago(moment: dt.datetime | None) -> SafeString | str:
    """``3 min ago`` in a <time> whose title is the exact moment."""
    if moment is None:
        return "–"
    seconds = (timezone.now() - moment).total_seconds()
    text = _("just now") if seconds < 10 else _("%(time)s ago") % {"time": _span(seconds)}
    exact = timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z")
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact, text)


def _span(seconds: float) -> str:
    if seconds < 60:
        return _("%(n)d s") % {"n": seconds}
    if seconds < 3600:
        return _("%(n)d min") % {"n": seconds // 60}
    if seconds < 86400:
        return _("%(n)d h") % {"n": seconds // 3600}
    now = timezone.now()
    return timesince(now - dt.timedelta(seconds=seconds), now, depth=1).replace("\xa0", " ")


@register.filter
def duration(value: Any) -> str:
    """Seconds or a timedelta as ``0.4 s``, ``12 s``, ``3 min 04 s``, ``2 h 05 min``, ``3 d 4 h``."""
    if value is None or value == "":
        return "–"
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else float(value)
    if seconds < 10:
        return _("%(n).1f s") % {"n": max(seconds, 0)}
    if seconds < 60:
        return _("%(n)d s") % {"n": seconds}
    if seconds < 3600:
        return _("%(m)d min %(s)02d s") % {"m": seconds // 60, "s": seconds % 60}
    if seconds < 86400:
        return _("%(h)d h %(m)02d min") % {"h": seconds // 3600, "m": seconds % 3600 // 60}
    return _("%(d)d d %(h)d h") % {"d": seconds // 86400, "h": seconds % 86400 // 3600}


@register.filter
def filesize(value: Any) -> str:
    """Bytes as ``512 B``, ``1.4 KB``, ``3.2 GB`` (powers of 1,024)."""
    if value is None or value == "":
        return "–"
    size = float(value)
    for unit in ("B", "KB", "MB", "GB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


@register.filter
def number(value: Any) -> str:
    """A metric's value in at most six significant digits."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


@register.filter
def status_color(status: str) -> str:
    return STATUS_COLORS.get(status, "secondary")


@register.inclusion_tag("studio/parts/status.html")
def status(value: str) -> dict[str, str]:
    """The state of a run or service: a dot of its colour, and the word (never the colour alone)."""
    return {"value": value, "color": STATUS_COLORS.get(value, "secondary"), "live": str(value == "Running")}


@register.simple_tag(takes_context=True)
def query(context: dict[str, Any], **changes: Any) -> str:
    """The page's query string with some values changed; None or an empty string drops one."""
    params = context["request"].GET.copy()
    for key, value in changes.items():
        if value in (None, ""):
            params.pop(key, None)
        else:
            params[key] = value
    return "?" + params.urlencode() if params else "?"


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """An icon of the sprite that set-up makes from @tabler/icons (``studio/frontend.py`` lists the names)."""
    from django.templatetags.static import static

    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        css,
        static("vendor/icons.svg"),
        name,
    )
