# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What an object was made with, told from what it has drawn or looked up since."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

__all__ = ["settings_of"]

_CALLS = ("__call__", "forward", "inverse", "randomize", "set_random_state")
_DRAWN = ("R", "_do_transform")  # of MONAI's Randomizable and RandomizableTransform


def settings_of(thing: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of an object's values those that it was made with, sorted by name.

    Left out is what it sets when it is called: random numbers that were drawn last, what is kept to save time. What its
    constructor takes is a setting, and what is set by methods that the constructor calls too.

    Args:
        thing: the object.
        values: its values, ``vars(thing)``.

    Example:
        >>> class Shift:
        ...     def __init__(self, size):
        ...         self.size, self.limits = size, (-size, size)
        ...     def __call__(self, x):
        ...         self.last = x + self.size
        ...         return self.last
        >>> shift = Shift(2)
        >>> shift(3), sorted(vars(shift)), settings_of(shift, vars(shift))
        (5, ['last', 'limits', 'size'], {'limits': (-2, 2), 'size': 2})
    """
    state = _set_when_called(type(thing))
    return {name: value for name, value in sorted(values.items()) if name not in state}


def _set_when_called(kind: type) -> frozenset[str]:
    """Names that are set when an object is called and that no constructor takes."""
    methods = {name: list(_functions(kind, name)) for name in dir(kind)}
    making = _reached(methods, ("__init__", "__post_init__"))
    arguments = {name for function in methods["__init__"] for name in inspect.signature(function).parameters}
    found = {
        target
        for name in _reached(methods, _CALLS) - making
        for function in methods[name]
        for target in _targets(function.__code__)
    }
    return frozenset(name for name in found if not {name, name.lstrip("_")} & arguments) | {*_DRAWN}


def _reached(methods: Mapping[str, list[FunctionType]], start: Sequence[str]) -> set[str]:
    """The methods that some lead to."""
    found: set[str] = set()
    todo = list(start)
    while todo:
        name = todo.pop()
        if name in methods and name not in found:
            found.add(name)
            todo += [other for function in methods[name] for other in function.__code__.co_names]
    return found


def _functions(kind: type, name: str) -> Iterator[FunctionType]:
    """The functions of a name in a class and in those it inherits from; of a property its own."""
    for each in kind.__mro__:
        value = vars(each).get(name)
        parts = [value.fget, value.fset] if isinstance(value, property) else [getattr(value, "__func__", value)]
        yield from (inspect.unwrap(part) for part in parts if isinstance(part, FunctionType))


def _targets(code: CodeType) -> Iterator[str]:
    """The attributes of its first argument, the object itself, that a method sets."""
    before: Any = None
    for step in dis.get_instructions(code):
        if step.opname == "STORE_ATTR" and code.co_varnames and before == code.co_varnames[0]:
            yield str(step.argval)
        # Python 3.13 loads two in one step.
        before = step.argval[-1] if isinstance(step.argval, tuple) and step.argval else step.argval
