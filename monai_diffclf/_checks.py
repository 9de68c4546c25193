# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What all parts refuse, said once. Imports nothing of ours, so that every part may import it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "check_eval_mode",
    "check_findings",
    "check_images",
    "check_labels",
    "check_probabilities",
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
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"images: expected a Tensor [B, C, *spatial], got {type(images).__name__}")
    if images.ndim not in ((3, 4, 5) if tokens else (4, 5)) or 0 in images.shape[1:] or len(images) < min_images:
        raise ValueError(f"images: expected shape [B, C, H, W] or [B, C, H, W, D], got {list(images.shape)}")
    if not images.is_floating_point():
        raise TypeError(f"images: expected floating point values scaled as in training, got {images.dtype}")
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
