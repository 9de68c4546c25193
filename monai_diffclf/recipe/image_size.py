# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The size that a network works at, by the sizes of the images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .images_seen import ImagesSeen

__all__ = ["choose_image_size"]

SMALLEST, LEAST = 8, 16  # px: images below the first are refused, sides below the second are enlarged to it
LARGE, WORKING = 96, 64  # px: sides above the first are reduced to about the second
LARGEST = 256  # px: what may be asked for
KEPT = 0.75  # an image of which less than this share of a side is kept is warned of
LARGE_IMAGES = ""
"""What is recommended for large images instead, a sentence; empty as long as there is nothing else."""


def choose_image_size(
    seen: ImagesSeen, asked: Sequence[int] | int | None = None
) -> tuple[tuple[int, int], str, list[str]]:
    """Height and width to work at, the reason, and what to beware of.

    Images up to 96 px keep their size; larger ones are reduced to about 64 x 64 px, with their aspect ratio kept.

    Args:
        seen: what `look_at` found.
        asked: height and width, or one number for both, that somebody wants; None chooses.

    Raises:
        ValueError: when images are smaller than 8 px, or what is asked for is out of range.

    Example:
        >>> choose_image_size(ImagesSeen(("a", "b"), {}, typical=(1024, 1024)))[0]
        (64, 64)
        >>> choose_image_size(ImagesSeen(("a", "b"), {}, typical=(200, 300), aspects=(1.5, 1.5)))[0]
        (52, 80)
    """
    if min(seen.smallest) < SMALLEST:
        raise ValueError(
            f"data: expected images of at least {SMALLEST} px, got one of {seen.smallest[0]} x {seen.smallest[1]}; "
            "leave such images out"
        )
    if asked is not None:
        size = _asked(asked)
        reason = f"{_text(size)} px, as asked for."
    else:
        size, cause = _by_images(seen.typical)
        reason = f"{_text(size)} px: {cause}."
    return size, reason, _warnings(seen, size)


def _by_images(typical: tuple[int, int]) -> tuple[tuple[int, int], str]:
    if max(typical) > LARGE:
        scale = WORKING / math.sqrt(typical[0] * typical[1])
        reduced = tuple(max(LEAST, 4 * round(side * scale / 4)) for side in typical)
        return (reduced[0], reduced[1]), (
            f"the images are {_text(typical)} px, and above {LARGE} px a diffusion model in pixels takes too long on a "
            "CPU, so that they are reduced"
        )
    if min(typical) < LEAST:
        scale = LEAST / min(typical)
        enlarged = tuple(round(side * scale) for side in typical)
        return (enlarged[0], enlarged[1]), f"the images are {_text(typical)} px, and are enlarged"
    return typical, "the size of the images"


def _asked(asked: Sequence[int] | int) -> tuple[int, int]:
    sides = [asked, asked] if isinstance(asked, int) else list(asked)
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if len(sides) != 2 or not whole or not all(LEAST <= side <= LARGEST for side in sides):
        raise ValueError(
            f"image_size: expected height and width, or one number for both, from {LEAST} to {LARGEST} px, got {asked}"
        )
    return sides[0], sides[1]


def _warnings(seen: ImagesSeen, size: tuple[int, int]) -> list[str]:
    found = []
    if max(seen.typical) > LARGE and max(size) <= LARGE:
        times = max(seen.typical) / max(size)
        found.append(
            f"Images are reduced {times:.1f} times: what is smaller than {math.ceil(2 * times)} px in them is lost. "
            + (LARGE_IMAGES or f"--image-size keeps more, up to {LARGEST}, and takes longer by the number of pixels.")
        )
    elif max(size) > LARGE:
        found.append(f"{_text(size)} px take long to train on a CPU. {LARGE_IMAGES}".strip())
    aspect = size[1] / size[0]
    kept = min(min(each / aspect, aspect / each) for each in seen.aspects)
    if kept < KEPT:
        found.append(
            f"Shapes differ: the centre of each image is cropped to {_text(size)}, and of the longest one {kept:.0%} "
            "is left; what lies outside is not seen."
        )
    if min(seen.smallest) < min(size) / 2:
        found.append(f"The smallest image, {_text(seen.smallest)} px, is enlarged more than twice.")
    return found


def _text(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"
