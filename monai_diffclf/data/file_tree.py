# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The images in a folder and its subfolders, and what is left out: nothing is dropped without a word."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from .._class_names import plain_text, shown
from ..image_io.dicom_class import no_image_reason
from ..image_io.file_kind import is_hidden
from ..image_io.image_files import is_image_file
from ..image_io.series_archive import is_series_archive
from .mask_names import is_called_masks, is_masks_of_images, masks_beside

__all__ = ["FileTree", "check_new_folder", "is_hidden", "list_images", "warn_left_out"]

_NAMED = 20


@dataclass
class FileTree:
    """What a folder holds.

    Args:
        images: paths of the images, sorted.
        left_out: path -> why it is left out.
    """

    images: list[Path] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)


def list_images(root: Path, *, classes: Collection[str] = (), archives: bool = False) -> FileTree:
    """The images in a folder and its subfolders; linked folders are followed, each real folder once.

    Args:
        root: the folder.
        classes: names of classes; a folder of masks may be called so.
        archives: whether a ZIP file is an image, a volume of its slices.

    Raises:
        ValueError: when there are masks among the images: in a folder of their own, or beside them.
    """
    tree, seen, names = FileTree(), {os.path.realpath(root)}, {plain_text(name) for name in classes}

    def unreadable(error: OSError) -> None:
        tree.left_out[Path(str(error.filename))] = f"cannot be opened: {error.strerror}"

    for where, folders, files in os.walk(root, followlinks=True, onerror=unreadable):
        folder = Path(where)
        _choose_folders(root, folder, folders, seen, tree)
        images = []
        for name in sorted(files):
            reason = _reason(folder / name, archives)
            if reason:
                tree.left_out[folder / name] = reason
            else:
                images.append(folder / name)
        if images and folder != root:
            _refuse_mask_folder(root, folder, names)
        _refuse_mask_files(images)
        tree.images += images
    tree.images.sort()
    return tree


def warn_left_out(root: Path, left_out: dict[Path, str], num_images: int) -> None:
    """Say once which files of a folder are not used, and how many.

    Warns:
        UserWarning: with the number of files, their names (the first twenty, of more the suffixes) and the reasons.
    """
    if not left_out:
        return
    paths = sorted(left_out)
    named = "; ".join(f"{shown(_relative(path, root))} ({left_out[path]})" for path in paths[:_NAMED])
    suffixes = Counter(path.suffix.lower() or "no suffix" for path in paths[_NAMED:])
    more = "".join(f"; {count} more with {shown(suffix)}" for suffix, count in sorted(suffixes.items()))
    warnings.warn(f"{shown(root, 200)}: {len(paths)} left out beside {num_images} images: {named}{more}", stacklevel=3)


def _choose_folders(root: Path, folder: Path, folders: list[str], seen: set[str], tree: FileTree) -> None:
    """Leave in `folders` those to go into."""
    chosen, above = [], Path(os.path.realpath(root)).parents
    for name in sorted(folders):
        real = os.path.realpath(folder / name)
        if is_hidden(name):
            tree.left_out[folder / name] = "hidden folder"
        elif real in seen or Path(real) in above:
            tree.left_out[folder / name] = "the same folder as another here, or one that holds this one"
        else:
            chosen.append(name)
            seen.add(real)
    folders[:] = chosen


def _reason(path: Path, archives: bool) -> str:
    """Why a file is left out, empty when it is an image."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return "its name is not in UTF-8"
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    if is_hidden(path.name):
        return "hidden file"
    if not path.is_file():
        return "no plain file"
    try:
        is_image = is_image_file(path) or (archives and is_series_archive(path))
        return no_image_reason(path) if is_image else "no image that can be read"
    except OSError as error:
        return f"cannot be opened: {error.strerror}"


def _refuse_mask_folder(root: Path, folder: Path, classes: set[str]) -> None:
    for part in (folder, *folder.parents):
        if part == root:
            return
        if plain_text(part.name) not in classes and (is_called_masks(part.name) or is_masks_of_images(part)):
            raise ValueError(
                f"{folder}: looks like a folder of masks ({part.name!r}) among images, which are no pictures to learn "
                f"from or to classify; move it out of {root}, rename it if its files are images, or list the images "
                "in a table"
            )


def _refuse_mask_files(images: list[Path]) -> None:
    masks = masks_beside(path.name for path in images)
    for path in images:
        if path.name in masks:
            raise ValueError(
                f"{path}: looks like the mask of the image {masks[path.name]!r} beside it; move the masks out of the "
                "folder, rename them if they are images, or list the images in a table"
            )


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        ValueError: when it does, or is a file.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"folder: expected a new or an empty folder, got {folder}; name another one")
