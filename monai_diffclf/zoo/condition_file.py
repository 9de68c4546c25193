# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The file of conditions: what each class is to a generative model, as it is written."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from .._class_names import class_names, shown
from .._text import joined
from ..bundle.plain_values import check_plain

__all__ = ["Condition", "ConditionFile", "read_condition_file"]

Condition = str | int | tuple[float, ...] | Mapping[str, Any]
"""A prompt, a class label, numbers in their order, or numbers by their names."""

_KEYS = ("classes", "grid", "shared")
_MOST = 1000


@dataclass(frozen=True)
class ConditionFile:
    """What each class is to a generative model.

    Args:
        classes: names of the classes in the order of their labels.
        conditions: the conditions of each class, one or more.
        covariate: name of the covariate whose values the classes are; None where they are no grid.
    """

    classes: tuple[str, ...]
    conditions: tuple[tuple[Condition, ...], ...]
    covariate: str | None = None

    @property
    def every(self) -> list[Condition]:
        """All conditions, class by class."""
        return [condition for of_class in self.conditions for condition in of_class]


def read_condition_file(path: Path) -> ConditionFile:
    """Read a file of conditions, YAML or JSON.

    Either each class with its condition, or several of them; or ``classes`` with such a list in it, or ``grid`` with
    the values of one covariate (a list, or ``from``, ``to`` and ``steps``), and beside it ``shared``: what all classes
    have in common.

    Args:
        path: the file.

    Raises:
        ValueError: when it cannot be read, or says something else.
    """
    if not path.is_file():
        raise ValueError(f"conditions: expected a file, but there is no {path}")
    content: Any
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Duplicate key")  # of a class given twice the last alone would count
            content = ConfigParser.load_config_file(path)
    except Exception as error:
        raise ValueError(f"conditions: cannot read {path}: {shown(joined(error), 200)}") from error
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"conditions: expected each class with its condition in {path}, got {shown(content)}")
    shared: Mapping[str, Any] = {}
    if "classes" in content or "grid" in content:
        if strange := [name for name in content if name not in _KEYS]:
            raise ValueError(f"conditions: expected {', '.join(_KEYS)} in {path}, got {shown(strange[0])}")
        if "classes" in content and "grid" in content:
            raise ValueError(f"conditions: expected classes or a grid in {path}, got both")
        shared = _mapping(content.get("shared") or {}, "shared")
        if "grid" in content:
            return _of_grid(_mapping(content["grid"], "grid"), shared)
        content = _mapping(content["classes"], "classes")
    if len(content) < 2:
        raise ValueError(f"conditions: expected two classes or more to compare in {path}, got {len(content)}")
    if wrong := [name for name in content if isinstance(name, bool) or name is None]:
        raise ValueError(
            f"conditions: expected names of classes in {path}, got {wrong[0]}, which YAML makes of words such as yes, "
            "no, on, off and null; put quotes around the name"
        )
    classes = class_names([str(name) for name in content])
    check_plain("conditions", classes)
    found = tuple(_conditions(name, value, shared) for name, value in zip(classes, content.values(), strict=True))
    return ConditionFile(tuple(classes), found)


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"conditions: expected names with values under {name}, got {shown(value)}")
    return {str(key): entry for key, entry in value.items()}


def _of_grid(grid: Mapping[str, Any], shared: Mapping[str, Any]) -> ConditionFile:
    """Each value of a covariate as a class, with what is shared."""
    if len(grid) != 1:
        raise ValueError(f"conditions: expected one covariate under grid, got {sorted(grid) or 'none'}")
    ((name, given),) = grid.items()
    if name in shared:
        raise ValueError(f"conditions: expected {name} under grid or under shared, got it under both")
    values = _grid_values(name, given)
    classes = class_names([f"{name}={value:g}" for value in values])
    check_plain("conditions", classes)
    return ConditionFile(tuple(classes), tuple(({**shared, name: value},) for value in values), name)


def _grid_values(name: str, given: Any) -> list[float]:
    if isinstance(given, Mapping) and set(given) == {"from", "to", "steps"}:
        low, high = (_number(given[end], f"grid of {name}") for end in ("from", "to"))
        steps = given["steps"]
        if isinstance(steps, bool) or not isinstance(steps, int) or not 2 <= steps <= _MOST:
            raise ValueError(f"conditions: expected 2 to {_MOST} steps for the grid of {name}, got {shown(steps)}")
        return [low + (high - low) * i / (steps - 1) for i in range(steps)]
    if not isinstance(given, Sequence) or isinstance(given, str) or not 2 <= len(given) <= _MOST:
        raise ValueError(
            f"conditions: expected a list of 2 to {_MOST} values for the grid of {name}, or its from, to and steps, "
            f"got {shown(given)}"
        )
    values = [_number(value, f"grid of {name}") for value in given]
    if any(later <= earlier for earlier, later in itertools.pairwise(values)):
        raise ValueError(f"conditions: expected rising values for the grid of {name}, got {shown(given)}")
    return values


def _conditions(name: str, value: Any, shared: Mapping[str, Any]) -> tuple[Condition, ...]:
    """The conditions of a class, one or more."""
    several = isinstance(value, list) and value and not all(_is_number(each) for each in value)
    found = tuple(_condition(name, each, shared) for each in (value if several else [value]))
    if any(found.count(each) > 1 for each in found):
        raise ValueError(f"conditions: expected different ones for class {shown(name)!r}, got one of them twice")
    return found


def _condition(name: str, value: Any, shared: Mapping[str, Any]) -> Condition:
    if shared and (isinstance(value, str) or (isinstance(value, list) and value)):
        raise ValueError(
            f"conditions: expected nothing under shared, as class {shown(name)!r} is not said in numbers by their "
            f"names, got {', '.join(shared)}"
        )
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return {**shared, "class_labels": value} if shared else value
    if isinstance(value, list) and value and all(_is_number(each) for each in value):
        return tuple(float(each) for each in value)
    if isinstance(value, Mapping):
        return {**shared, **_mapping(value, name)}
    raise ValueError(
        f"conditions: expected for class {shown(name)!r} a prompt, a class label, a list of numbers, or numbers by "
        f"their names, or several of these, got {shown(value) or 'an empty text'}"
    )


def _number(value: Any, where: str) -> float:
    if not _is_number(value):
        raise ValueError(f"conditions: expected finite numbers in the {where}, got {shown(value)}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
