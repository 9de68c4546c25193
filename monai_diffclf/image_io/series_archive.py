# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A ZIP file of the slices of one DICOM series, opened as a folder; nothing that it says is trusted."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._class_names import shown
from .file_kind import has_dicom_mark, is_hidden
from .limits import CHUNK, MAX_PIXELS, byte_limit

__all__ = ["ARCHIVE_SUFFIX", "is_series_archive", "series_folder"]

ARCHIVE_SUFFIX = ".zip"
MAX_FILES = 10_000
_MAX_DIRECTORY = 2**22  # bytes of the list of files, which is read as a whole
_END, _END_SIZE, _LOCATOR, _LOCATOR_SIZE, _MAX_COMMENT = b"PK\5\6", 22, b"PK\6\7", 20, 2**16 - 1


def is_series_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file is taken as a ZIP file of slices: by its name, as other files begin as ZIP files do."""
    return os.fspath(path).lower().endswith(ARCHIVE_SUFFIX) and os.path.isfile(path)


@contextmanager
def series_folder(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Iterator[Path]:
    """The path as it is; of a ZIP file a temporary folder with its DICOM files, which goes afterwards.

    Before anything is unpacked the list of its files is checked: their number (10,000 at most), the sum of the sizes
    that it states (`byte_limit`), names that lead elsewhere, links, encryption, other methods than deflate, ZIP64. Each
    file is then unpacked up to the size stated, under a name of ours, and has to be DICOM: so archives in archives and
    anything else are refused. DICOMDIR, folders and hidden files, such as of ``__MACOSX``, are left out.

    Args:
        path: a folder, a file, or a ZIP file.
        max_pixels: most voxels that the series may have.

    Raises:
        ValueError: naming what is wrong with the ZIP file.
    """
    if not is_series_archive(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="series_") as made:
        folder = Path(made, Path(path).name)  # so that warnings about it say which
        folder.mkdir()
        try:
            _check_directory(Path(path))
            with zipfile.ZipFile(path) as archive:
                _unpack(archive, folder, byte_limit(max_pixels))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"the ZIP file is damaged: {error}; make it again") from error
        try:
            yield folder
        except ValueError as error:
            raise ValueError(str(error).replace(str(folder), os.fspath(path))) from error


def _check_directory(path: Path) -> None:
    """Refuse, by the record at its end, a file that is no ZIP, or whose list of files would take long to read."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _MAX_COMMENT - _END_SIZE - _LOCATOR_SIZE))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        raise ValueError("expected a ZIP file, got one that is none, or is cut off")
    if tail[max(0, at - _LOCATOR_SIZE) :].startswith(_LOCATOR):
        raise ValueError("expected a ZIP file of less than 4 GB and 65,535 files, got a ZIP64 file; unpack it")
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    if length > _MAX_DIRECTORY:
        raise ValueError(f"expected at most {MAX_FILES:,} files in the ZIP file, got a list of {length:,} bytes")


def _unpack(archive: zipfile.ZipFile, folder: Path, max_bytes: int) -> None:
    """Write its DICOM files into a folder."""
    entries = archive.infolist()
    if len(entries) > MAX_FILES:
        raise ValueError(f"expected at most {MAX_FILES:,} files in the ZIP file, got {len(entries):,}")
    for entry in entries:
        if reason := _why_not(entry):
            raise ValueError(
                f"expected plain DICOM files in the ZIP file, got {shown(entry.orig_filename)!r}: {reason}"
            )
    wanted = [entry for entry in entries if not _is_left_out(entry)]
    total = sum(entry.file_size for entry in wanted)
    if total > max_bytes:
        raise ValueError(
            f"expected at most {max_bytes:,} bytes in the ZIP file, got {total:,}; allow more with max_pixels"
        )
    if not wanted:
        raise ValueError("expected the slices of one DICOM series in the ZIP file, got no files")
    for number, entry in enumerate(wanted, start=1):
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", Path(entry.filename).stem)[:40]
        target = folder / f"{number:05d}_{plain}.dcm"
        # It ends at the size stated, and refuses content whose checksum is another.
        with archive.open(entry) as content, target.open("wb") as file:
            while piece := content.read(CHUNK):
                file.write(piece)
        if not has_dicom_mark(target):
            raise ValueError(
                f"expected the slices of one DICOM series alone in the ZIP file, got {shown(entry.orig_filename)!r}, "
                "which is no DICOM file; take it out, and unpack archives that are in it"
            )


def _why_not(entry: zipfile.ZipInfo) -> str:
    """What is wrong with a file's entry in the list; empty if nothing is."""
    name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
    for wrong, reason in (
        (name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name), "its name is a path from a root"),
        (".." in name.split("/"), "its name leads out of the folder"),
        (not name.isprintable() or not name, "its name holds a control character"),
        (kind not in (0, stat.S_IFREG, stat.S_IFDIR), "it is a link or no file"),
        (entry.flag_bits & 1, "it is encrypted"),
        (entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), "it is packed in another way"),
    ):
        if wrong:
            return reason
    return ""


def _is_left_out(entry: zipfile.ZipInfo) -> bool:
    parts = entry.filename.rstrip("/").split("/")
    return entry.is_dir() or parts[-1].upper() == "DICOMDIR" or any(is_hidden(part) for part in parts)
