# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The transforms that read a volume in its own units and axes, for MONAI's transforms to go on with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform
from monai.utils import MetaKeys, SpaceKeys

from .._checks import check_integer
from .doubts import as_text, collect_doubts
from .image_grid import ImageGrid
from .image_quality import image_warnings
from .limits import MAX_PIXELS
from .pixel_values import check_finite
from .read_items import ReadItems
from .volume_file import read_volume_file, read_volume_grid

__all__ = ["ReadVolume", "ReadVolumed"]

Source = str | os.PathLike[str] | npt.NDArray[Any] | torch.Tensor


class ReadVolume(InvertibleTransform):
    """Read a volume as a float32 MetaTensor ``[1, X, Y, Z]`` with the affine of its file, as MONAI's readers give it.

    NIfTI, a DICOM series as a folder, DICOM of several frames, NRRD; see `read_volume_file`. Values are in the file's
    units (Hounsfield units of CT), axes as the file has them: `Orientation`, `Spacing` and `ScaleIntensityRange` of
    MONAI go on from there, and their inverses bring a map back to the file's own space.

    MONAI's `LoadImage` reads such files too, but makes a volume of a series with a missing slice or of several
    acquisitions without a word, and tries one reader after the other.

    Args:
        min_extent: millimetres that a volume must cover along its axes at least, to the nearest of the directions to
            the right, front and head [3]; None for any. Set it to what the network needs.
        max_pixels: most voxels that a file may hold.

    Raises:
        ValueError: naming the volume: it is a plane image, does not say where its voxels lie, covers less than
            `min_extent`, or cannot be read.

    Example:
        >>> volume = ReadVolume()(np.zeros((8, 9, 10), np.int16), name="empty")
        >>> volume.shape, volume.pixdim.tolist(), volume.meta["warnings"]
        (torch.Size([1, 8, 9, 10]), [1.0, 1.0, 1.0], 'every pixel has the same value, 0')
    """

    spatial_dims = 3

    def __init__(self, *, min_extent: Sequence[float] | None = None, max_pixels: int = MAX_PIXELS) -> None:
        if min_extent is not None and (len(min_extent) != 3 or not all(0 <= n < np.inf for n in min_extent)):
            raise ValueError(
                f"min_extent: expected None or three lengths in mm, such as [40, 40, 40], got {min_extent!r}"
            )
        self.min_extent = None if min_extent is None else tuple(float(n) for n in min_extent)
        self.max_pixels = check_integer(max_pixels, "max_pixels")

    def __call__(self, image: Source, *, name: str = "") -> MetaTensor:
        """Read one volume.

        Args:
            image: path of a file or folder, or an array [X, Y, Z] or [1, X, Y, Z] of real numbers, whose axes point to
                the right, the front and the head with voxels of 1 mm, unless it is a MetaTensor with an affine.
            name: what to call an array in messages and in the metadata; a file is called by its path.

        Returns:
            MetaTensor ``[1, X, Y, Z]``; its metadata are those of MONAI's readers, and ``warnings``: what may be wrong
            with the volume, or could not be decided about its file, "" if nothing.
        """
        doubts = list[str]()
        if isinstance(image, str | os.PathLike):
            name = os.fspath(image)
            with collect_doubts() as doubts:
                values, grid = read_volume_file(image, max_pixels=self.max_pixels)
            affine = grid.affine
        else:
            name = name or "image (array)"
            values, affine = _from_array(image, name)
        self._check_extent(values.shape, affine, name)
        doubts = [*doubts, *image_warnings(values[..., None])]
        meta = {
            "filename_or_obj": name,
            MetaKeys.SPATIAL_SHAPE: np.asarray(values.shape),
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
            MetaKeys.SPACE: SpaceKeys.RAS,
            "warnings": as_text(doubts),
        }
        volume = MetaTensor(
            torch.from_numpy(np.ascontiguousarray(values))[None], affine=torch.from_numpy(affine), meta=meta
        )
        self.push_transform(volume)
        return volume

    def grid(self, path: str | os.PathLike[str]) -> ImageGrid:
        """Where the voxels of a file or folder lie."""
        return read_volume_grid(path, max_pixels=self.max_pixels)

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """A map ``[1, X, Y, Z]`` with the trace of its volume, once all later transforms are undone: as it is."""
        if isinstance(data, MetaTensor) and data.applied_operations:
            self.pop_transform(data)
        return data

    def _check_extent(self, shape: tuple[int, ...], affine: npt.NDArray[np.float64], name: str) -> None:
        if self.min_extent is None:
            return
        steps = np.abs(affine[:3, :3]) * np.asarray(shape)
        axes = steps.argmax(axis=1)
        covered = [float(steps[row, axis]) for row, axis in enumerate(axes)]
        if any(have < want - 1e-3 for have, want in zip(covered, self.min_extent, strict=True)):
            raise ValueError(
                f"{name}: expected a volume that covers at least {_mm(self.min_extent)} (left to right, back to front, "
                f"feet to head), what the network needs, got {_mm(covered)}; give the whole scan"
            )


class ReadVolumed(ReadItems):
    """Dictionary-based `ReadVolume`; an item's "key", where it has one, names a volume that is given as an array.

    Args:
        keys: the keys of the volumes in the item.
        min_extent: see `ReadVolume`.
        max_pixels: see `ReadVolume`.
        allow_missing_keys: leave out a key that the item lacks instead of raising.

    Example:
        >>> from monai.transforms import Compose, Orientationd, ScaleIntensityRanged, Spacingd
        >>> preprocessing = Compose([
        ...     ReadVolumed("image"),
        ...     Orientationd("image", axcodes="RAS", labels=None),
        ...     Spacingd("image", pixdim=(2.0, 2.0, 2.0), padding_mode="border"),
        ...     ScaleIntensityRanged("image", a_min=-1000, a_max=1000, b_min=-1, b_max=1, clip=True),
        ... ])
        >>> tuple(preprocessing({"image": np.zeros((8, 8, 9), np.int16)})["image"].shape)
        (1, 4, 4, 5)
    """

    read: ReadVolume

    def __init__(
        self,
        keys: KeysCollection,
        *,
        min_extent: Sequence[float] | None = None,
        max_pixels: int = MAX_PIXELS,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.read = ReadVolume(min_extent=min_extent, max_pixels=max_pixels)


def _from_array(image: Any, name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise TypeError(f"{name}: expected a path, an array or a tensor, got {type(image).__name__}")
    affine = np.asarray(image.affine, dtype=np.float64) if isinstance(image, MetaTensor) else np.eye(4)
    array = np.asarray(image)
    shape = list(array.shape)
    array = array[0] if array.ndim == 4 and len(array) == 1 else array
    if array.ndim != 3 or min(array.shape) < 2 or affine.shape != (4, 4):
        raise ValueError(
            f"{name}: expected a volume [X, Y, Z] or [1, X, Y, Z], got {'a plane ' * (len(shape) < 3)}{shape}"
        )
    if np.iscomplexobj(array) or array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected real numbers, got {array.dtype}")
    values = np.asarray(array, dtype=np.float32)
    check_finite(values, f"{name}: ")
    return values, affine.copy()


def _mm(lengths: Sequence[float]) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths) + " mm"
