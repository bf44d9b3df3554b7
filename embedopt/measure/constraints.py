"""Messages on values that break the constraints of their fields."""

import reprlib
from typing import Any

from pydantic import ValidationError


def describe_mistake(kind: Any, error: ValidationError) -> str:
    """Return what was found and what was wanted, in one line, for the first mistake in ``error``.

    Args:
        kind: the pydantic dataclass that was not made; each constrained field has a ``description`` of the
            values that are wanted, and may have a ``title``, the name that the user knows it by.
        error: what pydantic raised.
    """
    mistake = error.errors()[0]
    name = str(mistake["loc"][0])
    field = kind.__pydantic_fields__[name]
    value = "missing" if mistake["type"] == "missing" else reprlib.repr(mistake["input"])
    return f"{field.title or name} is {value}; wanted {field.description}"
