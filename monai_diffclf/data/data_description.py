# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which images were read: their source by name, how many of each class, and a hash of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._file_state import array_hash, content_hash, file_state, further_fields
from .._patients import known_patient
from . import cbis_ddsm, inbreast, isic2017, vindr_mammo
from .label_vectors import check_findings_present, has_findings
from .pneumonia_mnist import FILE_NAME

__all__ = ["contents_hash", "describe_data", "files_hash", "items_hash"]

_DISTRIBUTED = (
    ("ISIC 2017", isic2017.is_isic2017),
    ("CBIS-DDSM", cbis_ddsm.is_cbis_ddsm),
    ("INbreast", inbreast.is_inbreast),
    ("VinDr-Mammo", vindr_mammo.is_vindr_mammo),
)


def describe_data(
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    classes: Sequence[str],
    *,
    source: str | os.PathLike[str] = "",
    name: str | None = None,
    image_size: int | Sequence[int] | None = None,
) -> dict[str, Any]:
    """What was read, as plain values; refuses a split that lacks a class, of which nothing can be learned or measured.

    Args:
        splits: name of each split and its datalist, items with ``label`` and, where known, ``key`` and ``patient``.
            Where labels are vectors, the classes are findings, counted where they are present, and ``unknown`` is there
            too: the images of which it is not known.
        classes: names of the classes in the order of their labels.
        source: where they were read from.
        name: what to call them; by default a known data set by its name, anything else "own images in NAME".
        image_size: size in pixels, part of the name.

    Returns:
        ``name``, and for each split ``images``, ``patients`` (None where unknown), ``classes`` (images of each) and
        ``hash``, which depends on keys, labels and patients, not on their order (`items_hash`).

    Raises:
        ValueError: when a split has no image of some class, or none with or none without some finding.

    Example:
        >>> items = [{"key": "1", "label": 0}, {"key": "2", "label": 1}, {"key": "3", "label": 1}]
        >>> described = describe_data({"test": items}, ["normal", "pneumonia"], source="x/films", image_size=[28, 28])
        >>> described["name"], described["test"]["classes"]
        ('own images in films, 28 px', {'normal': 1, 'pneumonia': 2})
    """
    found: dict[str, Any] = {"name": f"{name or _name(source)}{_size(image_size)}"}
    for split, items in splits.items():
        if has_findings(items):
            found[split] = _findings(items, split, classes, source)
            continue
        counts = np.bincount([int(item["label"]) for item in items], minlength=len(classes))
        if absent := [str(classes[k]) for k in range(len(classes)) if counts[k] == 0]:
            have = {str(classes[k]): int(counts[k]) for k in range(len(classes)) if counts[k]}
            raise ValueError(
                f"{split}: expected images of every class, got none of {', '.join(absent)} "
                f"({have or 'no image at all'}) in {source or 'the datalist'}; add some, or leave the class out of "
                "--classes"
            )
        found[split] = {
            "images": len(items),
            "patients": _patients(items),
            "classes": {str(given): int(count) for given, count in zip(classes, counts, strict=True)},
            "hash": items_hash(items),
        }
    return found


def _findings(
    items: Sequence[Mapping[str, Any]], split: str, findings: Sequence[str], source: str | os.PathLike[str]
) -> dict[str, Any]:
    """What was read of a split whose labels are vectors."""
    counts = check_findings_present(items, split, findings, where=os.fspath(source))
    return {
        "images": len(items),
        "patients": _patients(items),
        "classes": {name: count["present"] for name, count in counts.items()},
        "unknown": {name: count["unknown"] for name, count in counts.items()},
        "hash": items_hash(items),
    }


def _patients(items: Sequence[Mapping[str, Any]]) -> int | None:
    patients = {known_patient(item.get("patient")) for item in items}
    return None if "" in patients else len(patients)


def _name(source: str | os.PathLike[str]) -> str:
    path = Path(source)
    if path.name == FILE_NAME or (path / FILE_NAME).is_file():
        return "PneumoniaMNIST"
    known = [name for name, is_it in _DISTRIBUTED if path.is_dir() and is_it(path)]
    return known[0] if known else f"own images in {path.resolve().name}" if os.fspath(source) else "own images"


def _size(image_size: int | Sequence[int] | None) -> str:
    if image_size is None:
        return ""
    sides = [image_size] if isinstance(image_size, int) else list(image_size)
    return f", {sides[0]} px" if len({*sides}) == 1 else f", {' x '.join(map(str, sides))} px"


def items_hash(items: Sequence[Mapping[str, Any]]) -> str:
    """Sixteen hexadecimal digits of the names, labels and patients of a datalist, whatever its order.

    The name of an image is its key, or where its file lies below the folder that all are in, which may be moved; of an
    array it is its pixels.

    Example:
        >>> one = [{"image": "ill/0.png", "label": 0}, {"image": "well/0.png", "label": 1}]
        >>> moved = [{**item, "image": "/elsewhere/" + item["image"]} for item in one]
        >>> swapped = [{**item, "label": 1 - item["label"]} for item in one]
        >>> items_hash(one) == items_hash(moved), items_hash(one) == items_hash(swapped)
        (True, False)
    """
    names = _names(items)
    rows = sorted(
        f"{name}\0{_label(item['label'])}\0{item.get('patient', '')}" for name, item in zip(names, items, strict=True)
    )
    return hashlib.blake2b("\1".join(rows).encode(errors="surrogateescape"), digest_size=8).hexdigest()


def contents_hash(items: Sequence[Mapping[str, Any]]) -> str:
    """Sixteen hexadecimal digits of what the images of a datalist hold: bytes of files, which are read, and arrays.

    What else an item holds counts too, such as a mask or a side, but for its label and patient.

    Raises:
        OSError: when a file cannot be read.
    """
    return _rows_hash(items, [_content(item.get("image")) for item in items], content_hash)


def files_hash(items: Sequence[Mapping[str, Any]]) -> str:
    """Sixteen hexadecimal digits of sizes and times of the files of a datalist, which are not read, and of arrays.

    What else an item holds counts too, as in `contents_hash`.

    Raises:
        OSError: when there is no such file.
    """
    states = [
        [file_state(path) for path in paths] if (paths := _paths(item.get("image"))) else _content(item.get("image"))
        for item in items
    ]
    return _rows_hash(items, states, file_state)


def _rows_hash(items: Sequence[Mapping[str, Any]], states: Sequence[Any], of_file: Callable[[str], Any]) -> str:
    rows = []
    for name, item, state in zip(_names(items), items, states, strict=True):
        further = further_fields(item, "image", of_file)
        rows.append(f"{name}\0{state}" + (f"\0{further}" if further else ""))
    rows.sort()
    return hashlib.blake2b("\1".join(rows).encode(errors="surrogateescape"), digest_size=8).hexdigest()


def _label(label: Any) -> str:
    return ",".join(str(int(state)) for state in np.atleast_1d(label))


def _names(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name of each image: its key, where its files lie below the folder that all are in, or its pixels."""
    without = [_paths(item.get("image")) for item in items if "key" not in item]
    folders = [os.path.dirname(os.path.abspath(path)) for paths in without for path in paths]
    base = os.path.commonpath(folders) if folders else ""
    return [_name_of(item, base) for item in items]


def _name_of(item: Mapping[str, Any], base: str) -> str:
    if "key" in item:
        return str(item["key"])
    if paths := _paths(item.get("image")):
        return "\0".join(Path(os.path.relpath(os.path.abspath(path), base)).as_posix() for path in paths)
    return hashlib.blake2b(np.ascontiguousarray(item.get("image")).tobytes(), digest_size=8).hexdigest()


def _paths(image: Any) -> list[str]:
    """The files of an image; none where it is an array."""
    several = image if isinstance(image, list | tuple) else [image]
    return [os.fspath(each) for each in several] if all(isinstance(each, str | os.PathLike) for each in several) else []


def _content(image: Any) -> str:
    if paths := _paths(image):
        return ",".join(content_hash(path) for path in paths)
    return "" if image is None else array_hash(image)
