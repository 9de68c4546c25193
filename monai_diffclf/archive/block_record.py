# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is known of the images of a block, as one file: complete, or not there."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..report.case_record import CaseRecord
from ..storage.atomic_file import replaced

__all__ = ["BlockRecord", "RankedCase", "write_block"]

_ABOUT, _CASES, _ERRORS, _MAPS, _DICOM = "block.json", "cases.json", "errors.npy", "maps/", "dicom/"


@dataclass(frozen=True)
class RankedCase:
    """An image that the report may show.

    Args:
        unsureness: how unsure it is.
        place: its place in the archive.
        record: what is shown of it.
    """

    unsureness: float
    place: int
    record: CaseRecord


@dataclass
class BlockRecord:
    """The results of a block of images.

    Args:
        plan: fingerprint of the plan.
        number: number of the block.
        rows: a row of the table for each image, in their order.
        cases: images that the report may show.
        maps: name of each file of a map -> its content.
        errors: errors of the images that were classified [n, K, N], where the test of a shift asks for them.
        dicom: name of each DICOM file -> its content.
        faults: name of each image of which no DICOM files could be made -> why.
    """

    plan: str
    number: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    cases: list[RankedCase] = field(default_factory=list)
    maps: dict[str, bytes] = field(default_factory=dict)
    errors: NDArray[np.float32] | None = None
    dicom: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def pack(self) -> bytes:
        """The record as a ZIP file, whose parts have checksums."""
        parts = {_ABOUT: _json({name: getattr(self, name) for name in ("plan", "number", "rows", "faults")})}
        cases = [[case.unsureness, case.place, vars(case.record)] for case in self.cases]
        parts[_CASES] = _json(cases)
        if self.errors is not None:
            parts[_ERRORS] = _array(self.errors)
        parts |= {_MAPS + name: content for name, content in self.maps.items()}
        parts |= {_DICOM + name: content for name, content in self.dicom.items()}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name, content in parts.items():
                # With a date of its own a part is the same whenever it is written; maps are compressed already.
                kind = zipfile.ZIP_STORED if name.startswith((_MAPS, _DICOM)) else zipfile.ZIP_DEFLATED
                file.writestr(zipfile.ZipInfo(name), content, compress_type=kind)
        return buffer.getvalue()

    @classmethod
    def read(cls, path: str | os.PathLike[str], plan: str, number: int) -> BlockRecord | None:
        """The record of a block; None when there is none, it is damaged, or it is another one's."""
        try:
            with zipfile.ZipFile(path) as file:
                parts: Mapping[str, bytes] = {name: file.read(name) for name in file.namelist()}
            about = json.loads(parts[_ABOUT])
            cases = [RankedCase(unsure, place, CaseRecord(**case)) for unsure, place, case in json.loads(parts[_CASES])]
            errors = np.load(io.BytesIO(parts[_ERRORS]), allow_pickle=False) if _ERRORS in parts else None
            record = cls(about["plan"], about["number"], about["rows"], cases, errors=errors)
            record.faults = dict(about["faults"])
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError, zlib.error):
            return None
        for prefix, files in ((_MAPS, record.maps), (_DICOM, record.dicom)):
            files.update({name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)})
        return record if (record.plan, record.number) == (plan, number) else None


def write_block(folder: Path, number: int, content: bytes) -> None:
    """Write the record of a block; several processes may, with the same content.

    Raises:
        FileNotFoundError: when the folder is gone: nobody waits for the record any more.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is gone")
    with replaced(block_path(folder, number), shared=True) as temporary:
        temporary.write_bytes(content)


def block_path(folder: Path, number: int) -> Path:
    """Where the record of a block is."""
    return folder / f"{number:07d}.zip"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _array(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()
