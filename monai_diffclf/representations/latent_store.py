# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Latents on disk: appended as they are made, found again by their images."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..networks.model_description import differences
from ..storage.atomic_file import replace_text
from ..storage.folder_lock import FolderLock

__all__ = ["LatentStore"]

_HEADER = "image,state,crc32\n"
_FLOAT = np.dtype("<f4")


class LatentStore:
    """A folder of latents: blocks of V x D x grid float32 values, one an image, appended.

    It holds ``latents.json`` (what makes the latents, and the shape of a block), ``images.csv`` (name and state of each
    image, as hashes, and the CRC-32 of its block) and ``latents.f32`` (the blocks, little-endian). Blocks that a kill
    cut off or a fault of the disk changed count as not there.

    Args:
        folder: the folder, made if absent.
        provenance: names and JSON values of all that the latents depend on besides their images.

    Raises:
        ValueError: when the folder holds latents that were made otherwise.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = LatentStore(folder, {"space": "a"})
        ...     with store.filling():
        ...         store.append(["one"], ["1"], torch.ones(1, 2, 3))
        ...     store.state("one"), store.state("two"), store.blocks(["one"]).shape
        ('1', None, (1, 2, 3))
    """

    def __init__(self, folder: str | os.PathLike[str], provenance: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.provenance = json.loads(json.dumps(provenance))
        self.shape: tuple[int, ...] = ()
        self._place: dict[str, tuple[int, str]] = {}
        self._rows = 0
        self.read()

    def filling(self) -> FolderLock:
        """A lock of the folder, to be held while latents are appended: one process does it at a time."""
        return FolderLock(self.folder)

    def state(self, name: str) -> str | None:
        """The state in which an image was when its latents were made; None where there are none."""
        return self._place[name][1] if name in self._place else None

    def blocks(self, names: Sequence[str]) -> _Blocks:
        """The blocks of some images, in their order; read when they are asked for."""
        return _Blocks(self._data, self.shape, [self._place[name][0] for name in names])

    def append(self, names: Sequence[str], states: Sequence[str], latents: torch.Tensor) -> None:
        """Add the latents [n, ...] of n images.

        Raises:
            ValueError: when they have another shape than those that are there.
        """
        values = latents.detach().cpu().numpy().astype(_FLOAT)
        if not self.shape:
            self.shape = values.shape[1:]
            self._data.unlink(missing_ok=True)  # of a store whose other files are gone
            replace_text(self._header, json.dumps({"made_with": self.provenance, "shape": list(self.shape)}, indent=1))
            self._table.write_text(_HEADER, encoding="utf-8")
        if values.shape[1:] != self.shape:
            raise ValueError(
                f"latents: expected the shape {list(self.shape)} an image as in {self.folder}, got "
                f"{list(values.shape[1:])}; give all images one size"
            )
        blocks = [block.tobytes() for block in values]
        with self._data.open("ab") as file:
            file.write(b"".join(blocks))
        with self._table.open("a", encoding="utf-8") as table:
            for name, state, block in zip(names, states, blocks, strict=True):
                table.write(f"{name},{state},{zlib.crc32(block)}\n")
        for name, state in zip(names, states, strict=True):
            self._place[name] = (self._rows, state)
            self._rows += 1

    def read(self, *, repair: bool = False) -> None:
        """See what is there.

        Args:
            repair: cut off what a kill left behind; while the lock is held.
        """
        self.shape, self._place, self._rows = (), {}, 0
        if not self._header.is_file() or not self._table.is_file():
            return
        header = self._read_header()
        if header["made_with"] != self.provenance:
            what = differences(self.provenance, header["made_with"], of_one_run=True) or [
                f"{_only_one_says(self.provenance, header['made_with'])}: only one of them says it; latents of an "
                "earlier version say less"
            ]
            raise ValueError(
                f"cache_dir: expected latents made with these settings in {self.folder}, got others ({what[0]}); name "
                "another folder, or remove this one"
            )
        self.shape = tuple(header["shape"])
        rows = [
            line.split(",")
            for line in self._table.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[1:]
        ]
        rows = [row for row in rows if len(row) == 3 and row[2].endswith("\n")]
        size = self._data.stat().st_size if self._data.is_file() else 0
        self._rows = min(len(rows), size // self._bytes)
        data = _map(self._data, self._rows, self.shape)
        for place, (name, state, crc) in enumerate(rows[: self._rows]):
            if str(zlib.crc32(data[place].tobytes())) == crc.strip():
                self._place[name] = (place, state)
        if repair:
            replace_text(self._table, _HEADER + "".join(",".join(row) for row in rows[: self._rows]))
            if size > self._rows * self._bytes:
                os.truncate(self._data, self._rows * self._bytes)

    def _read_header(self) -> dict[str, Any]:
        try:
            header: dict[str, Any] = json.loads(self._header.read_text(encoding="utf-8"))
            tuple(header["shape"])
            dict(header["made_with"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"cache_dir: expected JSON that says how latents were made in {self._header}, got something else "
                f"({error}); remove {self.folder}, or name another folder"
            ) from None
        return header

    @property
    def _bytes(self) -> int:
        return _FLOAT.itemsize * int(np.prod(self.shape))

    @property
    def _header(self) -> Path:
        return self.folder / "latents.json"

    @property
    def _table(self) -> Path:
        return self.folder / "images.csv"

    @property
    def _data(self) -> Path:
        return self.folder / "latents.f32"


def _only_one_says(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first name that only one of two descriptions has, or has a value for."""
    for name in [*one, *other]:
        mine, yours = one.get(name), other.get(name)
        if mine == yours and name in one and name in other:
            continue
        if isinstance(mine, Mapping) and isinstance(yours, Mapping) and mine and yours:
            return f"{name} {_only_one_says(mine, yours)}"
        return name
    return "settings"


class _Blocks:
    """Blocks of a file as a sequence of arrays; a process that gets a copy opens the file itself."""

    def __init__(self, path: Path, shape: tuple[int, ...], places: Sequence[int]) -> None:
        self.path, self.places = path, list(places)
        self.shape = (len(self.places), *shape)
        self._file: NDArray[np.float32] | None = None

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        if self._file is None:
            self._file = _map(self.path, max(self.places, default=-1) + 1, self.shape[1:])
        block: NDArray[np.float32] = self._file[self.places[index]]
        return block

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


def _map(path: Path, rows: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The first rows of a file of blocks, without reading them."""
    if rows == 0:
        return np.zeros((0, *shape), dtype=_FLOAT)
    return np.memmap(path, dtype=_FLOAT, mode="r", shape=(rows, *shape))
