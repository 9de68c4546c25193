# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Images without labels, for inference."""

from __future__ import annotations

import os
from pathlib import Path

from ..image_io.image_files import is_image_file

__all__ = ["find_images"]


def find_images(source: str | os.PathLike[str]) -> list[dict[str, str]]:
    """All images in a folder and its subfolders, or one image file, as a MONAI datalist.

    Args:
        source: a folder, or a PNG, JPEG, DICOM or NIfTI file.

    Returns:
        Items ``{"image": path, "key": path relative to the folder}``, sorted by path.

    Raises:
        ValueError: when there is no image.
    """
    root = Path(source)
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    images = [path for path in files if is_image_file(path)]
    if not images:
        state = f"holds {len(files)} files, none of them an image" if root.exists() else "does not exist"
        raise ValueError(f"source: expected a folder with PNG, JPEG, DICOM or NIfTI images, or one; {root} {state}")
    base = root.parent if root.is_file() else root
    return [{"image": str(path), "key": path.relative_to(base).as_posix()} for path in images]
