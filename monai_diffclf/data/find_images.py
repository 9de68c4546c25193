# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Images without labels, for inference."""

from __future__ import annotations

import os
from pathlib import Path

from .._text_path import text_path
from ..image_io.image_files import is_image_file
from ..image_io.series_archive import is_series_archive
from .file_tree import FileTree, list_images, warn_left_out
from .whole_series import warn_of_parts, whole_series

__all__ = ["find_images"]


def find_images(source: str | os.PathLike[str], *, volumes: bool = False) -> list[dict[str, str]]:
    """All images in a folder and its subfolders, or one image file, as a MONAI datalist.

    Args:
        source: a folder, or an image file (PNG, JPEG, TIFF, BMP, DICOM, NIfTI and others that
            :func:`monai_diffclf.image_io.read_image_file` reads).
        volumes: whether images are volumes: then a folder that DICOM slices lie in is one image, so is a ZIP file, and
            a DICOM file of one frame, given as `source`, stays what it is, no volume.

    Returns:
        Items ``{"image": path, "key": path relative to the folder}``, sorted by path; the folder itself, where it is an
        image, is called by its name.

    Raises:
        TypeError: when `source` is no text or path.
        ValueError: when there is no image, or there are masks among the images.

    Warns:
        UserWarning: naming what is left out of the folder, and why; and folders that hold parts of one series.
    """
    root = text_path(source, "source")
    tree = _one_file(root, volumes) if root.is_file() else list_images(root, archives=volumes)
    if not tree.images:
        raise ValueError(
            f"source: expected a folder with PNG, JPEG, DICOM or NIfTI images, or one; {root} {_state(root, tree)}"
        )
    base = root.parent if root.is_file() else root
    warn_left_out(base, tree.left_out, len(tree.images))
    images = tree.images
    if volumes and not root.is_file():
        images = whole_series(images)
        warn_of_parts(images)
    return [{"image": str(path), "key": _key(path, base)} for path in images]


def _key(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path != base else path.resolve().name


def _one_file(path: Path, archives: bool) -> FileTree:
    is_image = is_image_file(path) or (archives and is_series_archive(path))
    return FileTree([path]) if is_image else FileTree(left_out={path: "no image that can be read"})


def _state(root: os.PathLike[str], tree: FileTree) -> str:
    if not os.path.lexists(root):
        return "does not exist"
    if not os.path.exists(root):
        return "is a link to nothing"
    some = "; ".join(f"{path.name}: {why}" for path, why in list(tree.left_out.items())[:5])
    return f"holds {len(tree.left_out)} files, none of them an image" + (f" ({some})" if some else "")
