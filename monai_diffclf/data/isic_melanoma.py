# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Melanoma or benign from ISIC 2019 and 2020: the compilation of Favero et al., and one whose sources do not tell."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._text_path import text_path
from .isic_tables import ADDRESS, TERMS, is_isic, read_isic
from .missing_images import present_images
from .splits import check_split, chosen, in_order, split_by_hash

__all__ = ["ADDRESS", "CLASSES", "PROTOCOLS", "TERMS", "compare_with_id_rule", "id_rule", "load_isic_melanoma"]

CLASSES = ("benign", "melanoma")
PROTOCOLS = ("compiled", "within_source")
WARNING = (
    "ISIC melanoma, compiled: nearly all melanomas are from another part of the archive than the benign images. The "
    "rule 'an id below 100000 is a melanoma' alone is right on 93.8 % of the test images of Favero et al.; scores on "
    "these images are no evidence of melanoma detection. The protocol within_source has melanomas and benign images "
    "of the same sources"
)
_LIMIT = 100_000
_ID = re.compile(r"ISIC_(\d+)")


def load_isic_melanoma(
    root: str | os.PathLike[str], split: str, *, protocol: str = "compiled", allow_missing: bool = False
) -> list[dict[str, Any]]:
    """One split of melanoma 1 or benign 0 from the training images of ISIC 2019 and 2020.

    The folder holds both as they are distributed, see `load_isic2019` and `load_isic2020`.

    - ``"compiled"`` is made as that of Favero et al. (2025): all melanomas of both years and as many benign images of
      2020, in random order (numpy's RandomState, seed 42), 80/10/10. Their list of files is not public here, so that
      the benign images are others than theirs. The source gives the class away, see `id_rule`: a warning says so.
    - ``"within_source"``: lesions and patients are split 80/10/10 by a hash, and in each split every source (2020, and
      the collections of 2019, each by ids below and from 100000) has as many benign images as melanomas. On these the
      rule is right half of the time.

    Args:
        root: the folder.
        split: "train", "validation" or "test".
        protocol: "compiled" or "within_source".
        allow_missing: whether to go on without images that are named and not there.

    Returns:
        Items as of `load_isic2020`, sorted by key.

    Raises:
        ValueError: as `load_isic2020`.

    Warns:
        UserWarning: of the compiled images, in training.
    """
    check_split(split)
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    root = text_path(root, "root")
    if not (root.is_dir() and is_isic(root, 2019) and is_isic(root, 2020)):
        raise ValueError(
            f"root: expected the tables of ISIC 2019 and of ISIC 2020 in {root}, one is missing; both are at {ADDRESS} "
            f"({TERMS})"
        )
    items = [{**item, "label": int(item["label"] == 0)} for item in read_isic(root, 2019, "train")]
    items += read_isic(root, 2020, "train")
    if protocol == "compiled":
        if split == "train":
            warnings.warn(WARNING, stacklevel=2)
        found = _compiled(items)[split]
    else:
        found = _within_source(items, split)
    if not found:
        raise ValueError(f"split: expected images for {split!r} in {root}, got none")
    found = present_images(found, where=root, source=f"ISIC is at {ADDRESS} ({TERMS})", allow=allow_missing)
    return sorted(found, key=lambda item: str(item["key"]))


def _compiled(items: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    ill = [item for item in items if item["label"] == 1]
    benign = [item for item in items if item["label"] == 0 and item["source"] == "2020"]
    count = min(len(ill), len(benign))
    if count < 5:
        raise ValueError(f"root: expected at least 5 images of each class, got {len(ill)} and {len(benign)}")
    kept = chosen(benign, count) + chosen(ill, count)
    return in_order(chosen(kept, len(kept)))


def _within_source(items: Sequence[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    strata: dict[tuple[str, int], tuple[list[dict[str, Any]], list[dict[str, Any]]]] = defaultdict(lambda: ([], []))
    for item in items:
        if split_by_hash(str(item["patient"] or item["key"])) == split:
            strata[item["source"], _rule(item)][item["label"]].append(item)
    found = []
    for _, of_class in sorted(strata.items()):
        count = min(map(len, of_class))
        found += [item for each in of_class for item in chosen(each, count)]
    return found


def _rule(item: Mapping[str, Any]) -> int:
    match = _ID.match(str(item["key"]))
    if match is None:
        raise ValueError(f"key: expected an id such as ISIC_0024306, got {item['key']!r}")
    return int(int(match[1]) < _LIMIT)


def id_rule(items: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the rule "an id below 100000 is a melanoma" scores: it looks at no pixel.

    Args:
        items: items with ``"key"``, an id such as ``ISIC_0024306``, and ``"label"``, 1 for melanoma.

    Returns:
        ``accuracy`` and ``balanced_accuracy``; of one class alone, both are the share that is right.

    Raises:
        ValueError: when a key is no such id, or there are no items.

    Example:
        >>> id_rule([{"key": "ISIC_0000001", "label": 1}, {"key": "ISIC_0200000", "label": 0}])
        {'accuracy': 1.0, 'balanced_accuracy': 1.0}
    """
    if not items:
        raise ValueError("items: expected at least one image, got none")
    right: dict[int, list[bool]] = defaultdict(list)
    for item in items:
        right[int(item["label"])].append(_rule(item) == int(item["label"]))
    shares = [sum(each) / len(each) for each in right.values()]
    every = [value for each in right.values() for value in each]
    return {"accuracy": sum(every) / len(every), "balanced_accuracy": sum(shares) / len(shares)}


def compare_with_id_rule(
    items: Sequence[Mapping[str, Any]], results: str | os.PathLike[str], split: str = "test"
) -> str:
    """What the id rule scores on a split beside the models of an evaluation, a line each; printed, too.

    Args:
        items: the split's items.
        results: ``results.json`` of the evaluation.
        split: its name there.

    Raises:
        ValueError: when the file holds no results of the split.
    """
    path = Path(results)
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(content, dict) or not content.get(split):
        raise ValueError(f"results: expected results of {split!r} in {path}, found none; evaluate first")
    rows = [("an id below 100000 is a melanoma", id_rule(items)["balanced_accuracy"])]
    rows += [
        (name, entry["balanced_accuracy"]["value"])
        for name, entry in content[split].items()
        if isinstance(entry, Mapping) and isinstance(entry.get("balanced_accuracy"), Mapping)
    ]
    lines = [
        f"balanced accuracy on {len(items)} images ({split}):",
        *(f"  {value:.3f}  {name}" for name, value in rows),
    ]
    text = "\n".join(lines)
    print(text, flush=True)
    return text
