"""How times, sizes, durations and states look on every page."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import template
from django.forms import BoundField
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from studio.lib import names

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
    # Services and what holds them up.
    "Healthy": "green",
    "Transitioning": "azure",
    "Unhealthy": "orange",
    "Stopped": "secondary",
    "Creating": "azure",
    "Detaching": "orange",
    "Succeeded": "green",
    "ready": "green",
    "building": "blue",
    "failed": "red",
}

# States that are still moving: their dot breathes.
LIVE = {"Preparing", "Starting", "Running", "Finalizing", "Transitioning", "Creating", "Detaching", "building"}

STATUS_LABELS = {
    "NotStarted": gettext_lazy("Not started"),
    "Preparing": gettext_lazy("Preparing"),
    "Queued": gettext_lazy("Queued"),
    "Starting": gettext_lazy("Starting"),
    "Running": gettext_lazy("Running"),
    "Finalizing": gettext_lazy("Finalizing"),
    "Completed": gettext_lazy("Completed"),
    "Failed": gettext_lazy("Failed"),
    "CancelRequested": gettext_lazy("Cancel requested"),
    "Canceled": gettext_lazy("Canceled"),
    "NotResponding": gettext_lazy("Not responding"),
    "Healthy": gettext_lazy("Healthy"),
    "Transitioning": gettext_lazy("Transitioning"),
    "Unhealthy": gettext_lazy("Unhealthy"),
    "Stopped": gettext_lazy("Stopped"),
    "Creating": gettext_lazy("Creating"),
    "Detaching": gettext_lazy("Detaching"),
    "Succeeded": gettext_lazy("Ready"),
    "ready": gettext_lazy("Ready"),
    "building": gettext_lazy("Building"),
    "failed": gettext_lazy("Failed"),
}


@register.filter
def ago(moment: dt.datetime | None) -> SafeString | str:
    """``3 min ago`` in a <time> whose title is the exact moment."""
    if moment is None:
        return "–"
    seconds = (timezone.now() - moment).total_seconds()
    text = _("just now") if seconds < 10 else _("%(time)s ago") % {"time": _span(seconds)}
    exact = timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z")
    return format_html('<time datetime="{}" title="{}" data-ago>{}</time>', moment.isoformat(), exact, text)


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
def since(moment: dt.datetime | None) -> SafeString | str:
    """How long it has been going on, as a duration that ``app.js`` counts on every second."""
    if moment is None:
        return "–"
    text = duration((timezone.now() - moment).total_seconds())
    return format_html('<span data-since="{}">{}</span>', moment.isoformat(), text)


@register.filter
def initials(name: str) -> str:
    """One or two letters for an avatar."""
    words = [word for word in name.replace(".", " ").replace("_", " ").replace("-", " ").split() if word[0].isalnum()]
    return "".join(word[0] for word in words[:2]).upper() or "?"


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
    return names.visible_text(str(value))


@register.filter
def visible(value: Any) -> Any:
    """Text that a script named: characters that nobody sees, or that reorder what is read, as ``⟦U+202E⟧``."""
    return names.visible(value) if isinstance(value, str) else value


@register.filter
def visible_text(value: Any) -> Any:
    """The same for text of several lines: tabs and newlines stay."""
    return names.visible_text(value) if isinstance(value, str) else value


@register.filter
def status_color(status: str) -> str:
    return STATUS_COLORS.get(status, "secondary")


@register.inclusion_tag("studio/parts/status.html")
def status(value: str) -> dict[str, Any]:
    """The state of a run or service: a dot of its colour, and the word (never the colour alone)."""
    return {
        "value": value,
        "label": STATUS_LABELS.get(value, value),
        "color": STATUS_COLORS.get(value, "secondary"),
        "live": value in LIVE,
    }


@register.filter
def status_label(value: str) -> Any:
    """The state's words with their spaces: ``CancelRequested`` as "Cancel requested"."""
    return STATUS_LABELS.get(value, value)


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


@register.simple_tag
def control(field: BoundField) -> SafeString:
    """A form field's control with the classes of its kind, marked invalid and tied to its error where it has one."""
    kind = getattr(field.field.widget, "input_type", "")
    css = {"checkbox": "form-check-input", "select": "form-select", "file": "form-control", "range": "form-range"}
    classes = " ".join(filter(None, [field.field.widget.attrs.get("class"), css.get(kind, "form-control")]))
    attrs: dict[str, str | bool] = {"class": classes}
    if field.errors:
        attrs["class"] = f"{classes} is-invalid"
        attrs["aria-invalid"] = "true"
        described = [f"{field.auto_id}_helptext"] if field.help_text else []
        attrs["aria-describedby"] = " ".join([*described, f"{field.auto_id}_error"])
    return field.as_widget(attrs=attrs)
