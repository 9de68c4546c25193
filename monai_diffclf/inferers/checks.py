# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What settings every inferer refuses."""

from __future__ import annotations

__all__ = ["check_settings"]


def check_settings(*, num_classes: int, **positive: int) -> None:
    """Refuse a number of classes below 2, and other numbers below 1.

    Raises:
        ValueError: naming the setting.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"num_classes: expected an integer of at least 2, got {num_classes!r}")
    for name, value in positive.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected a positive integer, got {value!r}")
