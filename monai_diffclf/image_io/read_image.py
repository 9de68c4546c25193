# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The transforms that read an image, from a file or an array, the same way up whatever it is stored in."""

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

from .._checks import check_integer
from .crop_and_resize import CropAndResize, crop_and_resize, crop_size
from .doubts import as_text, collect_doubts
from .image_files import merge_equal_channels, read_image_file, scale_by_type
from .image_grid import PICTURE, ImageGrid, read_grid
from .image_quality import image_warnings
from .limits import MAX_PIXELS
from .read_items import ReadItems

__all__ = ["ReadImage", "ReadImaged", "crop_and_resize", "crop_size"]


class ReadImage(InvertibleTransform):
    """Read an image as a float32 MetaTensor ``[C, H, W]`` with values in [0, 1], upright as a viewer shows it.

    MONAI's `LoadImage` transposes PNG and DICOM, applies no window and leaves MONOCHROME1 as it is; this transform
    gives the same tensor for the same picture from an array and from any file (see `read_image_file` for each format).

    The tensor knows where it lies: its affine leads from (row, column, slice) to millimetres, RAS, as ITK places the
    file (see `read_grid`), and follows cropping and resizing; an array lies where a picture does. `inverse` brings a
    map on the network's grid back to the upright image in the file's own size, as do `Compose.inverse` and `Invertd`.

    Args:
        spatial_size: expected ``[H, W]``, or ``[H, W, D]`` for volumes; one number means a square.
        channels: expected number of channels, 1 or 3. Colour never becomes grey unasked, except that an image
            whose three channels are equal everywhere is grey (X-rays are often saved so).
        resize: what to do with an image of another size, or whose pixels are not square in the plane. False: it is an
            error. True: its centre is cropped to the aspect ratio of `spatial_size` in millimetres, then resized
            (bilinear, antialiased), so that circles are round. The distance of slices plays no part.
        max_pixels: most pixels that a file may hold, see `read_image_file`.
        window: values of NIfTI files that become 0 and 1, lowest first, see `read_image_file`; None for each file's
            own lowest and highest. Arrays are taken as they are.
        repeat_grey: whether a grey image is repeated as three channels where three are expected.

    Raises:
        ValueError: naming the image: it cannot be read, has NaN or infinite pixels, another number of
            channels, another size or pixels that are not square (with `resize` False), or is a volume where a plane is
            expected.

    Example:
        >>> import numpy as np
        >>> image = ReadImage([28, 28])(np.full((28, 28), 255, dtype=np.uint8), name="white")
        >>> image.shape, float(image.max()), image.meta["filename_or_obj"]
        (torch.Size([1, 28, 28]), 1.0, 'white')
    """

    def __init__(
        self,
        spatial_size: Sequence[int] | int,
        *,
        channels: int = 1,
        resize: bool = False,
        max_pixels: int = MAX_PIXELS,
        window: Sequence[float] | None = None,
        repeat_grey: bool = False,
    ) -> None:
        size = (spatial_size, spatial_size) if isinstance(spatial_size, int) else tuple(spatial_size)
        if len(size) not in (2, 3) or any(not isinstance(n, int) or n < 1 for n in size):
            raise ValueError(f"spatial_size: expected two or three positive integers, got {spatial_size!r}")
        if channels not in (1, 3):
            raise ValueError(f"channels: expected 1 (grey) or 3 (colour), got {channels!r}")
        if window is not None and not _are_rising(window):
            raise ValueError(f"window: expected None or two rising numbers, such as [-1000, 1000], got {window!r}")
        self.window = window
        self.spatial_size, self.spatial_dims = size, len(size)
        self.channels, self.repeat_grey = channels, repeat_grey
        self.resize = resize
        self.max_pixels = check_integer(max_pixels, "max_pixels")
        self._fit = CropAndResize(size)

    def __call__(
        self, image: str | os.PathLike[str] | npt.NDArray[Any] | torch.Tensor, *, name: str = ""
    ) -> MetaTensor:
        """Read one image.

        Args:
            image: path of a file, or an array ``[H, W]``, ``[H, W, 3]`` (volumes: ``[H, W, D]``, ``[H, W, D, 3]``) of
                uint8, uint16, bool, or floats in [0, 1].
            name: what to call an array in messages and in the metadata; a file is called by its path.

        Returns:
            MetaTensor ``[C, *spatial_size]``; ``meta["filename_or_obj"]`` is the path or the name,
            ``meta["spatial_shape"]`` the size before resizing, and ``meta["warnings"]`` says what may be wrong with the
            image (see `image_warnings`) or could not be decided about its file, "" if nothing.
        """
        grid, found = PICTURE, list[str]()
        if isinstance(image, str | os.PathLike):
            name = os.fspath(image)
            with collect_doubts() as found:
                array = read_image_file(image, max_pixels=self.max_pixels, window=self.window)
                grid = read_grid(image, max_pixels=self.max_pixels)
        else:
            name = name or "image (array)"
            array = self._from_array(image, name)
        array = self._check_channels(array, name)
        if array.ndim - 1 != len(self.spatial_size):
            fix = "split it into its slices or frames" if array.ndim == 4 else "give a file with several slices"
            raise ValueError(
                f"{name}: expected {len(self.spatial_size)} spatial dimensions as spatial_size "
                f"{list(self.spatial_size)} has, got {list(array.shape[:-1])}; {fix}, or change spatial_size"
            )
        shape = array.shape[:-1]
        pixel_size = grid.plane_pixel_size(shape)
        self._check_size(shape, pixel_size, name)
        doubts = [*found, *grid.doubts, *image_warnings(array, self.spatial_size)]
        meta = {"filename_or_obj": name, "spatial_shape": np.asarray(shape), "warnings": as_text(doubts)}
        tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 0)))
        located = MetaTensor(tensor, affine=torch.from_numpy(grid.upright_affine(shape)), meta=meta)
        read = self._fit(located, pixel_size)
        return read if isinstance(read, MetaTensor) else MetaTensor(read, meta=meta)  # monai.data.set_track_meta(False)

    def grid(self, path: str | os.PathLike[str]) -> ImageGrid:
        """Where the pixels of a file lie."""
        return read_grid(path, max_pixels=self.max_pixels)

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Bring a map ``[C, *spatial_size]``, with the trace of its image, back to the upright image in its own size.

        Where the image was cropped there are zeros; the affine is that of the image.
        """
        return self._fit.inverse(data)

    def _check_size(self, shape: tuple[int, ...], pixel_size: tuple[float, ...] | None, name: str) -> None:
        if self.resize:
            return
        if shape != self.spatial_size:
            raise ValueError(
                f"{name}: expected an image of size {list(self.spatial_size)} (spatial_size), got {list(shape)}; "
                "set resize=True to crop and resize it"
            )
        if pixel_size is not None:
            raise ValueError(
                f"{name}: expected square pixels, got some of {pixel_size[0]:g} x {pixel_size[1]:g} (height, width); "
                "set resize=True to resample them"
            )

    def _from_array(self, image: Any, name: str) -> npt.NDArray[np.float32]:
        if not isinstance(image, np.ndarray | torch.Tensor):
            raise TypeError(f"{name}: expected a path, an array or a tensor, got {type(image).__name__}")
        array = np.asarray(image)
        dimensions = len(self.spatial_size)
        if array.ndim == dimensions:
            array = array[..., None]
        if array.ndim != dimensions + 1 or array.shape[-1] not in (1, 3):
            axes = "H, W" if dimensions == 2 else "H, W, D"
            raise ValueError(
                f"{name}: expected an array [{axes}], [{axes}, 1] or [{axes}, 3], got {list(array.shape)}; "
                "channels come last"
            )
        try:
            return scale_by_type(array)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _check_channels(self, array: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.float32]:
        if self.channels == 1:
            array = merge_equal_channels(array)
        elif self.repeat_grey and array.shape[-1] == 1:
            array = np.repeat(array, 3, axis=-1)
        found = array.shape[-1]
        if found != self.channels:
            fix = "convert it to grey" if self.channels == 1 else "convert it to colour"
            raise ValueError(
                f"{name}: expected {self.channels} channel(s), got {found}; set channels={found} for data like this "
                f"(the network needs as many), or {fix} first"
            )
        return array


def _are_rising(window: Any) -> bool:
    pair = isinstance(window, list | tuple) and len(window) == 2 and all(isinstance(n, int | float) for n in window)
    return pair and -np.inf < window[0] < window[1] < np.inf


class ReadImaged(ReadItems):
    """Dictionary-based `ReadImage`; an item's "key", where it has one, names an image that is given as an array.

    Args:
        keys: the keys of the images in the item.
        spatial_size: see `ReadImage`.
        channels: see `ReadImage`.
        resize: see `ReadImage`.
        max_pixels: see `ReadImage`.
        window: see `ReadImage`.
        repeat_grey: see `ReadImage`.
        allow_missing_keys: leave out a key that the item lacks instead of raising.

    Example:
        >>> import numpy as np
        >>> item = {"image": np.zeros((28, 28), dtype=np.uint8), "label": 1, "key": "a"}
        >>> ReadImaged("image", [28, 28])(item)["image"].meta["filename_or_obj"]
        'a'
    """

    read: ReadImage

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: Sequence[int] | int,
        *,
        channels: int = 1,
        resize: bool = False,
        max_pixels: int = MAX_PIXELS,
        window: Sequence[float] | None = None,
        repeat_grey: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.read = ReadImage(
            spatial_size,
            channels=channels,
            resize=resize,
            max_pixels=max_pixels,
            window=window,
            repeat_grey=repeat_grey,
        )
