# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How a class, and whatever else is known of an image, reach a network: as keyword arguments of its forward call.

A conditioning is a function of labels [n] that gives arguments with one row a label. If it has further parameters, it
takes the conditions of the same names that each image brings along, such as a covariate or a prompt of its own:
``conditioning(labels, age=...)`` with one row an evaluation each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as functional

__all__ = ["Conditioning", "Conditions", "class_labels", "class_table", "make_conditioning", "one_hot_context"]

Conditioning = Callable[..., dict[str, Any]]


def class_labels(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Labels as MONAI's ``class_labels``, for networks with ``num_class_embeds`` = K + 1 (index K is the null class).

    Example:
        >>> class_labels(torch.tensor([0, 2]))
        {'class_labels': tensor([0, 2])}
    """
    return {"class_labels": labels}


def one_hot_context(num_classes: int) -> Conditioning:
    """Labels as one cross-attention token, the one-hot vector of K + 1 entries (index K is the null class).

    For MONAI networks with ``with_conditioning=True, cross_attention_dim=num_classes + 1``. The attention's own
    projections then are the class embedding, so that every trained parameter belongs to the network (and hence to its
    EMA and checkpoint).

    Args:
        num_classes: number of classes K.

    Example:
        >>> one_hot_context(2)(torch.tensor([1]))["context"].tolist()
        [[[0.0, 1.0, 0.0]]]
    """

    def context(labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"context": functional.one_hot(labels, num_classes + 1).float()[:, None]}

    return context


def make_conditioning(conditioning: str | Conditioning, num_classes: int) -> Conditioning:
    """Look up a conditioning by its name, or take a callable as it is.

    Args:
        conditioning: ``"class_labels"``, ``"crossattn"``, or a callable from labels [B] to keyword arguments of the
            network.
        num_classes: number of classes K.

    Raises:
        ValueError: when the name is unknown.
        TypeError: when it is neither a name nor callable.
    """
    if callable(conditioning):
        return conditioning
    if not isinstance(conditioning, str):
        raise TypeError(f"conditioning: expected a name or a callable, got {type(conditioning).__name__}")
    if conditioning == "class_labels":
        return class_labels
    if conditioning == "crossattn":
        return one_hot_context(num_classes)
    raise ValueError(f"conditioning: expected 'class_labels', 'crossattn' or a callable, got {conditioning!r}")


def class_table(conditioning: Conditioning, num_classes: int, device: torch.device | str) -> dict[str, torch.Tensor]:
    """The network's arguments for each class, one row a class: made once, not at every evaluation.

    Args:
        conditioning: from labels [n] to keyword arguments of the network.
        num_classes: number of classes K.
        device: where the labels are.

    Raises:
        ValueError: when an argument does not have one row a class.
    """
    conditions = conditioning(torch.arange(num_classes, device=device))
    for name, table in conditions.items():
        if not isinstance(table, torch.Tensor) or table.shape[:1] != (num_classes,):
            got = list(table.shape) if isinstance(table, torch.Tensor) else type(table).__name__
            raise ValueError(f"conditioning: expected {name} with one row a label, [{num_classes}, ...], got {got}")
    return conditions


class Conditions:
    """The network's arguments for evaluations of some images under some classes.

    Args:
        conditioning: from labels [n], and the image conditions it has parameters for, to arguments of the network.
        num_classes: number of classes K.
        device: where the labels are.
        extra: further arguments. A tensor is a condition of each image, with one row an image [B, ...], and its rows go
            where the image goes; anything else reaches every call as it is.
        num_images: number of images B; None where tensors must not come.
        null_class: whether the null class, index K, is asked for too.

    Raises:
        ValueError: when a table or a condition has another number of rows, or an argument would be given twice.

    Example:
        >>> def conditioning(labels, age):
        ...     return {"context": torch.stack([labels.float(), age], dim=1)[:, None]}
        >>> conditions = Conditions(conditioning, 2, "cpu", extra={"age": torch.tensor([50.0, 70.0])}, num_images=2)
        >>> conditions(torch.tensor([0, 1]), torch.tensor([1, 1]))["context"].tolist()
        [[[0.0, 70.0]], [[1.0, 70.0]]]
    """

    def __init__(
        self,
        conditioning: Conditioning,
        num_classes: int,
        device: torch.device | str,
        *,
        extra: Mapping[str, Any] | None = None,
        num_images: int | None = None,
        null_class: bool = False,
    ) -> None:
        self.conditioning = conditioning
        taken = image_parameters(conditioning)
        rows, self.shared = split_conditions(extra or {}, num_images)
        self.of_images = {name: rows[name].to(device) for name in rows if name not in taken}
        self.taken = {name: rows[name].to(device) for name in taken if name in rows}
        if missing := [name for name in taken if name not in rows]:
            raise ValueError(f"conditioning: expected a tensor with one row an image for {missing}, got none")
        count = num_classes + null_class
        self.table = {} if self.taken else class_table(conditioning, count, device)
        if twice := sorted(self.table.keys() & {*self.of_images, *self.shared}):
            raise ValueError(
                f"{', '.join(twice)}: expected once, got it from the conditioning and from the call; a conditioning "
                "with a parameter of that name takes it and can combine the two"
            )

    def __call__(self, labels: torch.Tensor, image: torch.Tensor | None = None) -> dict[str, Any]:
        """Arguments of some evaluations.

        Args:
            labels: class of each evaluation [n].
            image: index of each evaluation's image [n]; None where images bring no conditions.
        """
        if self.taken and image is not None:
            own = self.conditioning(labels, **{name: rows[image] for name, rows in self.taken.items()})
        else:
            own = {name: table[labels] for name, table in self.table.items()}
        if image is not None:
            own = {**own, **{name: rows[image] for name, rows in self.of_images.items()}}
        return {**own, **self.shared}


def image_parameters(conditioning: Conditioning) -> list[str]:
    """Names of a conditioning's parameters without a default after the labels: conditions that images bring along."""
    try:
        parameters = list(inspect.signature(conditioning).parameters.values())[1:]
    except (TypeError, ValueError):  # a callable without a signature
        return []
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [each.name for each in parameters if each.kind in kinds and each.default is inspect.Parameter.empty]


def split_conditions(
    extra: Mapping[str, Any], num_images: int | None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Conditions of each image, tensors with one row an image, and the arguments that all calls share.

    Raises:
        ValueError: when a tensor has another number of rows.
    """
    rows = {name: value for name, value in extra.items() if isinstance(value, torch.Tensor)}
    for name, value in rows.items():
        if value.shape[:1] != (num_images,):
            raise ValueError(
                f"{name}: expected one row an image, [{num_images}, ...], got {list(value.shape)}; what is the same "
                "for all images can be repeated with expand"
            )
    return rows, {name: value for name, value in extra.items() if name not in rows}
