# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Names at their old places, and old names of arguments: they still work, and say what they are now."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

__all__ = ["moved", "renamed_arguments", "renamed_fields"]

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)


def moved(module: str, name: str, places: Mapping[str, str]) -> Any:
    """What a module's ``__getattr__`` gives for a name that has another place now.

    Args:
        module: the module that was asked.
        name: the name.
        places: name -> module where it is now, or ``module:name`` where its name is another one too.

    Raises:
        AttributeError: when the name has not moved.

    Warns:
        DeprecationWarning: naming the new place.
    """
    if name not in places:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    place, _, new_name = places[name].partition(":")
    new_name = new_name or name
    warnings.warn(f"{module}.{name} is now {place}.{new_name}", DeprecationWarning, stacklevel=3)
    return getattr(importlib.import_module(place), new_name)


def renamed_arguments(**new_names: str) -> Callable[[Function], Function]:
    """Decorator: the function takes keyword arguments under their old names too, with a warning.

    Args:
        new_names: old name to new one.

    Example:
        >>> @renamed_arguments(colour="color")
        ... def paint(*, color):
        ...     return color
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     paint(colour="red"), str(caught[0].message)
        ('red', 'paint: the argument colour is now color')
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old, new in new_names.items():
                if old in kwargs:
                    if new in kwargs:
                        raise TypeError(f"{new}: expected it once, got {old}, its old name, too")
                    name = function.__qualname__.removesuffix(".__init__")
                    warnings.warn(f"{name}: the argument {old} is now {new}", DeprecationWarning, stacklevel=2)
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return cast(Function, call)

    return decorate


def renamed_fields(**new_names: str) -> Callable[[Class], Class]:
    """Decorator of a dataclass whose fields have new names: the old ones can still be given and read, with a warning.

    Args:
        new_names: old name to new one.
    """

    def read(old: str, new: str) -> property:
        def get(self: Any) -> Any:
            warnings.warn(f"{type(self).__name__}.{old} is now {new}", DeprecationWarning, stacklevel=2)
            return getattr(self, new)

        return property(get, doc=f"Old name of `{new}`.")

    def decorate(cls: Class) -> Class:
        type.__setattr__(cls, "__init__", renamed_arguments(**new_names)(cls.__init__))  # type: ignore[misc]
        for old, new in new_names.items():
            setattr(cls, old, read(old, new))
        return cls

    return decorate
