# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a client may ask of a training, checked; and which labels train and which judge."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.pneumonia_mnist import is_held_out
from .infer_request import device_of, flag_of, integer_of
from .labelled_images import LabelledImage
from .names import check_name

__all__ = ["HELD_BACK", "SERVE", "TrainRequest", "divide_labels", "parse_train_request"]

HELD_BACK = 0.25
"""Share of the patients whose labels judge and never train. Fixed, so that a label that judges once does so always."""

FEWEST_TRAIN, FEWEST_JUDGE = 5, 3
SERVE = ("better", "always", "never")
_MONAI_LABELS_OWN = ["model", "name", "description", "client_id", "user", "enqueue", "run_sync"]


@dataclass(frozen=True)
class TrainRequest:
    """The settings of one training; None stands for what is chosen for the number of labels.

    Args:
        pretrained: whether to go on from the served weights; else anew.
        max_epochs: passes through the labelled images.
        learning_rate: learning rate.
        seed: seed of all random numbers.
        device: ``cpu``, ``cuda:0``, ...
        tags: whose labels count; None for all but "original".
        margin: what the AUC on the held-back labels must gain for the new weights to be served.
        serve: ``better`` (by the margin), ``always`` or ``never``.
        ignored: parameters that mean nothing here.
    """

    pretrained: bool = True
    max_epochs: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    device: str | None = None
    tags: tuple[str, ...] | None = None
    margin: float = 0.01
    serve: str = "better"
    ignored: tuple[str, ...] = ()


def parse_train_request(params: Mapping[str, Any]) -> TrainRequest:
    """Check a request's parameters; lists that are choices count by their first entry, numbers may come as text.

    Raises:
        ValueError: naming the parameter, what was expected and what came.

    Example:
        >>> request = parse_train_request({"max_epochs": "20", "serve": ["never", "always"], "epoch": 3})
        >>> request.max_epochs, request.serve, request.ignored
        (20, 'never', ('epoch',))
    """
    first = {
        name: value[0] if isinstance(value, list) and value and name != "tags" else value
        for name, value in params.items()
    }
    given = {name: value for name, value in first.items() if value is not None}
    serve = given.get("serve", "better")
    if serve not in SERVE:
        raise ValueError(f"serve: expected one of {list(SERVE)}, got {serve!r}")
    ours = TrainRequest.__dataclass_fields__.keys() - {"ignored"}
    return TrainRequest(
        pretrained=flag_of(given, "pretrained", default=True),
        max_epochs=integer_of(given, "max_epochs", 1, 100_000),
        learning_rate=_number(given, "learning_rate", 1e-8, 1.0),
        seed=integer_of(given, "seed", 0, 2**31 - 1) or 0,
        device=device_of(given.get("device")),
        tags=_tags(given.get("tags")),
        margin=_number(given, "margin", 0.0, 1.0) or 0.0 if "margin" in given else TrainRequest.margin,
        serve=str(serve),
        ignored=tuple(sorted(given.keys() - ours - set(_MONAI_LABELS_OWN))),
    )


def divide_labels(
    items: Sequence[LabelledImage], classes: Sequence[str]
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Which labelled images train, and which are held back to judge by; images of a patient stay together.

    Held back is who is held out by a hash of the patient's name (of the image's id where there is none), as in
    :func:`monai_diffclf.data.pneumonia_mnist.is_held_out`: the same for ever, so that weights are never judged by what
    they, or those they began with, were trained on here.

    Raises:
        ValueError: when a class has no label, or too few of them.
    """
    judge = [item for item in items if is_held_out(_hashed(item.group), HELD_BACK)]
    kept = {item.id for item in judge}
    train = [item for item in items if item.id not in kept]
    if missing := [name for name in classes if name not in {item.label for item in items}]:
        raise ValueError(f"labels: expected some of each class, there are none of {missing}; label images of these too")
    for name in classes:
        there = [Counter(item.label for item in part)[name] for part in (train, judge)]
        if there[0] < FEWEST_TRAIN or there[1] < FEWEST_JUDGE:
            raise ValueError(
                f"labels: expected at least {FEWEST_TRAIN} of {name!r} to train on and {FEWEST_JUDGE} held back to "
                f"judge by, got {there[0]} and {there[1]}, as a quarter of the patients is held back; label more of it"
            )
    return train, judge


def _hashed(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()[:16]


def _number(given: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    if name not in given:
        return None
    try:
        value = float(given[name])
    except (TypeError, ValueError):
        value = float("nan")
    if isinstance(given[name], bool) or not low <= value <= high:
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {given[name]!r}")
    return value


def _tags(given: Any) -> tuple[str, ...] | None:
    if given is None or given == []:
        return None
    if not isinstance(given, list) or not all(isinstance(tag, str) for tag in given):
        raise ValueError(f"tags: expected a list of names, got {given!r}")
    return tuple(check_name(tag, "tags") for tag in given)
