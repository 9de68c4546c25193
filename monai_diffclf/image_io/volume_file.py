# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Volumes in their own units and axes: NIfTI, a DICOM series as a folder, DICOM of several frames, NRRD."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .._checks import check_integer
from .dicom_volume import open_dicom_volume
from .doubts import doubt
from .file_kind import DICOM_SUFFIXES, NIFTI_SUFFIXES, NRRD_SUFFIXES, kind_of
from .image_files import cause
from .image_grid import ImageGrid
from .limits import MAX_PIXELS, byte_limit, check_pixel_count, read_bytes
from .nifti_file import open_nifti, orientation_doubts
from .nrrd_file import read_nrrd, read_nrrd_header
from .pixel_values import check_finite
from .series_archive import series_folder

__all__ = ["Volume", "read_volume_file", "read_volume_grid"]

Found = TypeVar("Found")

_NIFTI_LENGTHS = {0: "unknown", 1: "meter", 2: "mm", 3: "micron"}
_AS_STORED = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
# DICOM counts x towards the patient's left and y towards the back, NIfTI towards the right and the front.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Volume(NamedTuple):
    """A volume as its file has it.

    Args:
        values: float32 [X, Y, Z] in the file's units: Hounsfield units of CT.
        grid: where its voxels lie; its affine leads from (x, y, z) to millimetres, RAS.
    """

    values: npt.NDArray[np.float32]
    grid: ImageGrid


def read_volume_file(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Volume:
    """A volume: NIfTI (of one time point), a folder of the slices of a DICOM series, a DICOM file of several frames.

    A ZIP file of such slices too (`series_folder`), and NRRD, where pynrrd is installed. The values are those that the
    file means, by its slope and intercept, without a window; the axes are those of the file, of DICOM the columns, rows
    and slices in the order of their positions.

    Args:
        path: the file, or the folder.
        max_pixels: most voxels that are decoded.

    Raises:
        ValueError: naming the path and the cause, when there is no volume, it is a plane, is damaged or too large, does
            not say where its voxels lie, has NaN or infinite values, or is a series that is not one volume, see
            `monai_diffclf.image_io.slice_stack.stack_slices`.

    Warns:
        UserWarning: naming what could not be decided.
    """
    volume = _opened(path, max_pixels, _READ)
    check_finite(volume.values, f"{os.fspath(path)}: ")
    return volume


def read_volume_grid(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> ImageGrid:
    """Where the voxels of such a volume lie, by its headers alone; raises as `read_volume_file`."""
    return _opened(path, max_pixels, _GRID)


def _opened(
    path: str | os.PathLike[str], max_pixels: int, readers: Mapping[str, Callable[[Path, int], Found]]
) -> Found:
    path = Path(path)
    check_integer(max_pixels, "max_pixels")
    if not path.exists():
        raise ValueError(f"{path}: expected a volume, but there is none")
    try:
        with series_folder(path, max_pixels=max_pixels) as found:
            return readers[_kind(found)](found, max_pixels)
    except Exception as error:
        # Readers raise whatever they meet: one kind, one line for the user.
        raise ValueError(f"{path}: cannot be read as a volume: {cause(error)}") from error


def _kind(path: Path) -> str:
    if path.is_dir():
        return "DICOM"
    if path.stat().st_size == 0:
        raise ValueError("it is empty (0 bytes)")
    kind, name = kind_of(path), path.name.lower()
    for known, suffixes in (("NIfTI", NIFTI_SUFFIXES), ("DICOM", DICOM_SUFFIXES), ("NRRD", NRRD_SUFFIXES)):
        if kind == known or (kind is None and name.endswith(suffixes)):
            return known
    what = "a file of an unknown kind" if kind is None else f"a plane image ({kind})"
    raise ValueError(f"expected NIfTI, NRRD or DICOM (a folder or ZIP of slices, or several frames), got {what}")


def _nifti_grid(path: Path, max_pixels: int) -> ImageGrid:
    file = open_nifti(path)
    if np.issubdtype(file.get_data_dtype(), np.complexfloating) or file.get_data_dtype().names:
        raise ValueError(f"expected real grey values, got {file.get_data_dtype()}; write a grey volume")
    shape = tuple(int(n) for n in file.shape)
    check_pixel_count(shape, max_pixels)
    if any(size != 1 for size in shape[3:]):
        count = next(size for size in shape[3:] if size != 1)
        what = "time point" if shape[3] != 1 else "value for each voxel"  # the fifth axis is that of vectors
        raise ValueError(f"expected one {what}, got {count} in an array {list(shape)}; save one as a file")
    if len(shape) < 3 or 1 in shape[:3]:
        raise ValueError(f"expected a volume, got a plane image {list(shape)}; give the whole scan")
    _check_nifti_affine(file)
    doubts = orientation_doubts(file)
    for text in doubts:
        doubt(path, text)
    return ImageGrid(np.asarray(file.affine, dtype=np.float64), _AS_STORED, shape[:3], file.header, doubts=doubts)


def _check_nifti_affine(file: Any) -> None:
    """Refuse what does not say where voxels lie, or how large they are."""
    header = file.header
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        raise ValueError(
            "expected an orientation, got none (sform_code and qform_code are 0); write the scan's own affine with "
            "nibabel's set_sform(affine, code=1), or convert the DICOM series again"
        )
    unit = _NIFTI_LENGTHS.get(int(header["xyzt_units"]) & 7, "another unit")
    if unit not in ("unknown", "mm"):
        raise ValueError(
            f"expected an affine in millimetres, got lengths in {unit} (xyzt_units); write it in millimetres, and say "
            "so by nibabel's header.set_xyzt_units('mm')"
        )
    affine = np.asarray(file.affine, dtype=np.float64)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise ValueError(
            f"expected an affine with a spacing and a direction for each axis, got {affine[:3].round(4).tolist()}; "
            "write the scan's own"
        )


def _read_nifti(path: Path, max_pixels: int) -> Volume:
    grid = _nifti_grid(path, max_pixels)
    content = read_bytes(path, byte_limit(max_pixels))  # refuses what unpacks to more
    file = type(open_nifti(path)).from_bytes(content)
    values = file.get_fdata(dtype=np.float32, caching="unchanged")
    return Volume(values.reshape(grid.shape), grid)


def _dicom_grid(path: Path, max_pixels: int) -> ImageGrid:
    volume = open_dicom_volume(path, max_pixels=max_pixels)
    affine = np.asarray(_LPS_TO_RAS @ volume.stack.affine)
    return ImageGrid(affine, _AS_STORED, volume.shape, doubts=volume.stack.doubts)


def _read_dicom(path: Path, max_pixels: int) -> Volume:
    volume = open_dicom_volume(path, max_pixels=max_pixels)
    for text in volume.stack.doubts:
        doubt(path, text)
    affine = np.asarray(_LPS_TO_RAS @ volume.stack.affine)
    return Volume(volume.values(), ImageGrid(affine, _AS_STORED, volume.shape, doubts=volume.stack.doubts))


def _nrrd_grid(path: Path, max_pixels: int) -> ImageGrid:
    header = read_nrrd_header(path, max_pixels=max_pixels)
    return ImageGrid(header.affine, _AS_STORED, header.shape)


def _read_nrrd(path: Path, max_pixels: int) -> Volume:
    values, header = read_nrrd(path, max_pixels=max_pixels)
    return Volume(values, ImageGrid(header.affine, _AS_STORED, header.shape))


_READ = {"NIfTI": _read_nifti, "DICOM": _read_dicom, "NRRD": _read_nrrd}
_GRID = {"NIfTI": _nifti_grid, "DICOM": _dicom_grid, "NRRD": _nrrd_grid}
