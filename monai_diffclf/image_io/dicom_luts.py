# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Lookup tables of DICOM images, in whichever of the many ways they are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut

from .dicom_header import field, value_of

__all__ = ["Table", "read_table"]


@dataclass(frozen=True)
class Table:
    """A lookup table.

    Args:
        name: keyword of the sequence that holds it.
        entries: its values [N].
        first: the input that the first entry is for; inputs below it take the first entry, those beyond the last one
            take the last.
        bits: an entry may take values from 0 to 2^bits - 1.
    """

    name: str
    entries: npt.NDArray[np.uint16]
    first: int
    bits: int

    @property
    def highest(self) -> float:
        """The largest value that an entry may take."""
        return 2.0**self.bits - 1

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Look values up; fractions are cut off, as DCMTK does. PS3.3, C.11.1.1 and C.11.2.1.1."""
        item = Dataset()
        item.LUTDescriptor = [len(self.entries) % 2**16, self.first, 16]
        item.add_new("LUTData", "US", self.entries.tolist())
        lut = Dataset()
        lut.ModalityLUTSequence = [item]
        return np.asarray(apply_modality_lut(values.astype(np.int64), lut))

    def warn_if_dark(self, warn: Callable[[str], None]) -> None:
        """Warn of a table that says it has more bits than its entries use, so that the image is dark."""
        used = int(self.entries.max())
        if used <= self.highest / 2:
            warn(
                f"{field(self.name)}: the third value of {field('LUTDescriptor')} says {self.bits} bits, but "
                f"{field('LUTData')} holds no value above {used} ({used.bit_length()} bits), so the image is dark; "
                "correct the descriptor if the table is meant to reach white"
            )


def read_table(
    dataset: Any, name: str, inputs: tuple[float, float], *, big_endian: bool, warn: Callable[[str], None]
) -> Table | None:
    """The first lookup table of a sequence, or None where the sequence is absent or empty.

    The number of bits need not be 8 or 16, and 8 bits may be stored one or two to a word of 16.

    Args:
        dataset: the data set with the sequence.
        name: keyword of the sequence.
        inputs: the least and greatest input that can come; says whether the first mapped value is signed.
        big_endian: byte order of the file.
        warn: is given the text of each warning.

    Raises:
        ValueError: naming the tags, when descriptor or data are missing or contradict each other.
    """
    sequence = value_of(dataset, name)
    if sequence is None:
        return None
    descriptor, data = (value_of(sequence[0], tag) for tag in ("LUTDescriptor", "LUTData"))
    if descriptor is None or data is None:
        raise ValueError(
            f"{field(name)} declares a lookup table, but {field('LUTDescriptor')} or {field('LUTData')} is missing"
        )
    if isinstance(descriptor, str | bytes) or len(descriptor) != 3:
        raise ValueError(f"{field(name)}: expected three values in {field('LUTDescriptor')}, got {descriptor}")
    count, first, bits = (int(value) for value in descriptor)
    count = count % 2**16 or 2**16
    if not 1 <= bits <= 16:
        raise ValueError(f"{field(name)}: expected 8 to 16 bits in {field('LUTDescriptor')}, got {bits}")
    words = _words(data, big_endian)
    if len(words) == (count + 1) // 2 and len(words) < count and bits <= 8:
        words = np.stack([words & 255, words >> 8], axis=-1).reshape(-1)[:count]
    if len(words) < count:
        raise ValueError(
            f"{field(name)}: expected {count} entries as {field('LUTDescriptor')} says, got {len(words)} in "
            f"{field('LUTData')}"
        )
    if len(words) > count:
        warn(
            f"{field(name)}: {field('LUTDescriptor')} says {count} entries, {field('LUTData')} has {len(words)}; "
            "all of them are used"
        )
    if int(words.max()) >= 2**bits:
        raise ValueError(
            f"{field(name)}: expected entries of {bits} bits as {field('LUTDescriptor')} says, got "
            f"{int(words.max())} in {field('LUTData')}"
        )
    return Table(name, words, _first_mapped(first, inputs), bits)


def _words(data: Any, big_endian: bool) -> npt.NDArray[np.uint16]:
    if isinstance(data, bytes):
        return np.frombuffer(data[: len(data) // 2 * 2], dtype=">u2" if big_endian else "<u2").astype(np.uint16)
    return (np.atleast_1d(np.asarray(data, dtype=np.int64)) % 2**16).astype(np.uint16)


def _first_mapped(first: int, inputs: tuple[float, float]) -> int:
    """The first mapped value has 16 bits; whether they are signed follows from what they are compared to."""
    low, high = inputs
    if first >= 2**15 and low < 0:
        return first - 2**16
    return first + 2**16 if first < 0 and low >= 0 and high >= 2**15 else first
