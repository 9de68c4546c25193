# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What comes with a request: files, kept for as long as it is served, and parameters as JSON."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException, UploadFile

from ..image_io.file_kind import DICOM_SUFFIXES, NIFTI_SUFFIXES, NRRD_SUFFIXES, PICTURE_SUFFIXES, kind_of
from ..image_io.series_archive import ARCHIVE_SUFFIX
from .names import last_part

__all__ = ["IMAGE_SUFFIXES", "LABEL_SUFFIXES", "SCAN_SUFFIXES", "parse_params", "received", "split_suffix"]

IMAGE_SUFFIXES = (*PICTURE_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES, *NRRD_SUFFIXES)
SCAN_SUFFIXES = (*IMAGE_SUFFIXES, ARCHIVE_SUFFIX)  # a ZIP of the slices of a series too
LABEL_SUFFIXES = (".json", ".nii.gz", ".nii", ".nrrd")
RESERVED_INFO = ("name", "path", "ts", "checksum", "strategy", "diffusion_classifier", "reading")
MAX_PARAMS = 100_000  # characters


def split_suffix(name: str, suffixes: Sequence[str]) -> tuple[str, str]:
    """A file name without its suffix, and the suffix as it is written, which is empty if it is none of those.

    Example:
        >>> split_suffix("a.b.NII.gz", IMAGE_SUFFIXES), split_suffix("a.exe", IMAGE_SUFFIXES)
        (('a.b', '.NII.gz'), ('a.exe', ''))
    """
    for suffix in sorted(suffixes, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    return name, ""


@contextmanager
def received(upload: UploadFile, suffixes: Sequence[str], what: str) -> Iterator[tuple[Path, str]]:
    """An uploaded file in a temporary folder of its own, which goes whatever happens.

    Args:
        upload: the upload.
        suffixes: what its name may end with. An image may also be a DICOM file without a suffix; a ZIP file is opened
            by the bundle that reads it (:func:`monai_diffclf.image_io.series_archive.series_folder`).
        what: name of the form's field, for the message.

    Yields:
        the file, and the name that the client gave it, without suffix.

    Raises:
        HTTPException: 422 when its name or content is not that of such a file.
    """
    images = suffixes in (IMAGE_SUFFIXES, SCAN_SUFFIXES)
    try:
        stem, suffix = split_suffix(last_part(upload.filename or "", what), suffixes)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    if not suffix and not images:
        raise HTTPException(422, f"{what}: expected a name that ends with one of {list(suffixes)}")
    with tempfile.TemporaryDirectory(prefix="upload_") as folder:
        # Nothing of the client's name is used but a suffix from our own list.
        file = Path(folder, f"{what}{suffix.lower()}")
        with open(file, "wb") as target:
            shutil.copyfileobj(upload.file, target)
        if images and suffix.lower() != ARCHIVE_SUFFIX:
            file = _check_image(file, what)
        yield file, stem


def _check_image(file: Path, what: str) -> Path:
    """An image that is one by its first bytes; a DICOM file gets its suffix if it has none."""
    kind = kind_of(file)
    if not file.suffix and kind != "DICOM":
        raise HTTPException(422, f"{what}: expected an image, a name that ends with one of {list(IMAGE_SUFFIXES)}")
    if kind is None:
        raise HTTPException(422, f"{what}: cannot be read as an image: its content is of no kind that is known here")
    return file if file.suffix else file.rename(file.with_suffix(".dcm"))


def parse_params(text: str | None, what: str) -> dict[str, Any]:
    """Parameters from JSON.

    Raises:
        HTTPException: 422 when it is no JSON object, or too long.
    """
    if not text:
        return {}
    if len(text) > MAX_PARAMS:
        raise HTTPException(422, f"{what}: expected at most {MAX_PARAMS:,} characters, got {len(text):,}")
    try:
        params = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"{what}: expected JSON, but it cannot be read: {error}") from error
    if not isinstance(params, dict):
        raise HTTPException(422, f"{what}: expected a JSON object, got {type(params).__name__}")
    return params


def parse_info(text: str | None, what: str) -> dict[str, Any]:
    """What a client wants to have stored with an image or label.

    Raises:
        HTTPException: 422 when it would replace what the server itself keeps there: clients take paths from it.
    """
    info = parse_params(text, what)
    if taken := sorted(info.keys() & set(RESERVED_INFO)):
        raise HTTPException(422, f"{what}: {taken} are the server's own; use other names")
    return info


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
