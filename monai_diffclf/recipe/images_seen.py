# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What there is to learn from: how many images of which class, how large, grey or colour, of how many patients."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .._class_names import class_names, shown
from .._patients import known_patient
from .._spread import spread
from .._text_path import text_path
from ..data import find_classes, load_datalist
from ..data.patients import check_patients, patients_of
from ..data.pneumonia_mnist import FILE_NAME
from ..data.splits import SPLITS, NoSplitError
from ..image_io.image_files import merge_equal_channels, read_image_file

__all__ = ["ImagesSeen", "look_at"]

Items = list[dict[str, Any]]
_GREY, _COLOUR = "grey", "colour"


@dataclass(frozen=True)
class ImagesSeen:
    """A data set as `look_at` found it.

    Args:
        classes: names of the classes in the order of their labels.
        images: split -> images of each class; a split that is absent has none.
        patients: split -> number of patients, None where none is known.
        without_patient: split -> number of images whose patient is not known.
        channels: 1 for grey, 3 for colour.
        typical: median height and median width in pixels.
        smallest: height and width of the image with the shortest side.
        largest: height and width of the image with the longest side.
        aspects: the narrowest and the widest width divided by height.
        looked_at: how many images were opened; sizes and channels are theirs.
        kinds: suffix of the files -> how many.
    """

    classes: tuple[str, ...]
    images: Mapping[str, tuple[int, ...]]
    channels: int = 1
    typical: tuple[int, int] = (64, 64)
    smallest: tuple[int, int] = (64, 64)
    largest: tuple[int, int] = (64, 64)
    aspects: tuple[float, float] = (1.0, 1.0)
    patients: Mapping[str, int | None] = field(default_factory=dict)
    without_patient: Mapping[str, int] = field(default_factory=dict)
    looked_at: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)

    def count(self, split: str) -> int:
        """Number of images of a split."""
        return sum(self.images.get(split, ()))

    def lacking(self, split: str) -> list[str]:
        """The classes of which a split has no image."""
        counts = self.images.get(split) or (0,) * len(self.classes)
        return [name for name, count in zip(self.classes, counts, strict=True) if count == 0]

    def to_dict(self) -> dict[str, Any]:
        """All of it in values for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def lines(self) -> list[str]:
        r"""What was seen, in words, a line each.

        Example:
            >>> print(*ImagesSeen(("a", "b"), {"train": (9, 3)}, looked_at=12).lines(), sep="\n")
            train       12 images: 9 a, 3 b; patients not known
            validation   0 images
            test         0 images
            64 x 64 px, grey
        """
        lines = []
        for split in SPLITS:
            line = f"{split:10s} {self.count(split):3d} images"
            if self.count(split):
                counts = zip(self.images[split], self.classes, strict=True)
                line += ": " + ", ".join(f"{count} {shown(name, 40)}" for count, name in counts)
                known = self.patients.get(split)
                line += "; patients not known" if known is None else f"; of {known} patients"
                without = self.without_patient.get(split, 0)
                line += f", {without} images without one" if known is not None and without else ""
            lines.append(line)
        size = f"{self.typical[0]} x {self.typical[1]} px"
        if self.smallest != self.largest:
            size += f" in the median (height x width), {self.smallest[0]} x {self.smallest[1]} to "
            size += f"{self.largest[0]} x {self.largest[1]}"
        return [*lines, f"{size}, {_GREY if self.channels == 1 else _COLOUR}"]


def look_at(
    data: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    most: int = 2000,
    progress: bool = False,
    **options: Any,
) -> ImagesSeen:
    """Look at a data set: its classes, splits, patients, sizes and colours.

    Images of training and validation are opened, spread evenly over both where there are more than `most`; those of the
    test set are only counted. A colour file whose channels are all equal is grey.

    Args:
        data: where the images are, whatever `monai_diffclf.data.load_datalist` reads.
        classes: names of the classes in the order of their labels; None for those that are found, sorted.
        most: how many images are opened at most.
        progress: whether to show a progress bar.
        options: further arguments of `load_datalist`, such as ``patient_pattern``.

    Raises:
        ValueError: as `load_datalist` says; when no image is found, a patient is in two splits, an image cannot be
            read or is a volume, or some images are grey and others colour.
    """
    path = text_path(data, "data")
    if path.suffix == ".npz" or (path / FILE_NAME).is_file():
        raise ValueError(
            f"data: {path} is PneumoniaMNIST, which has a bundle of its own: pneumonia_xray_diffusion; train that one"
        )
    if classes is None:
        found = ("image_column", "label_column", "label_type")
        classes = find_classes(path, **{name: options[name] for name in found if name in options})
    names = class_names(classes)
    splits = load_splits(path, names, **options)
    opened = spread(splits["train"] + splits["validation"], most)
    sizes, colours = _open(opened, progress)
    heights, widths = np.array(sizes).T
    short, long = np.minimum(heights, widths), np.maximum(heights, widths)
    patients = {name: _patients(items) for name, items in splits.items()}
    return ImagesSeen(
        classes=tuple(names),
        images={name: _counts(items, len(names)) for name, items in splits.items()},
        channels=_channels(opened, colours),
        typical=(int(np.median(heights)), int(np.median(widths))),
        smallest=sizes[int(short.argmin())],
        largest=sizes[int(long.argmax())],
        aspects=(float((widths / heights).min()), float((widths / heights).max())),
        patients={name: len(known) or None for name, (known, _) in patients.items()},
        without_patient={name: without for name, (_, without) in patients.items()},
        looked_at=len(opened),
        kinds=dict(Counter(_suffix(item) for items in splits.values() for item in items).most_common()),
    )


def load_splits(data: str | os.PathLike[str], classes: Sequence[str], **options: Any) -> dict[str, Items]:
    """The datalists of all three splits; one that is absent is empty.

    Raises:
        ValueError: as `load_datalist` says, when all are absent, or a patient is in two.
    """
    found: dict[str, Items] = {}
    absent: list[NoSplitError] = []
    for split in SPLITS:
        try:
            found[split] = load_datalist(data, split, classes=classes, **options)
        except NoSplitError as error:
            found[split] = []
            absent.append(error)
    if not found["train"]:
        raise absent[0] if absent else ValueError(f"data: {data} has no training images")
    check_patients({name: patients_of(items) for name, items in found.items()}, options.get("allow_shared_patients"))
    return found


def _open(items: Items, progress: bool) -> tuple[list[tuple[int, int]], list[str]]:
    """Height and width of each image, and whether it is grey, stored as colour but grey, or colour."""
    sizes, colours, wrong = [], [], []
    for item, found in zip(items, _each(items, progress), strict=True):
        if isinstance(found, str):
            wrong.append(found)
            continue
        (height, width, *depth), colour = found
        if depth:
            wrong.append(
                f"{item['image']}: expected a picture, got a volume of {depth[0]} slices or frames; export them"
            )
        sizes.append((height, width))
        colours.append(colour)
    if wrong:
        raise ValueError("; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more images" if len(wrong) > 3 else ""))
    return sizes, colours


def _each(items: Items, progress: bool) -> Iterator[tuple[tuple[int, ...], str] | str]:
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        yield from tqdm(
            pool.map(_look, items), total=len(items), desc="looking at images", unit="image", disable=not progress
        )


def _look(item: Mapping[str, Any]) -> tuple[tuple[int, ...], str] | str:
    """Size and colour of one image, or what is wrong with it."""
    try:
        image = read_image_file(item["image"])
    except ValueError as error:
        return str(error)
    if image.shape[-1] == 1:
        return image.shape[:-1], _GREY
    return image.shape[:-1], _COLOUR if merge_equal_channels(image).shape[-1] == 3 else "stored as colour"


def _channels(items: Items, colours: list[str]) -> int:
    """1 or 3; refuses grey files among colour ones, which training would refuse as well."""
    if _COLOUR not in colours:
        return 1
    if _GREY in colours:
        grey, colour = (str(items[colours.index(kind)]["image"]) for kind in (_GREY, _COLOUR))
        raise ValueError(
            f"data: expected images that are all grey or all colour, got {colours.count(_GREY)} grey ones (such as "
            f"{shown(grey, 200)}) and {colours.count(_COLOUR)} in colour (such as {shown(colour, 200)}); "
            "convert all to one of the two, or leave one kind out (it may give the class away)"
        )
    return 3


def _counts(items: Items, num_classes: int) -> tuple[int, ...]:
    return tuple(np.bincount([item["label"] for item in items], minlength=num_classes).tolist())


def _patients(items: Items) -> tuple[set[str], int]:
    """The patients that are known, and of how many images none is."""
    each = [known_patient(item.get("patient")) for item in items]
    return {*each} - {""}, each.count("")


def _suffix(item: Mapping[str, Any]) -> str:
    return Path(str(item["image"])).suffix.lower() or "none"
