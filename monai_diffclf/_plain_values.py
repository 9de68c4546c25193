# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Values in Python's and torch's own types, as files can hold and compare them. Imports nothing of ours but checks."""

from __future__ import annotations

import copy
import enum
import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ._checks import plain_tensor

__all__ = ["PLAIN", "json_values", "plain_values"]

PLAIN = (bool, int, float, complex, str, bytes)


def json_values(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Settings as JSON holds them; NumPy's numbers, enumerations, paths, and types and devices of torch become plain.

    Args:
        settings: the settings.
        name: the argument's name, for the message.

    Raises:
        TypeError: when something else is in there.

    Example:
        >>> json_values({"rate": np.float32(0.5), "dtype": torch.bfloat16, "size": (2, 3)}, "settings")
        {'rate': 0.5, 'dtype': 'bfloat16', 'size': [2, 3]}
    """

    def as_text(value: Any) -> str:
        if isinstance(value, torch.dtype | torch.device):
            return str(value).removeprefix("torch.")
        raise TypeError(
            f"{name}: expected numbers, text, lists and dictionaries, got {type(value).__name__}; give one of these"
        )

    plain: dict[str, Any] = json.loads(json.dumps(plain_values(settings), default=as_text))
    return plain


def plain_values(value: Any) -> Any:
    """The same in Python's and torch's own types, as far as these have it; dictionaries of torch keep their type.

    Numbers of NumPy, members of enumerations and other kinds of numbers, text, paths, lists and tensors become plain;
    anything else stays what it is.

    Example:
        >>> plain_values({"rate": np.float32(0.5), "size": [np.int64(2)]})
        {'rate': 0.5, 'size': [2]}
    """
    if isinstance(value, enum.Enum):
        return plain_values(value.value)
    if isinstance(value, np.generic):
        return plain_values(value.item())
    if isinstance(value, torch.nn.Parameter):
        return value
    if isinstance(value, torch.Tensor):
        return plain_tensor(value)
    if isinstance(value, PLAIN):
        kind: Any = next(kind for kind in PLAIN if isinstance(value, kind))
        return value if type(value) is kind else kind(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, list | tuple):
        items = [plain_values(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    return value


def _plain_mapping(value: Mapping[Any, Any]) -> dict[Any, Any]:
    items = {plain_values(key): plain_values(item) for key, item in value.items()}
    if type(value) is not OrderedDict:
        return items
    ordered = copy.copy(value)  # with what a state dict knows of its versions
    ordered.clear()
    ordered.update(items)
    return ordered
