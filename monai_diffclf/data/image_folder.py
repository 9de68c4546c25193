# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A user's own images in class folders, as MONAI datalists."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .._class_names import class_names, find_name, plain_text
from .._patients import known_patient
from .._text_path import text_path
from ..image_io.image_files import DICOM_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES
from .file_tree import is_hidden, list_images, warn_left_out
from .mask_names import is_masks_of_images
from .patients import check_patients, patient_reader
from .splits import SPLITS, NoSplitError, check_split, split_by_hash, split_name
from .whole_series import warn_of_parts, whole_series

__all__ = ["load_image_folder"]

# Folders between class and images that are no patients.
_NO_PATIENTS = {"image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "data", "files", "raw"}
_NO_PATIENTS |= {"dicom", "dcm", "jpg", "jpeg", "png", "tif", "tiff", "scans", "original", "originals"}
_IMAGES = "PNG, JPEG, TIFF, BMP, DICOM or NIfTI files"
_VOLUMES = "NIfTI, NRRD or enhanced DICOM files, or folders or ZIP files of DICOM slices,"


def load_image_folder(
    root: str | os.PathLike[str],
    split: str,
    *,
    classes: Sequence[str] | None = None,
    patient_pattern: str | None = None,
    allow_shared_patients: Sequence[str] | None = None,
    volumes: bool = False,
) -> list[dict[str, Any]]:
    """One split of images kept in class folders.

    Two layouts: ``root/<split>/<class>/files``, where a split is called train, validation (or val, valid, dev) or test;
    or ``root/<class>/files``, which is split 80/10/10 by a hash. A folder below the class folder is a patient
    (``root/<class>/<patient>/files``; not one called images, png and the like), and no patient may be in two splits.
    Without patient folders or `patient_pattern` the hash is that of the file name without suffix: **two images of one
    patient may then land in two splits**. Case and spaces in the names of classes do not matter. Linked folders are
    followed.

    Args:
        root: the folder.
        split: "train", "validation" or "test".
        classes: folder names in the order of their labels; None: all class folders, sorted by name.
        patient_pattern: regular expression with one group that finds the patient in a path relative to `root`.
        allow_shared_patients: names of splits that may share patients, see `check_patients`.
        volumes: whether images are volumes: then a folder that DICOM slices lie in is one image, and so is a ZIP file.
            It lies in the class folder, or in a patient's.

    Returns:
        Items ``{"image": path, "label": int, "key": path relative to root, "patient": str or ""}``, sorted by key.

    Raises:
        TypeError: when `root` is no text or path.
        ValueError: on an unknown split, two folders of one split, folders that are not in `classes`, masks, a patient
            in two splits, slices that lie in a class folder itself, or a split without images.

    Warns:
        UserWarning: naming what is left out of the folder, and why; and folders that hold parts of one series.
    """
    check_split(split)
    root = text_path(root, "root")
    if not root.is_dir():
        raise ValueError(f"root: expected a folder with one subfolder for each class, but {root} does not exist")
    names = None if classes is None else class_names(classes)
    folders = _split_folders(root, names)
    names, parents = _class_folders(root, folders, names)
    read_patient = _by_folder if patient_pattern is None else patient_reader(patient_pattern)
    if folders:
        if split not in folders:
            raise NoSplitError(
                f"split: {root} has no folder {split!r}, only {sorted(f.name for f in folders.values())}; make one, or "
                "put the class folders into one folder without splits, to have it split 80/10/10"
            )
        _check_patients(root, folders, parents, read_patient, allow_shared_patients, volumes)
    items = []
    where = folders[split] if folders else root
    for label, path in _files(root, where, parents[where], names, volumes):
        key = path.relative_to(root).as_posix()
        patient = read_patient(_inside(key, folders) if patient_pattern is None else key)
        if folders or split_by_hash(patient or _stem(path)) == split:
            items.append({"image": str(path), "label": label, "key": key, "patient": patient})
    if not items:
        raise NoSplitError(
            f"split: no image for {split!r} in {where}; expected {_VOLUMES if volumes else _IMAGES} in the "
            f"class folders {sorted(f.name for f in parents[where])}"
            + ("" if folders else " (10 % of the files make validation and test each)")
        )
    return items


def class_folders(root: Path) -> list[str]:
    """The names of the class folders, in split folders or not, sorted by name.

    Raises:
        ValueError: when there are fewer than two, or two that differ in case and spaces alone.
    """
    return _class_folders(root, _split_folders(root, None), None)[0]


def _split_folders(root: Path, names: list[str] | None) -> dict[str, Path]:
    """Split -> its folder; empty where the folders are those of classes."""
    found: dict[str, Path] = {}
    for folder in _subfolders(root):
        split = split_name(folder.name)
        if split is None or (names is not None and find_name(folder.name, names) is not None):
            continue
        if split in found:
            raise ValueError(
                f"root: {root} has two folders for the split {split!r}, {found[split].name!r} and {folder.name!r}; "
                "rename or remove the one that is not meant"
            )
        found[split] = folder
    return {name: found[name] for name in SPLITS if name in found}


def _class_folders(
    root: Path, folders: dict[str, Path], names: list[str] | None
) -> tuple[list[str], dict[Path, list[Path]]]:
    """The names of the classes, and the class folders of each folder of a split (or of the root)."""
    parents = {parent: _subfolders(parent) for parent in (folders.values() or [root])}
    present = sorted({folder.name for inside in parents.values() for folder in inside})
    if names is None:
        _refuse_masks(root, parents)
    if names is None and len(present) > 1:
        names = class_names(present)
    unknown = [name for name in present if names is None or find_name(name, names) is None]
    if not present or unknown:
        raise ValueError(
            f"classes: expected class folders {names or 'of two or more classes'} in {root}, got {present}; rename or "
            "remove the others, or name them in classes"
        )
    for inside in parents.values():
        first: dict[str, Path] = {}
        for folder in inside:
            other = first.setdefault(plain_text(folder.name), folder)
            if other is not folder:
                raise ValueError(
                    f"classes: {folder.parent} has two folders for one class, {other.name!r} and {folder.name!r}; "
                    "rename one or put their images together"
                )
    return list(names or ()), parents


def _refuse_masks(root: Path, parents: dict[Path, list[Path]]) -> None:
    """Refuse folders of images and of their masks, which are no two classes."""
    for folder in (each for inside in parents.values() for each in inside):
        if is_masks_of_images(folder):
            raise ValueError(
                f"classes: {folder} looks like a folder of masks beside the folder of their images, which are no two "
                f"classes; put the images into a folder for each class, or name them in classes if {root} has these"
            )


def _files(root: Path, parent: Path, inside: list[Path], names: list[str], volumes: bool) -> list[tuple[int, Path]]:
    """Label and path of the images in class folders; says what is left out of them and beside them."""
    files, left_out = [], {}
    for path in sorted(parent.iterdir()):
        if path not in inside:
            left_out[path] = "hidden" if is_hidden(path.name) else "not in a class folder"
    for folder in inside:
        tree = list_images(folder, classes=names, archives=volumes)
        left_out |= tree.left_out
        images = whole_series(tree.images) if volumes else tree.images
        if folder in images:
            raise ValueError(
                f"{folder}: DICOM slices lie in the class folder itself, which would make one volume of all of them; "
                "put the slices of each series into a folder of its own in it"
            )
        files += [(find_name(folder.name, names) or 0, path) for path in images]
    if parent != root:
        for path in sorted(root.iterdir()):
            if not (path.is_dir() and split_name(path.name)):
                left_out[path] = "hidden" if is_hidden(path.name) else "not in a folder of a split"
    warn_left_out(root, left_out, len(files))
    if volumes:
        warn_of_parts([path for _, path in files], stacklevel=4)
    return files


def _check_patients(
    root: Path,
    folders: dict[str, Path],
    parents: dict[Path, list[Path]],
    read_patient: Callable[[str], str],
    allow: Sequence[str] | None,
    volumes: bool,
) -> None:
    """Refuse patients that are in the folders of two splits."""
    found: dict[str, dict[str, str]] = {}
    for split, where in folders.items():
        found[split] = {}
        for folder in parents[where]:
            images = list_images(folder, classes=[folder.name], archives=volumes).images
            for path in whole_series(images) if volumes else images:
                key = path.relative_to(root).as_posix()
                patient = read_patient(_inside(key, folders) if read_patient is _by_folder else key)
                if patient:
                    found[split].setdefault(patient, key)
    check_patients(found, allow, where=str(root))


def _inside(key: str, folders: dict[str, Path]) -> str:
    """A key without split and class."""
    return "/".join(key.split("/")[2 if folders else 1 :])


def _by_folder(inside: str) -> str:
    """The patient from a path below the class folder: its first folder that may be one."""
    parts = [part for part in inside.split("/")[:-1] if plain_text(part) not in _NO_PATIENTS]
    return known_patient(parts[0]) if parts else ""


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def _stem(path: Path) -> str:
    """File name without the suffix of an image; dots elsewhere (a DICOM UID) belong to the name."""
    for suffix in sorted(PICTURE_SUFFIXES + DICOM_SUFFIXES + NIFTI_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name
