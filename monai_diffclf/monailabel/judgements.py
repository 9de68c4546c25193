# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What readers say of images, stored in MONAI Label's datastore, and how far they are."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from .hand_out import BAD, READING, UNSURE

__all__ = ["TAG", "VERDICTS", "Judgement", "progress", "store_judgement"]

TAG = "final"  # of the labels that MONAI Label counts as done
VERDICTS = ("label", UNSURE, "skip", BAD)


@dataclass(frozen=True)
class Judgement:
    """What a reader said of an image.

    Args:
        image: the image's id.
        reader: who.
        verdict: one of `VERDICTS`.
        label: the class, of the verdict ``label``.
        model: which model's answer was there, and what it ``predicted``, with which ``probability``; None if none was.
        predicted: see above.
        probability: see above.
        shown: whether the reader saw the answer.
        seconds: how long the reader looked.
    """

    image: str
    reader: str
    verdict: str
    label: str | None = None
    model: str | None = None
    predicted: str | None = None
    probability: float | None = None
    shown: bool = True
    seconds: float | None = None

    def record(self) -> dict[str, Any]:
        """What is stored with the label."""
        fields = ("reader", "model", "predicted", "probability", "shown", "seconds")
        return {name: getattr(self, name) for name in fields if getattr(self, name) is not None}


def store_judgement(datastore: Any, said: Judgement, user: str) -> str:
    """Store a label by the datastore's own way, or that an image is bad or its reader unsure; a skip leaves no trace.

    Args:
        datastore: MONAI Label's datastore.
        said: the judgement.
        user: MONAI Label's user.

    Returns:
        the label's id; "" if none was stored.

    Raises:
        HTTPException: when there is no such image, or the label is none of the classes.
    """
    if said.image not in datastore.list_images():
        raise HTTPException(404, f"image: expected the id of an image in the datastore, got {said.image!r}")
    if said.verdict == "label":
        info = {"user": user, READING: said.record()}
        with tempfile.TemporaryDirectory(prefix="label_") as folder:
            file = Path(folder, "label.json")
            file.write_text(json.dumps({"label": said.label}))
            return str(datastore.save_label(said.image, str(file), TAG, info))
    if said.verdict in (UNSURE, BAD):
        known = datastore.get_image_info(said.image).get(READING)
        verdicts = dict(known) if isinstance(known, dict) else {}
        verdicts[said.reader] = {"verdict": said.verdict, "user": user, "ts": int(time.time()), **said.record()}
        datastore.update_image_info(said.image, {READING: verdicts})
    return ""


def progress(datastore: Any) -> dict[str, Any]:
    """How many images are ``labelled``, ``left``, ``bad`` and ``unsure``; agreement of labels with the model.

    Agreement is over the labels of readers who had a model's answer on the page: ``same`` of ``compared``.
    """
    unlabelled = set(datastore.get_unlabeled_images())
    counts = {"labelled": 0, "left": len(unlabelled), "bad": 0, "unsure": 0, "same": 0, "compared": 0}
    for image, entry in datastore.json().get("objects", {}).items():
        label = (entry.get("labels") or {}).get(TAG)
        if label is None or image in unlabelled:
            said = (entry.get("image", {}).get("info") or {}).get(READING)
            verdicts = {one.get("verdict") for one in said.values()} if isinstance(said, dict) else set()
            counts["bad"] += BAD in verdicts
            counts["unsure"] += UNSURE in verdicts and BAD not in verdicts
            continue
        counts["labelled"] += 1
        info = label.get("info") or {}
        read = info.get(READING)
        if isinstance(read, dict) and read.get("predicted") is not None:
            counts["compared"] += 1
            counts["same"] += info.get("label") == read["predicted"]
    counts["left"] -= counts["bad"]
    return counts
