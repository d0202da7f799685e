"""``values`` as SQL of DuckDB: what a text, or a value of another type, means as a value of a column's type."""

from __future__ import annotations

from typing import Any

from . import values
from .predicates import SQL_TYPES, literal

MISFIT = "atelier-misfit"  # the message of casts that do not fit
SPACES = "' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)"
OFFSET = r" ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2})$"
INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
WIDE = ("UBIGINT", "HUGEINT", "UHUGEINT")


def type_of(duck: str) -> str:
    """A type of DuckDB as one of ours; nested ones are shown as JSON text."""
    if nested(duck):
        return "string"
    if duck in INTEGERS or duck in WIDE:
        return "integer"
    if duck in ("FLOAT", "DOUBLE", "REAL") or duck.startswith("DECIMAL"):
        return "float"
    if duck == "BOOLEAN":
        return "boolean"
    return "datetime" if duck == "DATE" or duck.startswith("TIMESTAMP") else "string"


def nested(duck: str) -> bool:
    return duck.endswith("]") or duck.startswith(("STRUCT", "MAP", "UNION", "LIST"))


def from_double(name: str, kind: str, error: str) -> str:
    """A number read as DOUBLE: integers must be whole, and small enough to be exact."""
    if kind == "float":
        return f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END"
    wrong = f"{name} IS DISTINCT FROM trunc({name}) OR abs({name}) >= {values.EXACT}"
    return f"CASE WHEN {wrong} THEN CAST({error} AS BIGINT) ELSE CAST({name} AS BIGINT) END"


def from_text(name: str, column: dict[str, Any]) -> tuple[str, str | None]:
    """``(value, whether it does not fit)`` of a text."""
    kind = column["type"]
    if kind == "string":
        return name, None
    text = f"trim({name}, {SPACES})"
    if kind == "boolean":
        made = (
            f"CASE WHEN lower({text}) IN ({_words(values.TRUE)}) THEN TRUE "
            f"WHEN lower({text}) IN ({_words(values.FALSE)}) THEN FALSE END"
        )
    elif kind == "datetime":
        made = _moment(text, column.get("formats"))
    else:
        made = _number(text, kind)
    wrong = f"({name} IS NOT NULL AND {text} <> '' AND ({made}) IS NULL"
    if kind == "float":
        wrong += f" AND NOT regexp_full_match({text}, '[+-]?(?i:nan)')"
    return made, wrong + ")"


def _number(text: str, kind: str) -> str:
    digits = f"replace({text}, '_', '')"
    number = f"TRY_CAST({digits} AS DOUBLE)"
    if kind == "float":
        fits = f"regexp_full_match({text}, {literal(values.NUMBER + '|' + values.SPECIAL)})"
        return f"CASE WHEN {fits} AND NOT isnan({number}) THEN {number} END"
    return (
        f"CASE WHEN regexp_full_match({text}, {literal(values.INTEGER)}) THEN TRY_CAST({digits} AS BIGINT) "
        f"WHEN regexp_full_match({text}, {literal(values.NUMBER)}) AND abs({number}) < {values.EXACT} "
        f"AND {number} = trunc({number}) THEN CAST({number} AS BIGINT) END"
    )


def _moment(text: str, formats: list[str] | None) -> str:
    if formats:
        return f"try_strptime({text}, [{', '.join(literal(one) for one in formats)}])"
    offset = literal(OFFSET)
    # Older DuckDBs want two digits of the hour, seconds, and "-" in dates.
    plain = f"regexp_replace(replace(regexp_replace({text}, {offset}, ''), '/', '-'), '([ T])([0-9]):', '\\10\\2:')"
    plain = f"TRY_CAST(regexp_replace({plain}, '([ T][0-9]{{2}}:[0-9]{{2}})$', '\\1:00') AS TIMESTAMP)"
    away = literal("([+-])([0-9]{2}):?([0-9]{2})$")
    sign = f"CASE regexp_extract({text}, {away}, 1) WHEN '-' THEN 1 ELSE -1 END"
    minutes = (
        f"CAST({sign} * (60 * CAST(regexp_extract({text}, {away}, 2) AS INTEGER) + "
        f"CAST(regexp_extract({text}, {away}, 3) AS INTEGER)) AS BIGINT)"
    )
    clock = literal("(T| ).*[+-][0-9]{2}:?[0-9]{2}$")
    return (
        f"CASE WHEN NOT regexp_full_match({text}, {literal(values.MOMENT)}) OR starts_with({text}, '0000') THEN NULL "
        f"WHEN regexp_matches({text}, {clock}) THEN {plain} + to_minutes({minutes}) ELSE {plain} END"
    )


def from_type(name: str, duck: str, column: dict[str, Any]) -> tuple[str, str | None]:
    """``(value, whether it does not fit)`` of a value of a DuckDB type."""
    kind, there = column["type"], type_of(duck)
    wanted = SQL_TYPES[kind]
    if kind == "string":
        return as_text(name, duck), None
    if duck.startswith("TIMESTAMPTZ_"):  # nanoseconds with a zone have no way to plain moments but this
        name = f"CAST({name} AS TIMESTAMPTZ)"
    if duck in WIDE and kind == "integer":
        return f"TRY_CAST({name} AS BIGINT)", f"({name} IS NOT NULL AND TRY_CAST({name} AS BIGINT) IS NULL)"
    if kind == there or (kind == "float" and there == "integer"):
        return (name if duck == wanted else f"CAST({name} AS {wanted})"), None
    if there == "boolean":
        return f"CAST(NULL AS {wanted})", f"({name} IS NOT NULL)"
    made, wrong = from_text(as_text(name, duck), column)
    if there == "float":  # "nan" is a missing value, not one that does not fit
        wrong = f"({wrong} AND NOT isnan(CAST({name} AS DOUBLE)))"
    return made, wrong


def as_text(name: str, duck: str) -> str:
    if duck == "VARCHAR":
        return name
    return f"CAST(to_json({name}) AS VARCHAR)" if nested(duck) else f"CAST({name} AS VARCHAR)"


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(literal(word) for word in words)
