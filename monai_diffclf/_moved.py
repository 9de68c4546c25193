# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Names at their old places: they still work, and say where they are now."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from typing import Any

__all__ = ["moved"]


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
