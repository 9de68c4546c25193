# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether a file, or a folder of files, is still what it was: by sizes and times, or by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["array_hash", "content_hash", "file_state"]


def file_state(path: str | os.PathLike[str]) -> tuple[Any, ...]:
    """Size and time (ns) of a file; of a folder, such as a DICOM series, name, size and time of each file in it.

    Raises:
        OSError: when there is none.
    """
    if os.path.isdir(path):
        return tuple((name, *file_state(file)) for name, file in _files(path))
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def content_hash(path: str | os.PathLike[str]) -> str:
    """Sixteen hexadecimal digits of a file's bytes; of a folder, those of names and bytes of all files in it.

    Raises:
        OSError: when it cannot be read.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "a.png").write_bytes(b"pixels")
        ...     len(content_hash(folder)), content_hash(folder) == content_hash(pathlib.Path(folder, "a.png"))
        (16, False)
    """
    digest = hashlib.blake2b(digest_size=8)
    if os.path.isdir(path):
        for name, file in _files(path):
            digest.update(f"{name}\0{content_hash(file)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
    with open(path, "rb") as content:
        while part := content.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def array_hash(array: Any) -> str:
    """Sixteen hexadecimal digits of an array or tensor: its type, shape and values."""
    values = np.ascontiguousarray(array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array)
    return hashlib.blake2b(f"{values.dtype} {values.shape}".encode() + values.tobytes(), digest_size=8).hexdigest()


def _files(folder: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Name in the folder, and path, of each file in it, in an order of their own."""
    found = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
    yield from ((os.path.relpath(file, folder), file) for file in sorted(found))
