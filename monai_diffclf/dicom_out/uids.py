# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""New unique identifiers: the same for the same object, another for any other."""

from __future__ import annotations

import json
import uuid

__all__ = ["new_uid"]

# Of this package: any fixed UUID does.
_NAMESPACE = uuid.UUID("6f1c8a2e-3d0b-5c57-9a44-2f6c6f1d7b35")


def new_uid(*facts: object) -> str:
    """A UID below the root 2.25, made of a UUID of version 5 (SHA-1 of a name; PS3.5, B.2; ITU-T X.667).

    It is a function of all that the object is made of, its date and time among them, so that equal UIDs mean equal
    objects, as DICOM asks, and who repeats a work that was interrupted makes the same objects again.

    Args:
        facts: what the object is made of; plain values.

    Example:
        >>> new_uid("a", 1) == new_uid("a", 1), new_uid("a", 1) == new_uid("a", 2), new_uid("a")[:5]
        (True, False, '2.25.')
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(facts, sort_keys=True, default=str)).int}"
