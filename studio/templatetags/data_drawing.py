"""Figures of a dataset as they are drawn: a profile's columns with their histograms, and the table of first rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import template
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from studio.lib.names import visible

register = template.Library()

SHOWN_COLUMNS = 100
WIDTH, HEIGHT = 320.0, 96.0
TYPES = {
    "string": gettext_lazy("Text"),
    "integer": gettext_lazy("Whole number"),
    "float": gettext_lazy("Number"),
    "boolean": gettext_lazy("Yes or no"),
    "datetime": gettext_lazy("Date and time"),
}
NUMBERS = frozenset({"integer", "float"})
_MIDDLE = (("p25", gettext_lazy("25 %")), ("p50", gettext_lazy("Median")), ("p75", gettext_lazy("75 %")))


@register.filter
def type_label(name: str) -> Any:
    return TYPES.get(name, name)


@register.filter
def figure(value: Any) -> str:
    """A number of a profile: whole ones with separators, others in six significant digits, text as it is."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return _("true") if value else _("false")
    if isinstance(value, int):
        return str(number_format(value, use_l10n=True, force_grouping=True))
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e9:
            return figure(int(value))
        return f"{value:.6g}"
    return visible(str(value))


def _share(part: Any, whole: Any) -> float:
    """Percent, 0 to 100."""
    return min(100.0, max(0.0, 100.0 * float(part or 0) / float(whole))) if whole else 0.0


def _percent(share: float) -> str:
    """A share in words: little is not nothing, and nearly all is not all."""
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"


@register.filter
def profile_columns(result: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The first columns of a profile with what their cards say."""
    rows = (result or {}).get("rows") or 0
    columns = (result or {}).get("columns") or []
    return [_card(index, column, rows) for index, column in enumerate(columns[:SHOWN_COLUMNS])]


def _card(index: int, column: dict[str, Any], rows: int) -> dict[str, Any]:
    count, missing = column.get("count") or 0, column.get("missing") or 0
    quantiles = column.get("quantiles") or {}
    share = _share(missing, rows or count + missing)
    facts = [(_("Distinct"), figure(column.get("distinct")))]
    if column.get("min") is not None:
        facts.append((_("Smallest"), _short(column["min"])))
    facts += [(str(label), figure(quantiles[name])) for name, label in _MIDDLE if quantiles.get(name) is not None]
    for name, label in (("max", _("Largest")), ("mean", _("Mean")), ("std", _("Std. deviation"))):
        if column.get(name) is not None:
            facts.append((label, _short(column[name])))
    return {
        "id": f"profile-{index}",
        "name": visible(str(column.get("name", ""))),
        "type": column.get("type", ""),
        "count": count,
        "missing": missing,
        "missing_share": share,
        "missing_text": _percent(share),
        "facts": facts,
        "quantiles": [(name.removeprefix("p") + " %", figure(value)) for name, value in quantiles.items()],
        "top": _top(column.get("top") or [], count),
        "bins": bins(column.get("histogram"), column.get("type") == "integer", column.get("max")),
    }


def _short(value: Any) -> str:
    """A fact of a card: long text is cut."""
    if value == "":
        return _("empty")
    text = figure(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _top(top: Sequence[Sequence[Any]], count: int) -> list[dict[str, Any]]:
    most = max((pair[1] for pair in top), default=0)
    if len(top) >= 10 and _share(most, count) < 1:
        return []  # nearly every row has a value of its own: none of them is frequent
    return [
        {
            "value": figure(pair[0]) if not isinstance(pair[0], str) else visible(pair[0]),
            "empty": pair[0] == "",
            "count": pair[1],
            "share": _percent(_share(pair[1], count)),
            "width": round(_share(pair[1], most), 1),
        }
        for pair in top[:10]
    ]


def bins(histogram: dict[str, Any] | None, whole: bool = False, largest: Any = None) -> list[dict[str, Any]]:
    """[{"low", "high", "count"}] of {"edges": n + 1 values, "counts": n}; empty where there is nothing to draw.

    Where a bar is one value, both ends are that value: bars of ``whole`` numbers that end one after the ``largest``,
    and the only bar of a column whose values are all the same.
    """
    edges, counts = (histogram or {}).get("edges") or [], (histogram or {}).get("counts") or []
    if len(edges) != len(counts) + 1:
        return []
    lows, highs = edges[:-1], edges[1:]
    one_each = whole and isinstance(largest, int) and edges[-1] == largest + 1 == edges[0] + len(counts)
    if one_each or (len(counts) == 1 and edges[0] == largest):
        highs = lows
    return [
        {"low": figure(low), "high": figure(high), "count": count}
        for low, high, count in zip(lows, highs, counts, strict=True)
    ]


def _span(one: dict[str, Any]) -> str:
    """What a bar stands for, in words."""
    return one["low"] if one["low"] == one["high"] else _("%(low)s to %(high)s") % one


@register.simple_tag
def histogram_svg(card: dict[str, Any]) -> SafeString:
    """The histogram of a column's card: bars with their own titles, said in words for those who do not see it."""
    found = card["bins"]
    most = max((one["count"] for one in found), default=0)
    if not most:
        return SafeString("")
    step = WIDTH / len(found)
    gap = min(1.5, step * 0.15)
    bars = []
    for index, one in enumerate(found):
        height = max(HEIGHT * one["count"] / most, 1.5 if one["count"] else 0)
        said = _("%(from)s: %(count)s") % {"from": _span(one), "count": figure(one["count"])}
        bars.append(
            (f"{index * step + gap / 2:.2f}", f"{HEIGHT - height:.2f}", f"{step - gap:.2f}", f"{height:.2f}", said)
        )
    tallest = max(found, key=lambda one: one["count"])
    title = _("Histogram of %(name)s") % {"name": card["name"]}
    words = {"n": len(found), "low": found[0]["low"], "high": found[-1]["high"], "count": figure(tallest["count"])}
    words |= {"tallest": _span(tallest)}
    text = ngettext(
        "%(n)d bar, %(tallest)s, with %(count)s values.",
        "%(n)d bars from %(low)s to %(high)s. The tallest is %(tallest)s with %(count)s values.",
        len(found),
    )
    return format_html(
        '<svg class="at-histogram" viewBox="0 0 {w} {h}" preserveAspectRatio="none" role="img" '
        'aria-labelledby="{id}-t {id}-d"><title id="{id}-t">{title}</title><desc id="{id}-d">{text}</desc>{bars}</svg>',
        w=int(WIDTH),
        h=int(HEIGHT),
        id=card["id"],
        title=title,
        text=text % words,
        bars=format_html_join("", '<rect x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>', bars),
    )


@register.filter
def percent_of(value: Any) -> int:
    """0 to 1 as a whole number of percent, for a meter."""
    return round(100 * min(1.0, max(0.0, float(value or 0))))


@register.filter
def preview_table(preview: dict[str, Any]) -> dict[str, Any]:
    """{"headers": [{"name", "type", "number"}], "rows": [[{"text", "kind"}]]}; ``kind``: null, empty, number, text."""
    columns = preview["columns"]
    width = len(preview["rows"][0]) if preview["rows"] else min(len(columns), 500)
    headers = [
        {"name": visible(str(column["name"])), "type": column["type"], "number": column["type"] in NUMBERS}
        for column in columns[:width]
    ]
    return {"headers": headers, "rows": [[_cell(value) for value in row] for row in preview["rows"]]}


def _cell(value: Any) -> dict[str, str]:
    if value is None:
        return {"text": "null", "kind": "null"}
    if value == "":
        return {"text": _("empty"), "kind": "empty"}
    if isinstance(value, bool):
        return {"text": "true" if value else "false", "kind": "text"}
    if isinstance(value, (int, float)):
        return {"text": repr(value), "kind": "number"}
    return {"text": str(value), "kind": "text"}


@register.filter
def chosen(choice: dict[str, Any]) -> str:
    """The words of the answer that a problem's choice has now."""
    return next((str(o["label"]) for o in choice["options"] if o["value"] == choice["value"]), "")
