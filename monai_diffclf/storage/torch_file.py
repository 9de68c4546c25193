# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Files of `torch.save` that can be read without running code in them."""

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

from .._checks import plain_tensor
from .atomic_file import replaced

__all__ = ["json_values", "write_torch_file"]

_PLAIN = (bool, int, float, complex, str, bytes)


def write_torch_file(path: str | os.PathLike[str], content: Any) -> None:
    """Write weights or the state of a training, so that ``torch.load(weights_only=True)`` reads it.

    Numbers of NumPy, members of enumerations and other kinds of numbers, text, lists and tensors become Python's and
    torch's own. The file is replaced as a whole, and only if it can be read back.

    Args:
        path: the file; its folder is made if absent.
        content: tensors and plain values, in lists and dictionaries.

    Raises:
        TypeError: when something else is in there, which could be written, but not be read again.
        OSError: when the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_torch_file(folder + "/state.pt", {"rate": np.float64(0.5), "weight": torch.zeros(2)})
        ...     torch.load(folder + "/state.pt", weights_only=True)
        {'rate': 0.5, 'weight': tensor([0., 0.])}
    """
    plain = _plain(content)
    with replaced(path) as temporary:
        torch.save(plain, temporary)
        try:
            torch.load(temporary, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            # Its first line names the class that is not allowed; the rest advises to read files without protection.
            strange = "; ".join(_strange(plain, "content")) or str(error).splitlines()[0]
            raise TypeError(
                f"content: expected tensors and plain values for {path}, which can be read without running code, got "
                f"{strange}; leave it out, or give numbers, text, lists, dictionaries or tensors"
            ) from None


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

    plain: dict[str, Any] = json.loads(json.dumps(_plain(settings), default=as_text))
    return plain


def _plain(value: Any) -> Any:
    """The same in Python's and torch's own types, as far as these have it; dictionaries of torch keep their type."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, torch.nn.Parameter):
        return value
    if isinstance(value, torch.Tensor):
        return plain_tensor(value)
    if isinstance(value, _PLAIN):
        kind: Any = next(kind for kind in _PLAIN if isinstance(value, kind))
        return value if type(value) is kind else kind(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, torch.Size):
        return value
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    return value


def _plain_mapping(value: Mapping[Any, Any]) -> dict[Any, Any]:
    items = {_plain(key): _plain(item) for key, item in value.items()}
    if type(value) is not OrderedDict:
        return items
    ordered = copy.copy(value)  # with what a state dict knows of its versions
    ordered.clear()
    ordered.update(items)
    return ordered


def _strange(value: Any, name: str) -> list[str]:
    """Where something stands that is no plain value, and what it is."""
    if isinstance(value, Mapping):
        return [text for key, item in value.items() for text in _strange(item, f"{name}[{key!r}]")]
    if isinstance(value, list | tuple):
        return [text for place, item in enumerate(value) for text in _strange(item, f"{name}[{place}]")]
    known = (*_PLAIN, type(None), torch.Tensor, torch.dtype, torch.device)
    return [] if isinstance(value, known) else [f"{type(value).__name__} in {name}"]
