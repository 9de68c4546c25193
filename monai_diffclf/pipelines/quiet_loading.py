# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Loading by diffusers and transformers without their bars and remarks: what matters of these is raised here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["quiet_loading"]


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Within it diffusers and transformers show no progress bars, and of their messages errors alone."""
    found: list[Any] = [import_module("diffusers.utils.logging"), import_module("transformers.utils.logging")]
    before = [(each, each.get_verbosity(), each.is_progress_bar_enabled()) for each in found]
    for each in found:
        each.set_verbosity_error()
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each, verbosity, bars in before:
            each.set_verbosity(verbosity)
            if bars:
                each.enable_progress_bar()
