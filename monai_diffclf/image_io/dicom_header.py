# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a DICOM header says: empty elements are absent, and a frame's functional groups come before the image's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pydicom
from pydicom.datadict import tag_for_keyword

__all__ = ["FrameHeader", "field", "is_absent", "number_of_frames", "value_of"]


def is_absent(value: Any) -> bool:
    """Whether an element's value is none: not there, or of length 0 (type 2 elements and anonymised files).

    Example:
        >>> [is_absent(value) for value in (None, "", b"", [], 0, "LINEAR")]
        [True, True, True, True, False, False]
    """
    if value is None:
        return True
    return isinstance(value, str | bytes | Sequence) and len(value) == 0


def value_of(dataset: Any, name: str, default: Any = None) -> Any:
    """The value of an element, or the default where it is absent or empty.

    Raises:
        ValueError: naming the tag, when it holds what its kind cannot (letters for a number, say).
    """
    try:
        value = dataset.get(name)
    except Exception as error:  # pydicom parses a value when it is asked for, and raises whatever it meets
        raise ValueError(f"{field(name)} cannot be read: {error}") from error
    return default if is_absent(value) else value


def field(name: str) -> str:
    """Keyword and tag of an element, for messages.

    Example:
        >>> field("WindowCenter")
        'WindowCenter (0028,1050)'
    """
    return f"{name} {pydicom.tag.Tag(tag_for_keyword(name) or 0)}"


def number_of_frames(dataset: Any) -> int:
    """NumberOfFrames; one where it is absent, empty or 0.

    Raises:
        ValueError: when it is no number, or negative.
    """
    frames = value_of(dataset, "NumberOfFrames", 1)
    try:
        count = int(frames) or 1
    except (TypeError, ValueError):
        count = -1
    if count < 1:
        raise ValueError(f"expected a whole number of 1 or more in {field('NumberOfFrames')}, got {frames!r}")
    return count


class FrameHeader:
    """What the header says of one frame: its functional groups first, then the shared ones, then the image itself.

    PS3.3, C.7.6.16 (multi-frame functional groups).

    Args:
        dataset: the image.
        frame: index of the frame, from 0.
        warn: is given the text of each warning.
    """

    def __init__(self, dataset: Any, frame: int = 0, *, warn: Callable[[str], None] = warnings.warn) -> None:
        self.dataset = dataset
        self.frame = frame
        self.warn = warn
        frames = value_of(dataset, "PerFrameFunctionalGroupsSequence", ())
        self._groups = [*frames[frame : frame + 1], *value_of(dataset, "SharedFunctionalGroupsSequence", ())[:1]]

    def holders(self, macro: str) -> list[Any]:
        """The data sets that may hold the elements of a functional group, the most special first."""
        items = [item for group in self._groups for item in value_of(group, macro, ())[:1]]
        return [*items, self.dataset]

    def first(self, macro: str, names: Sequence[str]) -> Any:
        """The most special data set that holds a value of one of the names; the image itself if none does."""
        holders = self.holders(macro)
        return next((item for item in holders if any(value_of(item, name) is not None for name in names)), self.dataset)
