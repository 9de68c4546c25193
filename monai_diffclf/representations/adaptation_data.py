# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What an adaptation is told and given: checked before its first step, and described in the state that it keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from .._checks import check_floating, check_integer, check_labels, check_number, plain_tensor
from ..data.data_description import contents_hash, items_hash
from .encoder import Encoder
from .representation_space import AMP_DTYPES
from .transform_steps import describe_steps

__all__ = ["about_training", "check_data", "check_numbers", "datalist_of", "entry", "images_of"]


def about_training(
    encoder: Encoder,
    train: Dataset[Any],
    validation: Dataset[Any] | None,
    num_classes: int,
    amp_dtype: torch.dtype | None,
    *,
    kept: bool,
) -> dict[str, Any]:
    """What a training is of: a state that is kept belongs to no other images, labels, transforms or encoder.

    Raises:
        ValueError: when a state is to be kept of transforms that cannot be told from others.
    """
    items, judged = datalist_of(train), getattr(validation, "data", None)
    judged = judged if isinstance(judged, Sequence) and judged else None
    found = {
        "images": len(items),
        "train_data": items_hash(items),
        "validation_data": None if judged is None else items_hash(judged),
        "encoder": encoder.version,
        "num_classes": int(num_classes),
        "amp_dtype": None if amp_dtype is None else str(amp_dtype).removeprefix("torch."),
    }
    if kept:
        for name, dataset, data in (("train", train, items), ("validation", validation, judged)):
            if data is not None:
                found[f"{name}_images"] = contents_hash(data)
                found[f"{name}_transform"] = describe_steps(getattr(dataset, "transform", None))
    return found


def datalist_of(dataset: Dataset[Any]) -> Sequence[Mapping[str, Any]]:
    """The datalist of a MONAI dataset.

    Raises:
        TypeError: when it has none.
    """
    items = getattr(dataset, "data", None)
    if not isinstance(items, Sequence) or not items or not all(isinstance(item, Mapping) for item in items):
        raise TypeError(
            f"train_dataset: expected a MONAI dataset of a datalist, items with 'label', got {type(dataset).__name__}"
        )
    return items


def check_numbers(
    num_classes: Any,
    learning_rate: Any,
    weight_decay: Any,
    label_smoothing: Any,
    dropout: Any,
    seed: Any,
    num_workers: Any,
    amp_dtype: Any,
) -> None:
    """Refuse numbers that no training can have.

    Raises:
        ValueError: naming the argument.
    """
    check_number(learning_rate, "learning_rate", "a positive number", lambda rate: 0 < rate < math.inf)
    check_number(weight_decay, "weight_decay", "a number of at least 0", lambda decay: 0 <= decay < math.inf)
    for name, share in (("label_smoothing", label_smoothing), ("dropout", dropout)):
        check_number(share, name, "a number in [0, 1)", lambda value: 0 <= value < 1)
    for name, value, least in (("num_classes", num_classes, 1), ("seed", seed, 0), ("num_workers", num_workers, 0)):
        check_integer(value, name, least)
    if amp_dtype not in AMP_DTYPES:
        raise ValueError(f"amp_dtype: expected None, torch.bfloat16 or torch.float16, got {amp_dtype!r}")


def check_data(encoder: Any, train: Dataset[Any], validation: Dataset[Any] | None, num_classes: int) -> None:
    """Refuse before the first step what would end the training in its first epoch.

    Raises:
        TypeError: when the encoder is none, or the training set has no datalist.
        ValueError: when the validation set is empty, or a label is missing or no class.
    """
    if not isinstance(encoder, Encoder):
        raise TypeError(f"encoder: expected an Encoder, see make_encoder, got {type(encoder).__name__}")
    known = {"train_dataset": datalist_of(train)}
    if validation is not None:
        items = getattr(validation, "data", None)
        if (items is not None and len(items) == 0) or getattr(validation, "__len__", lambda: 1)() == 0:
            raise ValueError("validation_dataset: expected at least one image, got none; None leaves validation out")
        if isinstance(items, Sequence) and all(isinstance(item, Mapping) for item in items):
            known["validation_dataset"] = items
    for name, items in known.items():
        check_labels([entry(item, "label", name) for item in items], num_classes, len(items), name=name)


def entry(item: Any, key: str, name: str) -> Any:
    """What an item, or a batch of them, has under a key.

    Raises:
        ValueError: when it has nothing there.
    """
    if not isinstance(item, Mapping) or item.get(key) is None:
        got = f"one with {sorted(map(str, item))}" if isinstance(item, Mapping) else type(item).__name__
        raise ValueError(f"{name}: expected items with {key!r}, got {got}; leave the others out")
    return item[key]


def images_of(batch: Mapping[str, Any], device: torch.device, name: str) -> torch.Tensor:
    """Images on the device; in channels-last order, in which convolutions of a plane are fastest."""
    given = check_floating(entry(batch, "image", name), f"{name}: images", "[B, C, *spatial]", "values in [-1, 1]")
    images = plain_tensor(given).float().to(device)
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
