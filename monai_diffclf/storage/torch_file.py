# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Files of `torch.save` that can be read without running code in them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from .._plain_values import PLAIN, plain_values
from .atomic_file import replaced

__all__ = ["write_torch_file"]


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
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_torch_file(folder + "/state.pt", {"rate": np.float64(0.5), "weight": torch.zeros(2)})
        ...     torch.load(folder + "/state.pt", weights_only=True)
        {'rate': 0.5, 'weight': tensor([0., 0.])}
    """
    plain = plain_values(content)
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


def _strange(value: Any, name: str) -> list[str]:
    """Where something stands that is no plain value, and what it is."""
    if isinstance(value, Mapping):
        return [text for key, item in value.items() for text in _strange(item, f"{name}[{key!r}]")]
    if isinstance(value, list | tuple):
        return [text for place, item in enumerate(value) for text in _strange(item, f"{name}[{place}]")]
    known = (*PLAIN, type(None), torch.Tensor, torch.dtype, torch.device)
    return [] if isinstance(value, known) else [f"{type(value).__name__} in {name}"]
