# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which files and folders hold masks, by their names and by the images beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

__all__ = ["is_called_masks", "is_masks_of_images", "masks_beside"]

_FOLDERS = {
    "mask",
    "masks",
    "segmentation",
    "segmentations",
    "groundtruth",
    "groundtruths",
    "annotation",
    "annotations",
}
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_SUBSET = r"([_\-. ]?(tr|ts|te|va|val|train|test))?"
# Called so too where they hold class names or pictures of labels: masks only beside a folder of the images.
_LABELS = re.compile(rf"(labels?|masks?|msks?|segmentations?|annotations?|groundtruths?){_SUBSET}", re.I)
_IMAGES = re.compile(rf"(images?|imgs?){_SUBSET}", re.I)
_FILE_WORDS = "masks?|msk|segmentation|segm?|labels?|labelmap|superpixels|annotation|groundtruth|gt"
_FILE = re.compile(rf"(.+)[_\-. ]({_FILE_WORDS})([_\-. ]?\d+)?", re.I)
# The sequences of a scan, which have one mask: ID_flair and ID_t1ce have ID_seg (BraTS).
_SEQUENCE = re.compile(r"(.+)[_\-. ](t1|t1n|t1w|t1c|t1ce|t1gd|t2|t2w|t2f|flair|dwi|adc)", re.I)


def masks_beside(names: Iterable[str]) -> dict[str, str]:
    """The files of a folder that are called as masks are of others among them: name -> name of the image, no suffix.

    Example:
        >>> masks_beside(["a.png", "a_mask.png", "b_mask.png", "P1-t1n.nii.gz", "P1-seg.nii.gz"])
        {'a_mask.png': 'a', 'P1-seg.nii.gz': 'P1-t1n'}
    """
    stems = {name: _stem(name) for name in names}
    images = {stem.casefold(): stem for stem in stems.values()}
    sequences = {match[1].casefold(): stem for stem in stems.values() if (match := _SEQUENCE.fullmatch(stem))}
    found: dict[str, str] = {}
    for name, stem in stems.items():
        if match := _FILE.fullmatch(stem):
            of = match[1].casefold()
            if image := images.get(of) or sequences.get(of):
                found[name] = image
    return found


def is_called_masks(name: str) -> bool:
    """Whether the name of a folder says that it holds masks.

    Example:
        >>> [is_called_masks(name) for name in ("leftMask", "Ground_Truth", "labelsTr", "images")]
        [True, True, False, False]
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    return bool(_FOLDERS & {*words, *map("".join, pairwise(words))})


def is_masks_of_images(folder: Path) -> bool:
    """Whether a folder is called as masks of a folder beside it are, such as ``labelsTr`` beside ``imagesTr``."""
    if not _LABELS.fullmatch(folder.name):
        return False
    return any(_IMAGES.fullmatch(other.name) and other.is_dir() for other in folder.parent.iterdir())


def _stem(name: str) -> str:
    """A file's name without its suffix, of which ``.nii.gz`` is one."""
    path = Path(name)
    return Path(path.stem).stem if name.lower().endswith(".nii.gz") else path.stem
