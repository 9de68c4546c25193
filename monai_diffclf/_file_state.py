# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether a file, or a folder of files, is still what it was: by sizes and times, or by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, wraps
from typing import Any, TypeVar

import numpy as np
import torch

__all__ = ["array_hash", "content_hash", "file_state", "further_fields", "once_a_file"]

Answer = TypeVar("Answer")
_NO_PIXELS = ("key", "label", "patient")  # nothing that an image is made of


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


def once_a_file(
    ask: Callable[[str | os.PathLike[str]], Answer],
) -> Callable[[str | os.PathLike[str]], Answer]:
    """Have a function of a file remember its answers, until the file's size or time is another one.

    A data set is listed for each of its splits, and its headers need not be read as often. The function raises
    OSError, too, where there is no such file.

    Args:
        ask: the function, whose answer depends on what is in the file alone.
    """

    @lru_cache(maxsize=1 << 18)
    def known(path: str, size: int, changed: int) -> Answer:
        return ask(path)

    @wraps(ask)
    def asked(path: str | os.PathLike[str]) -> Answer:
        found = os.stat(path)
        return known(os.fspath(path), found.st_size, found.st_mtime_ns)

    return asked


def array_hash(array: Any) -> str:
    """Sixteen hexadecimal digits of an array or tensor: its type, shape and values."""
    values = np.ascontiguousarray(array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array)
    return hashlib.blake2b(f"{values.dtype} {values.shape}".encode() + values.tobytes(), digest_size=8).hexdigest()


def further_fields(item: Mapping[str, Any], key: str, of_file: Callable[[str], Any]) -> str:
    """What an item holds beside its image that a transform may read, such as a mask, a box or a side; often nothing.

    Args:
        item: of a datalist.
        key: key of the image. It, the label, the image's own key and the patient are left out.
        of_file: what counts of a file.

    Example:
        >>> further_fields({"image": "a.png", "label": 1, "side": "L"}, "image", file_state)
        "side='L'"
    """
    found = {str(name): value for name, value in item.items() if value is not None}
    names = sorted(found.keys() - {key, *_NO_PIXELS})
    return "\0".join(f"{name}={_described(found[name], of_file)}" for name in names)


def _described(value: Any, of_file: Callable[[str], Any]) -> str:
    if isinstance(value, np.ndarray | torch.Tensor):
        return array_hash(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_described(value[name], of_file)}" for name in value) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_described(each, of_file) for each in value) + "]"
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        # A word that is the name of a folder by chance, such as "train", is none.
        named = not isinstance(value, str) or os.path.isabs(path) or os.path.isfile(path)
        return str(of_file(path)) if named and os.path.exists(path) else repr(path)
    return repr(value.item() if isinstance(value, np.generic) else value)


def _files(folder: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Name in the folder, and path, of each file in it, in an order of their own."""
    found = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
    yield from ((os.path.relpath(file, folder), file) for file in sorted(found))
