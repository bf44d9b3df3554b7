"""How a record is declared, written to JSON and read back.

A record is a frozen dataclass that refuses unknown fields and numbers that are not finite. A metric is one of
its fields, with a unit and a better direction.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError

from embedopt.errors import RecordError

Better = Literal["higher", "lower"]
Interval = tuple[float, float]
R = TypeVar("R")
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def metric(unit: str, better: Better) -> Any:
    """Declare a field that holds a metric: None until it is measured."""
    return field(default=None, metadata={"unit": unit, "better": better})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(kind: type[R]) -> type[R]:
    """Make a class a record."""
    kind.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)  # type: ignore[attr-defined]  # pydantic reads it
    return dataclass(frozen=True, slots=True, kw_only=True)(kind)


def metrics(kind: type) -> dict[str, tuple[str, Better]]:
    """Return the metrics of a record type by name, each with its unit and better direction."""
    return {
        item.name: (item.metadata["unit"], item.metadata["better"])
        for item in dataclasses.fields(kind)
        if "better" in item.metadata
    }


def to_json(values: Any) -> dict[str, Any]:
    """Return a record as JSON values."""
    json_values: dict[str, Any] = _adapter(type(values)).dump_python(values, mode="json")
    return json_values


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


def _adapter(kind: type) -> TypeAdapter[Any]:
    """Return what reads and writes a record; making one takes longer than reading a record with it."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
