# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What all parts refuse, said once. Imports nothing of ours, so that every part may import it."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "check_eval_mode",
    "check_findings",
    "check_floating",
    "check_folds",
    "check_images",
    "check_integer",
    "check_labels",
    "check_number",
    "check_probabilities",
    "check_scale",
    "plain_tensor",
]


def plain_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The same values without what a subclass carries along, such as MONAI's `MetaTensor`.

    Example:
        >>> from monai.data import MetaTensor
        >>> type(plain_tensor(MetaTensor(torch.zeros(2)))), type(plain_tensor(torch.zeros(2)))
        (<class 'torch.Tensor'>, <class 'torch.Tensor'>)
    """
    return tensor if type(tensor) is torch.Tensor else tensor.as_subclass(torch.Tensor)


def check_eval_mode(network: Any) -> None:
    """Refuse a network of which any module is in training mode; callables without modules have none.

    Layers of einops, which know no modes, come out of a copy (`copy.deepcopy`) in training mode and do not count.

    Raises:
        ValueError: when it is.
    """
    if isinstance(network, torch.nn.Module) and any(
        module.training for module in network.modules() if not type(module).__module__.startswith("einops.")
    ):
        raise ValueError(
            "network: expected eval mode, got training mode; call network.eval(), as dropout changes what it predicts"
        )


def check_integer(value: Any, name: str, least: int = 1) -> int:
    """A whole number that is large enough, NumPy's too, as Python's own; True and False are none.

    Args:
        value: what was given.
        name: the argument's name.
        least: the smallest that is allowed.

    Raises:
        ValueError: when it is none.

    Example:
        >>> check_integer(np.int64(3), "num_draws")
        3
        >>> check_integer(2.0, "num_draws")
        Traceback (most recent call last):
        ValueError: num_draws: expected a positive integer, got 2.0
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return int(value)


def check_number(value: Any, name: str, expected: str, fits: Callable[[float], bool]) -> float:
    """A number that fits, as a float; True and False are none.

    Args:
        value: what was given.
        name: the argument's name.
        expected: what it should be, for the message.
        fits: says of a number whether it is one; of NaN it must say no.

    Raises:
        ValueError: when it is none.

    Example:
        >>> check_number("0.2", "dropout", "a number in [0, 1)", lambda share: 0 <= share < 1)
        Traceback (most recent call last):
        ValueError: dropout: expected a number in [0, 1), got '0.2'
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not fits(float(value)):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return float(value)


def check_floating(tensor: Any, name: str, shape: str, what: str) -> torch.Tensor:
    """Refuse what is no dense tensor of real floating point values.

    Args:
        tensor: what was given.
        name: the argument's name.
        shape: its shape in words, such as ``"[B, K]"``.
        what: what its values are, for the message.

    Raises:
        TypeError: when it is none.

    Example:
        >>> check_floating(torch.zeros(1, 2).long(), "members[0]", "[n, K]", "probabilities")
        Traceback (most recent call last):
        TypeError: members[0]: expected floating point probabilities, got torch.int64
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name}: expected a Tensor {shape}, got {type(tensor).__name__}; torch.as_tensor makes one")
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: expected floating point {what}, got {tensor.dtype}")
    if tensor.layout is not torch.strided or tensor.is_meta:
        got = "one on the device meta, without values" if tensor.is_meta else str(tensor.layout)
        raise TypeError(f"{name}: expected a dense Tensor {shape}, got {got}")
    return tensor


def check_scale(images: torch.Tensor, low: float, high: float, *, room: float, reader: str, remedy: str) -> None:
    """Refuse images that are not finite, or of plainly another scale. The device is waited for once.

    Args:
        images: floating point values; of none nothing is said.
        low: least value that is expected.
        high: largest value that is expected.
        room: how far beyond both a value may be.
        reader: who expects them, for the message.
        remedy: what to do.

    Raises:
        ValueError: when a value is further out, or NaN.
    """
    if images.numel() == 0:
        return
    least, most = torch.stack(torch.aminmax(images.detach())).tolist()
    if not (low - room <= least and most <= high + room):  # so that NaN is wrong too
        raise ValueError(
            f"images: expected values from {low:g} to {high:g}, as {reader}, got {least:g} to {most:g}; {remedy}"
        )


def check_images(images: torch.Tensor, network: Any, *, min_images: int = 0, tokens: bool = False) -> torch.Tensor:
    """Refuse what would give a wrong answer; return a plain tensor, float32 or float64 as given.

    Args:
        images: images [B, C, *spatial], 2D or 3D, floating point.
        network: the network that they are for.
        min_images: least number of images B.
        tokens: whether they may be latents with a single axis [B, C, T], too.

    Raises:
        TypeError: when the images are no floating point tensor.
        ValueError: when the network is in training mode, or the images are not finite or of the wrong shape.

    Example:
        >>> check_images(torch.zeros(2, 1, 4, 4, dtype=torch.float16), torch.nn.Identity().eval()).dtype
        torch.float32
    """
    check_eval_mode(network)
    check_floating(images, "images", "[B, C, *spatial]", "values scaled as in training")
    if images.ndim not in ((3, 4, 5) if tokens else (4, 5)) or 0 in images.shape[1:] or len(images) < min_images:
        raise ValueError(f"images: expected shape [B, C, H, W] or [B, C, H, W, D], got {list(images.shape)}")
    images = plain_tensor(images).detach()
    images = images if images.dtype == torch.float64 else images.float()
    if not bool(torch.isfinite(images).all()):
        bad = (~torch.isfinite(images)).flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"images: expected finite values, got NaN or infinity in image(s) {bad[:10]} of the batch")
    return images


def check_labels(
    labels: Any, num_classes: int | None, num_images: int | None = None, *, name: str = "labels"
) -> NDArray[np.int64]:
    """Class numbers [N] as an array, from a tensor, an array or a sequence.

    Args:
        labels: one whole number an image, of any type [N] or [N, 1].
        num_classes: number of classes K, None where any number from 0 may be one.
        num_images: number of images N, None for any number of at least one.
        name: what the caller calls them.

    Raises:
        TypeError: when they are no numbers.
        ValueError: when there is not one class an image.

    Example:
        >>> check_labels(torch.tensor([[0.0], [1.0]]), num_classes=2, num_images=2)
        array([0, 1])
    """
    given = _array(labels)
    values = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    if values.ndim != 1 or len(values) != (max(1, len(values)) if num_images is None else num_images):
        wanted = "N" if num_images is None else num_images
        raise ValueError(f"{name}: expected one class an image, [{wanted}], got {list(given.shape)}")
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected class numbers, got {values.dtype}")
    # Written so that NaN is wrong too.
    limit = np.inf if num_classes is None else num_classes
    wrong = ~((values >= 0) & (values < limit) & (values == np.floor(values)))
    if wrong.any():
        known = "0, 1, ..." if num_classes is None else f"from 0 to {num_classes - 1}"
        first = int(wrong.argmax())
        raise ValueError(
            f"{name}: expected class numbers {known}, got {values[first]} in {int(wrong.sum())} image(s), the first at "
            f"{first}{'; leave images without a class out' if values[first] < 0 else ''}"
        )
    return values.astype(np.int64)


def check_folds(num_folds: Any, most: int | None) -> int:
    """A number of folds of a cross-validation.

    Args:
        num_folds: what was given.
        most: how many there may be, by the number of patients or of images of a class; None for any number.

    Raises:
        ValueError: when it is no whole number from 2 to ``most``.
    """
    if most is not None and most < 2:
        raise ValueError(f"num_folds: expected patients and images of a class for at least 2 folds, got {most}")
    whole = isinstance(num_folds, Integral) and not isinstance(num_folds, bool)
    if not whole or not 2 <= num_folds <= (most or num_folds):
        limit = "of at least 2" if most is None else f"from 2 to {most}, by patients and images of a class"
        raise ValueError(f"num_folds: expected a whole number {limit}, got {num_folds!r}")
    return int(num_folds)


def check_findings(
    labels: Any, num_findings: int, num_images: int | None = None, *, name: str = "labels"
) -> NDArray[np.int64]:
    """States of the findings of each image [N, L] as an array: 0 absent, 1 present, 2 unknown.

    Args:
        labels: a tensor, an array or sequences of whole numbers [N, L].
        num_findings: number of findings L.
        num_images: number of images N, None for any number.
        name: what the caller calls them.

    Raises:
        TypeError: when they are no numbers.
        ValueError: when they are of another shape, or not 0, 1 or 2.

    Example:
        >>> check_findings([[0, 1, 2]], num_findings=2)
        Traceback (most recent call last):
        ValueError: labels: expected a state for each of the 2 findings of an image, [N, 2], got [1, 3]
    """
    try:
        values = _array(labels)
    except ValueError:  # rows of different lengths
        values = np.empty(0)
    wanted = "N" if num_images is None else num_images
    if (
        values.ndim != 2
        or values.shape[1] != num_findings
        or len(values) != (len(values) if num_images is None else num_images)
    ):
        raise ValueError(
            f"{name}: expected a state for each of the {num_findings} findings of an image, [{wanted}, "
            f"{num_findings}], got {list(values.shape)}"
        )
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected states 0 absent, 1 present or 2 unknown, got {values.dtype}")
    wrong = ~np.isin(values, (0, 1, 2))
    if wrong.any():
        image, finding = (int(place) for place in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}: expected 0 absent, 1 present or 2 unknown, got {values[image, finding]} for finding {finding} of "
            f"image {image}; choose what an uncertain or missing label counts as"
        )
    return values.astype(np.int64)


def check_probabilities(probabilities: Any, *, name: str = "probabilities") -> NDArray[np.float64]:
    """Class probabilities [B, K] as an array, from a tensor, an array or a sequence.

    Rows may be off 1 by 0.01, as half precision leaves sums off by a few thousandths; they are left as they are.

    Raises:
        ValueError: when they are of another shape, or not numbers of at least 0 that sum to 1.

    Example:
        >>> check_probabilities(torch.tensor([[0.25, 0.75]]))
        array([[0.25, 0.75]])
    """
    values = _array(probabilities).astype(np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"{name}: expected shape [B, K] with K >= 2, got {list(values.shape)}")
    # Written so that NaN is wrong too.
    wrong = ~((values.min(1) >= -1e-6) & (np.abs(values.sum(1) - 1) < 0.01))
    if wrong.any():
        raise ValueError(
            f"{name}: expected numbers in [0, 1] with rows that sum to 1, got {int(wrong.sum())} others, the first "
            f"{values[wrong][0].tolist()} (logits? apply softmax first)"
        )
    return np.clip(values, 0, None)


def _array(values: Any) -> NDArray[Any]:
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    plain = plain_tensor(values).detach().cpu()
    return (plain.double() if plain.dtype == torch.bfloat16 else plain).numpy()  # which NumPy does not know
