# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the splits of a data set share that they should not: images and patients."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..image_io.image_files import merge_equal_channels, read_image_file
from .pneumonia_mnist import image_key

Pair = tuple[str, str]


@dataclass(frozen=True)
class SplitAudit:
    """What `audit_splits` found; ``str(audit)`` is a table to read.

    Attributes:
        counts: split -> label -> number of images.
        patients: split -> number of patients known.
        without_patient: split -> number of images whose patient is not known.
        duplicates_within: split -> number of images that repeat another one of the split.
        duplicates_across: pair of splits -> content keys of the images in both.
        shared_patients: pair of splits -> patients in both, sorted.
        contradictions: content key -> (split, key of the item, label) of each copy, where labels differ.
    """

    counts: dict[str, dict[int, int]]
    patients: dict[str, int]
    without_patient: dict[str, int]
    duplicates_within: dict[str, int]
    duplicates_across: dict[Pair, tuple[str, ...]]
    shared_patients: dict[Pair, tuple[str, ...]]
    contradictions: dict[str, tuple[tuple[str, str, int], ...]]

    def __str__(self) -> str:
        labels = sorted({label for count in self.counts.values() for label in count})
        width = max([len(name) for name in self.counts] + [5])
        heads = ["images", *(f"class {label}" for label in labels), "patients", "no patient", "repeated"]
        lines = [" ".join([f"{'split':<{width}}", *(f"{head:>10}" for head in heads)])]
        for name, count in self.counts.items():
            cells = [sum(count.values()), *(count.get(label, 0) for label in labels)]
            cells += [self.patients[name], self.without_patient[name], self.duplicates_within[name]]
            lines.append(" ".join([f"{name:<{width}}", *(f"{cell:>10}" for cell in cells)]))
        for (a, b), shared in self.shared_patients.items():
            same = self.duplicates_across[a, b]
            lines.append(f"{a} and {b} share {len(shared)} patients and {len(same)} identical images")
        lines.append(f"identical images with different labels: {len(self.contradictions)}")
        for copies in self.contradictions.values():
            lines.append("  " + "; ".join(f"{name} {key or '(array)'}: class {label}" for name, key, label in copies))
        return "\n".join(lines)


def audit_splits(splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> SplitAudit:
    """Count the images of each class, and find images and patients that are in more than one place.

    Two images are identical when their pixels are, to 8 bits, whatever the file format. Patients are compared by name;
    an empty name is an unknown patient and is shared with nobody.

    Args:
        splits: name of the split -> datalist, items as `load_datalist` gives them.

    Returns:
        The findings; nothing is raised for what is found.

    Raises:
        ValueError: when `splits` is empty, or an image cannot be read.

    Example:
        >>> import numpy as np
        >>> image = np.zeros((2, 2), dtype=np.uint8)
        >>> audit = audit_splits({
        ...     "train": [{"image": image, "label": 0, "key": "a", "patient": "P1"}],
        ...     "test": [{"image": image, "label": 1, "key": "b", "patient": "P1"}],
        ... })
        >>> audit.shared_patients
        {('train', 'test'): ('P1',)}
        >>> len(audit.contradictions)
        1
    """
    if not splits:
        raise ValueError("splits: expected at least one split, got none")
    copies: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for name, items in splits.items():
        for item in items:
            copies[_content_key(item["image"])].append((name, str(item.get("key", "")), int(item["label"])))
    images = {
        name: Counter(key for key, found in copies.items() for where, *_ in found if where == name) for name in splits
    }
    patients = {name: {str(item["patient"]) for item in items if item.get("patient")} for name, items in splits.items()}
    pairs = list(combinations(splits, 2))
    return SplitAudit(
        counts={
            name: dict(sorted(Counter(int(item["label"]) for item in items).items())) for name, items in splits.items()
        },
        patients={name: len(found) for name, found in patients.items()},
        without_patient={name: sum(not item.get("patient") for item in items) for name, items in splits.items()},
        duplicates_within={name: counter.total() - len(counter) for name, counter in images.items()},
        duplicates_across={(a, b): tuple(sorted(images[a].keys() & images[b].keys())) for a, b in pairs},
        shared_patients={(a, b): tuple(sorted(patients[a] & patients[b])) for a, b in pairs},
        contradictions={key: tuple(found) for key, found in copies.items() if len({label for *_, label in found}) > 1},
    )


def _content_key(image: Any) -> str:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image_key(image)
    pixels = image if isinstance(image, np.ndarray) else merge_equal_channels(read_image_file(image))
    return image_key(np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
