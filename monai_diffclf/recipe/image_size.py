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
LARGEST = 256  # px: what may be asked for in pixels
ENCODED, LARGEST_ENCODED = 224, 1024  # px: what an encoder is given, and what may be asked for with one
KEPT = 0.75  # an image of which less than this share of a side is kept is warned of
LARGE_IMAGES = (
    "Recommended above 96 px: --encoder efficientnet_lite0, which works on the features of a pretrained network at "
    "224 px and trains in minutes."
)
"""What is recommended for large images instead, a sentence."""


def choose_image_size(
    seen: ImagesSeen, asked: Sequence[int] | int | None = None, *, encoder: str | None = None
) -> tuple[tuple[int, int], str, list[str]]:
    """Height and width to work at, the reason, and what to beware of.

    Images up to 96 px keep their size; larger ones are reduced to about 64 x 64 px, with their aspect ratio kept. A
    pretrained encoder gets 224 x 224 px, whatever size images have.

    Args:
        seen: what `look_at` found.
        asked: height and width, or one number for both, that somebody wants; None chooses.
        encoder: name of the pretrained encoder that sees them, None for a model in pixels.

    Raises:
        ValueError: when images are smaller than 8 px, or what is asked for is out of range.

    Example:
        >>> choose_image_size(ImagesSeen(("a", "b"), {}, typical=(1024, 1024)))[0]
        (64, 64)
        >>> choose_image_size(ImagesSeen(("a", "b"), {}, typical=(200, 300), aspects=(1.5, 1.5)))[0]
        (52, 80)
        >>> choose_image_size(ImagesSeen(("a", "b"), {}, typical=(767, 1022)), encoder="efficientnet_lite0")[0]
        (224, 224)
    """
    if min(seen.smallest) < SMALLEST:
        raise ValueError(
            f"data: expected images of at least {SMALLEST} px, got one of {seen.smallest[0]} x {seen.smallest[1]}; "
            "leave such images out"
        )
    if asked is not None:
        size = _asked(asked, LARGEST if encoder is None else LARGEST_ENCODED)
        reason = f"{_text(size)} px, as asked for."
    elif encoder is not None:
        size, reason = (ENCODED, ENCODED), f"{ENCODED} x {ENCODED} px: the size that pretrained encoders are used to."
    else:
        size, cause = _by_images(seen.typical)
        reason = f"{_text(size)} px: {cause}."
    return size, reason, _warnings(seen, size, encoder)


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


def _asked(asked: Sequence[int] | int, largest: int) -> tuple[int, int]:
    sides = [asked, asked] if isinstance(asked, int) else list(asked)
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if len(sides) != 2 or not whole or not all(LEAST <= side <= largest for side in sides):
        raise ValueError(
            f"image_size: expected height and width, or one number for both, from {LEAST} to {largest} px, got {asked}"
        )
    return sides[0], sides[1]


def _warnings(seen: ImagesSeen, size: tuple[int, int], encoder: str | None) -> list[str]:
    found = []
    if encoder is not None:
        times = max(seen.typical) / max(size)
        if times > 2:
            found.append(
                f"Images are reduced {times:.1f} times: what is smaller than {math.ceil(2 * times)} px in them is "
                f"lost. --image-size keeps more, up to {LARGEST_ENCODED}, and takes longer by the number of pixels."
            )
    elif max(seen.typical) > LARGE and max(size) <= LARGE:
        times = max(seen.typical) / max(size)
        found.append(
            f"Images are reduced {times:.1f} times: what is smaller than {math.ceil(2 * times)} px in them is lost. "
            + LARGE_IMAGES
        )
    elif max(size) > LARGE:
        found.append(f"{_text(size)} px take long to train on a CPU. {LARGE_IMAGES}")
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
