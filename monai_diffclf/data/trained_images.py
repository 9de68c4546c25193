# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether images that are to judge a training were trained on, in a split of theirs that has changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._patients import known_patient

__all__ = ["check_not_trained_on", "split_members", "was_trained_on"]

Members = Mapping[str, Mapping[str, Sequence[str]]]
"""Images and patients -> split -> hashes, see `split_members`."""


def split_members(
    splits: Mapping[str, Sequence[Mapping[str, Any]]], contents: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, list[str]]]:
    """The images and patients of each split, by hashes: no names, which a file would hand on.

    Args:
        splits: name of the split -> datalist.
        contents: name of the split -> content key of each of its images (`audit_splits`).

    Returns:
        ``"images"`` and ``"patients"``: split -> hashes, sorted. They stay the same when files are moved or renamed.

    Example:
        >>> split_members({"test": [{"key": "a", "patient": "P1"}]}, {"test": ["c0ffee"]})["images"]
        {'test': ['c0ffee']}
    """
    people = {name: {known_patient(item.get("patient", "")) for item in items} - {""} for name, items in splits.items()}
    return {
        "images": {name: sorted(set(contents[name])) for name in splits},
        "patients": {name: sorted(map(_hash, found)) for name, found in people.items()},
    }


def check_not_trained_on(training: Path, now: Members, allow_shared_patients: Sequence[str] | None = None) -> None:
    """Refuse images, or patients, that a training has seen and that are to judge it.

    What lies in the training split today as well is left to the audit, which says so; so is what was in two splits
    when the model was trained.

    Args:
        training: the audit that the training left, ``audit.json``; nothing is refused where there is none, or an older
            one that does not say what was trained on.
        now: `split_members` of today's splits.
        allow_shared_patients: splits that may share patients with each other.

    Raises:
        ValueError: naming the split and how many.
    """
    then = _members(training)
    for kind, splits in now.items():
        seen = set(then.get(kind, {}).get("train", ())).difference(
            splits.get("train", ()), *(found for split, found in then.get(kind, {}).items() if split != "train")
        )
        for split, found in splits.items():
            if kind == "patients" and {"train", split} <= {*(allow_shared_patients or ())}:
                continue
            if known := seen.intersection(found):
                raise ValueError(
                    f"{split}: expected {kind} that the training has not seen, got {len(known)} of {len(found)} that "
                    f"it was trained on, as {training} says; put them back into the splits of the training, or train "
                    "again"
                )


def was_trained_on(training: Path, contents: Sequence[str]) -> bool | None:
    """Whether images are of those that a training has seen, all of them; None where its audit does not say.

    Args:
        training: the audit that the training left, ``audit.json``.
        contents: content key of each image (:class:`monai_diffclf.data.image_facts.ImageFacts`).
    """
    seen = _members(training).get("images", {}).get("train")
    return None if seen is None else set(contents) <= set(seen)


def _members(training: Path) -> Members:
    try:
        found = json.loads(training.read_text(encoding="utf-8"))["members"]
        return {kind: {split: list(hashes) for split, hashes in of.items()} for kind, of in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()
