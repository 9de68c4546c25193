# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Several readers at once: each gets images of its own, and an image that is not answered comes back after a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from threading import RLock
from typing import Any

__all__ = ["HAND_OUT_SECONDS", "READING", "HandOut", "WithoutImages"]

HAND_OUT_SECONDS = 600.0  # for which an image is one reader's
READING = "reading"  # key of what readers said, in an image's or a label's info
BAD, UNSURE = "bad image", "unsure"


class WithoutImages:
    """A datastore some of whose unlabelled images are not there, for any strategy that chooses among them.

    Args:
        datastore: MONAI Label's datastore.
        hidden: ids of the images that are left out.
    """

    def __init__(self, datastore: Any, hidden: Collection[str]) -> None:
        self._datastore, self._hidden = datastore, frozenset(hidden)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_datastore" not in self.__dict__:  # a copy or pickle asks before there is one
            raise AttributeError(name)
        return getattr(self._datastore, name)

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The ids of the images without a final label, but for the hidden ones."""
        found = self._datastore.get_unlabeled_images(label_tag, labels)
        return [image for image in found if image not in self._hidden]


class HandOut:
    """Which reader has which image.

    Args:
        seconds: for how long an image is one reader's, from its hand-out or the last sign of life.
        clock: gives the time in seconds.

    Example:
        >>> hand_out = HandOut()
        >>> hand_out.take("ann", "image1")
        >>> hand_out.hidden_from("bob"), hand_out.hidden_from("ann")
        ({'image1'}, set())
    """

    def __init__(self, seconds: float = HAND_OUT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._held: dict[str, tuple[str, float]] = {}  # image -> reader, end
        self._skipped: dict[str, dict[str, float]] = {}  # reader -> image -> end
        self._lock = RLock()

    def choose(
        self,
        reader: str,
        datastore: Any,
        strategy: Callable[[Any], dict[str, Any] | None],
        exclude: Collection[str] = (),
    ) -> dict[str, Any] | None:
        """Let a strategy choose among the images that a reader may get, and hand the chosen one out.

        Args:
            reader: who asks; "" for someone unknown, who holds nothing.
            datastore: the images.
            strategy: gets the datastore without the others' images, gives ``id`` and more, or None.
            exclude: further images that are not to be chosen.
        """
        with self._lock:
            hidden = self.hidden_from(reader) | set(exclude) | judged(datastore, reader)
            chosen = strategy(WithoutImages(datastore, hidden))
            if chosen and reader:
                self.take(reader, str(chosen["id"]))
            return chosen

    def take(self, reader: str, image: str) -> None:
        """Give an image to a reader, whose other images stay theirs for as long again."""
        with self._lock:
            end = self._clock() + self.seconds
            for other, (holder, _) in list(self._held.items()):
                if holder == reader:
                    self._held[other] = (reader, end)
            self._held[image] = (reader, end)

    def release(self, reader: str, image: str) -> None:
        """Take an image back, answered or not; another reader's stays theirs."""
        with self._lock:
            if self._held.get(image, ("", 0.0))[0] == reader:
                del self._held[image]

    def skip(self, reader: str, image: str) -> None:
        """Take an image back that its reader does not want to see for the time of a hand-out; others may get it."""
        with self._lock:
            self.release(reader, image)
            self._skipped.setdefault(reader, {})[image] = self._clock() + self.seconds

    def hidden_from(self, reader: str) -> set[str]:
        """Images that a reader must not get: those that others have, and those it skipped."""
        with self._lock:
            now = self._clock()
            self._held = {image: held for image, held in self._held.items() if held[1] > now}
            skipped = {image: end for image, end in self._skipped.pop(reader, {}).items() if end > now}
            if skipped:
                self._skipped[reader] = skipped
            return {image for image, (holder, _) in self._held.items() if holder != reader} | set(skipped)


def judged(datastore: Any, reader: str) -> set[str]:
    """Unlabelled images that a reader need not see again: bad ones, and those of which it was unsure itself."""
    found = set()
    for image in datastore.get_unlabeled_images():
        said = datastore.get_image_info(image).get(READING)
        verdicts = {who: one.get("verdict") for who, one in said.items()} if isinstance(said, dict) else {}
        if BAD in verdicts.values() or verdicts.get(reader) == UNSURE:
            found.add(image)
    return found
