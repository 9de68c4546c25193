# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What of a folder of studies is served: its images and their ids, and what is left out and why."""

from __future__ import annotations

import fnmatch
import logging
import os
import stat
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from .._file_state import once_a_file
from ..data.mask_names import masks_beside
from ..image_io.dicom_volume import holds_slices
from ..image_io.image_files import is_image_file
from ..image_io.series_archive import is_series_archive
from .names import check_name, resolve_inside
from .trained_weights import MODELS
from .uploads import IMAGE_SUFFIXES, split_suffix

__all__ = [
    "LABELS",
    "MASKS",
    "STORE",
    "check_folder",
    "drop_unsafe_entries",
    "list_studies",
    "name_images",
]

logger = logging.getLogger(__name__)
_is_image = once_a_file(is_image_file)  # a folder is looked at whenever a file in it comes or goes

STORE, LABELS, LOCK = "datastore_v2.json", "labels", ".lock"
MASKS = "files that look like masks of images beside them (rename those that are images)"


def check_folder(folder: Path) -> None:
    """Whether what the store writes lies in its folder.

    Raises:
        ValueError: when it is a link that leads elsewhere.
    """
    labels = folder / LABELS
    tags = list(labels.iterdir()) if labels.is_dir() else []
    for path in (folder / STORE, folder / LOCK, labels, *tags):
        try:
            resolve_inside(path, [folder], "studies")
        except ValueError as error:
            raise ValueError(f"{error}; remove the link {path}") from error


def list_studies(
    folder: Path, patterns: Sequence[str], *, volumes: bool = False
) -> tuple[list[str], dict[str, list[str]]]:
    """The names of the images in a folder, and what is left out: reason -> names; masks of images beside them too.

    Args:
        folder: the folder; what lies in folders below it is left out.
        patterns: what names must match, as ``*.dcm``.
        volumes: whether a folder of DICOM slices is an image, and so is a ZIP file of them.
    """
    found: list[str] = []
    left_out: dict[str, list[str]] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.name.startswith(".") or entry.name in (STORE, LABELS, MODELS):
                continue
            if reason := _why_left_out(entry, patterns, volumes):
                left_out.setdefault(reason, []).append(entry.name)
            else:
                found.append(entry.name)
    if masks := masks_beside(found):
        left_out[MASKS] = list(masks)
    return [name for name in found if name not in masks], left_out


def name_images(names: Sequence[str], taken: Collection[str]) -> dict[str, tuple[str, str]]:
    """Ids of image files: id -> (file name, suffix beside the id).

    Args:
        names: the files.
        taken: ids of others.

    Example:
        >>> name_images(["a.png", "b.jpg", "b.png", "IM1"], ["a"])
        {'a.png': ('a.png', ''), 'b.jpg': ('b.jpg', ''), 'b.png': ('b.png', ''), 'IM1': ('IM1', '')}
        >>> name_images(["a.nii.gz"], [])
        {'a': ('a.nii.gz', '.nii.gz')}
    """
    stems = Counter(split_suffix(name, IMAGE_SUFFIXES)[0] for name in names)
    ids: dict[str, tuple[str, str]] = {}
    for name in names:
        stem, suffix = split_suffix(name, IMAGE_SUFFIXES)
        if stems[stem] == 1 and stem not in taken:
            ids[stem] = (name, suffix)
        elif stems[name] == 0 and name not in taken:
            ids[name] = (name, "")
    return ids


def drop_unsafe_entries(model: Any) -> None:
    """Remove from a store that was read what names anything outside of its folder: it may be anyone's.

    Args:
        model: MONAI Label's `LocalDatastoreModel`.

    Raises:
        ValueError: when images or labels are said to be elsewhere.
    """
    if model.images_dir not in ("", ".") or model.labels_dir != LABELS:
        raise ValueError(
            f"studies: {STORE} says that images are in {model.images_dir!r} and labels in {model.labels_dir!r}, "
            f"expected '.' and {LABELS!r}; remove the file to begin anew"
        )
    for image_id, entry in list(model.objects.items()):
        try:
            check_name(image_id, "image")
            check_name(image_id + entry.image.ext, "image")
            for tag, label in entry.labels.items():
                check_name(tag, "tag")
                check_name(image_id + label.ext, "label")
        except ValueError as error:
            logger.warning("%s: left out an entry: %s", STORE, error)
            del model.objects[image_id]


def _why_left_out(entry: os.DirEntry[str], patterns: Sequence[str], volumes: bool) -> str:
    """Why a file is no image that can be served; empty if it is one."""
    if entry.is_symlink():
        return "links"
    is_series = volumes and entry.is_dir() and holds_slices(entry.path)
    if entry.is_dir() and not is_series:
        return "folders (put their images into the folder itself)"
    status = entry.stat(follow_symlinks=False)
    # Opening a pipe would wait for someone to write to it.
    if not is_series and not stat.S_ISREG(status.st_mode):
        return "that are no files"
    try:
        check_name(entry.name, "image")
    except ValueError:
        return "files with names that cannot be ids"
    if is_series or (volumes and is_series_archive(entry.path)):
        return ""
    if not any(fnmatch.fnmatch(entry.name.lower(), pattern.lower()) for pattern in patterns):
        return "files of other kinds"
    return "" if _is_image(entry.path) else "files that are no images"
