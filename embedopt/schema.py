"""Records: how one is declared, written to JSON and read back, and messages about values that do not fit.

A record is a frozen dataclass. Reading one refuses unknown fields and numbers that are not finite. A metric
is a field of a record that has a unit and a better direction.
"""

import dataclasses
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from embedopt.errors import RecordError

Better = Literal["higher", "lower"]
Interval = tuple[float, float]
R = TypeVar("R")
# Marks a field that is left out of the JSON while it is empty (0 is a figure), so that older code, which
# refuses unknown fields, reads the record.
OMIT_EMPTY = Field(exclude_if=lambda value: not value and value != 0)
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def metric(unit: str, better: Better) -> Any:
    """Declare a field that holds a metric; its default None means not measured."""
    return field(default=None, metadata={"unit": unit, "better": better})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(kind: type[R]) -> type[R]:
    """Turn a class into a record."""
    kind.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)  # type: ignore[attr-defined]  # pydantic reads it
    return dataclass(frozen=True, slots=True, kw_only=True)(kind)


def metrics(kind: type) -> dict[str, tuple[str, Better]]:
    """Return unit and better direction of each metric of a record type, by the metric's name."""
    return {
        item.name: (item.metadata["unit"], item.metadata["better"])
        for item in dataclasses.fields(kind)
        if "better" in item.metadata
    }


def to_json(values: Any) -> dict[str, Any]:
    """Return a record as JSON values."""
    json_values: dict[str, Any] = _adapter(type(values)).dump_python(values, mode="json")
    return json_values


def clear_not_finite(values: Any, name: str = "") -> dict[str, float]:
    """Replace each number in JSON values that is not finite by None; return these numbers by name."""
    cleared: dict[str, float] = {}
    items = dict(enumerate(values)) if isinstance(values, list) else values
    for key, value in items.items() if isinstance(items, dict) else ():
        where = f"{name} {key}".strip()
        if isinstance(value, float) and not math.isfinite(value):
            cleared[where], values[key] = value, None
        cleared |= clear_not_finite(value, where)
    return cleared


def from_json(kind: type[R], values: Mapping[str, Any]) -> R:
    """Read a record back.

    Raises:
        RecordError: a field is missing, unknown or of the wrong type; the message names it.
    """
    try:
        read: R = _adapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RecordError(f"{kind.__name__} record: {where}: {first['msg'].lower()}") from None
    return read


def describe_mistake(kind: Any, error: ValidationError) -> str:
    """Return one line that says what the first mistake in ``error`` is and what was wanted.

    Args:
        kind: the pydantic dataclass that was not made; each constrained field has a ``description`` of the
            values that are wanted, and may have a ``title``, the name that the user knows it by.
        error: what pydantic raised.
    """
    mistake, fields = error.errors()[0], kind.__pydantic_fields__
    name, *inner = [str(part) for part in mistake["loc"]] or [""]
    if name not in fields:
        return f"unknown setting {name!r}; known are: {', '.join(fields)}"
    where = ".".join([fields[name].title or name, *inner])
    value = "missing" if mistake["type"] == "missing" else reprlib.repr(mistake["input"])
    return f"{where} is {value}; wanted {fields[name].description}"


def _adapter(kind: type) -> TypeAdapter[Any]:
    """Return the adapter of a record type, kept for reuse: to make one takes longer than to read a record."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
