# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Handlers by their names, so that a configuration can speak of one without counting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine

__all__ = ["NamedHandlers"]


class NamedHandlers:
    """A handler that attaches others, in their order; MONAI's engines take lists, whose places change.

    A bundle's configuration has its handlers as a dictionary and one of these in the list that MONAI looks for.
    Components with ``_disabled_`` are not in what MONAI makes of the dictionary.

    Args:
        handlers: handlers by their names; None for one that is switched off.

    Raises:
        TypeError: when it is no dictionary, or one of them is no handler.

    Example:
        >>> from monai.handlers import StatsHandler
        >>> from ignite.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> NamedHandlers({"log": StatsHandler(), "off": None}).attach(engine)
    """

    def __init__(self, handlers: Mapping[str, Any]) -> None:
        if not isinstance(handlers, Mapping):
            raise TypeError(f"handlers: expected handlers by their names, got {type(handlers).__name__}")
        for name, handler in handlers.items():
            if handler is not None and not hasattr(handler, "attach"):
                raise TypeError(f"handlers: expected {name} to be a handler with attach(), got {handler!r}")
        self.handlers = {name: handler for name, handler in handlers.items() if handler is not None}

    def attach(self, engine: Engine) -> None:
        """Attach all of them to an engine."""
        for handler in self.handlers.values():
            handler.attach(engine)
