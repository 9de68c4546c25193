# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which images were read: their source by name, how many of each class, and a hash of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._patients import known_patient
from . import cbis_ddsm, inbreast, isic2017, vindr_mammo
from .label_vectors import check_findings_present, has_findings
from .pneumonia_mnist import FILE_NAME

__all__ = ["describe_data", "items_hash"]

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
        ``hash``, which depends on keys, labels and patients, not on their order.

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
    """Sixteen hexadecimal digits of the keys, labels and patients of a datalist, whatever its order."""
    rows = sorted(f"{_key(item)}\0{_label(item['label'])}\0{item.get('patient', '')}" for item in items)
    return hashlib.blake2b("\1".join(rows).encode(), digest_size=8).hexdigest()


def _label(label: Any) -> str:
    return ",".join(str(int(state)) for state in np.atleast_1d(label))


def _key(item: Mapping[str, Any]) -> str:
    """Name of an image: its key, its file's name, or its pixels."""
    if "key" in item:
        return str(item["key"])
    image = item.get("image")
    if isinstance(image, str | os.PathLike):
        return Path(image).name
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8).hexdigest()
