"""What a pluggable kind (of compute, of datastore) says of itself: its form's fields, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from studio.lib.errors import Invalid


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: whose fault, what, and the way out. ``stops``: what is looked at after it could not be
    looked at any more."""

    code: str
    message: str
    hint: str = ""
    field: str = ""
    stops: bool = False


@dataclass(frozen=True)
class FormField:
    """A field of a kind's form. ``kind``: text, number, select, textarea, checkbox, password.

    ``address``: another value may send the kind's secrets somewhere else, so that stored ones have to be given again.
    None: so it is with what is no secret. False for what only says where to look once there (a folder, a prefix), True
    for a secret that holds an address.
    """

    name: str
    label: Any  # a text, or one that is translated when it is shown
    kind: str = "text"
    help: Any = ""
    required: bool = False
    secret: bool = False
    default: Any = None
    choices: list[tuple[str, Any]] = field(default_factory=list)
    minimum: int | None = None
    maximum: int | None = None
    address: bool | None = None

    @property
    def leads(self) -> bool:
        """Whether its value says where secrets are sent."""
        return not self.secret if self.address is None else self.address


def _number(field: FormField, raw: Any) -> int:
    """Raises ValueError with a sentence for a person."""
    try:
        value = int(raw)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(_("%(value)r is not a whole number.") % {"value": raw}) from None
    if field.minimum is not None and value < field.minimum:
        raise ValueError(_("It must be at least %(minimum)d.") % {"minimum": field.minimum})
    if field.maximum is not None and value > field.maximum:
        raise ValueError(_("It must be at most %(maximum)d.") % {"maximum": field.maximum})
    return value


def _value(field: FormField, raw: Any) -> Any:
    """What a field's input means; None for an empty one. Raises ValueError with a sentence for a person."""
    if field.kind == "checkbox":
        if raw is None:  # not given at all: forms say False where a box is not ticked
            return bool(field.default)
        return raw in (True, "true", "on", "1", 1)
    if raw is None or raw == "":
        if field.required:
            raise ValueError(_("This field is required."))
        return field.default
    if field.kind == "number":
        return _number(field, raw)
    if field.kind == "select" and str(raw) not in {value for value, _label in field.choices}:
        raise ValueError(_("%(value)r is not one of the choices.") % {"value": raw})
    text = str(raw)
    if "\x00" in text:
        raise ValueError(_("A NUL character cannot be stored."))
    return text


def validated(
    fields: Iterable[FormField], config: dict[str, Any], secrets: dict[str, Any], *, unknown: str, refusal: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """(config, secrets) as the fields say. Raises Invalid with every wrong field at once.

    ``unknown`` is said of a setting that no field declares, ``refusal`` of all of them together.
    """
    declared = list(fields)
    errors: dict[str, list[str]] = {}
    clean: dict[str, Any] = {}
    hidden: dict[str, str] = {}
    for name in {*config, *secrets} - {one.name for one in declared}:
        errors[name] = [unknown]
    for one in declared:
        try:
            value = _value(one, (secrets if one.secret else config).get(one.name))
        except ValueError as error:
            errors[one.name] = [str(error)]
            continue
        if value is not None:
            (hidden if one.secret else clean)[one.name] = value
    if errors:
        raise Invalid(refusal, errors=errors)
    return clean, hidden
