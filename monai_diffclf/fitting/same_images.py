# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether stored errors are of the images at hand, and of the network that is to be fitted."""

from __future__ import annotations

import os
import warnings

import torch

from .._spread import spread
from ..bundle import Bundle
from ..engines import compute_dataset_errors
from ..storage import StoredErrors

__all__ = ["OtherImagesError", "OtherNoiseError", "check_images", "check_network"]


class OtherImagesError(ValueError):
    """The validation images are at hand, and the errors are of none of them, such as those of test images."""


class OtherNoiseError(ValueError):
    """The errors were made with other noise than this version draws, so that images cannot be recognised by them."""


def check_network(stored: StoredErrors, network: str, path: str | os.PathLike[str]) -> None:
    """Refuse errors of another network than the bundle's.

    Raises:
        ValueError: when they are.

    Warns:
        UserWarning: when they do not say whose they are.
    """
    found = stored.provenance.get("network")
    if found is None:
        warnings.warn(f"{path} does not say which network made its errors; taken to be the bundle's", stacklevel=2)
    elif found != network:
        raise ValueError(
            f"{path}: expected errors of the bundle's network {network}, got those of {found}; evaluate the bundle anew"
        )


def check_images(bundle: Bundle, stored: StoredErrors, path: str | os.PathLike[str], *, count: int = 8) -> None:
    """Refuse validation images that are not those of the stored errors, by making some of them again.

    Args:
        bundle: opened with ``train.json`` and ``evaluate.json``, with the weights that made the errors.
        stored: errors of the validation images.
        path: where they are from, for messages.
        count: images that are looked at, spread over all.

    Raises:
        OtherImagesError: when none of them is among these.
        OtherNoiseError: when the errors are of other noise.
        ValueError: when they are others.
    """
    dataset = bundle.get("validate#dataset")
    chosen = spread(range(len(dataset)), count)
    inferer, network = bundle.get("evaluate#inferer"), bundle.get("evaluate#network")
    some = torch.utils.data.Subset(dataset, chosen)
    made = compute_dataset_errors(some, network, inferer=inferer, description=None)
    _check_same(made, stored, path, bundle, complete=len(dataset) == len(stored.keys))


def _check_same(
    made: StoredErrors, stored: StoredErrors, path: str | os.PathLike[str], bundle: Bundle, *, complete: bool
) -> None:
    """Refuse errors of some images, made again, that are not among those stored."""
    # A key names the pixels or the file: images that share it share their errors.
    place = {key: index for index, key in enumerate(made.keys)}
    known = [i for i, key in enumerate(stored.keys) if key in place]
    if not known:
        raise OtherImagesError(
            f"{path}: expected errors of the validation images in {bundle.get('dataset_dir')}, got those of other "
            "images, none of which is among them; evaluate again, or name the data set that was evaluated (--data)"
        )
    again = made.errors.values[[place[stored.keys[i]] for i in known]]
    was = stored.errors[torch.tensor(known, dtype=torch.long)]
    noise = [each.provenance.get("generator") for each in (stored, made)]
    if noise[0] != noise[1]:
        raise OtherNoiseError(
            f"{path}: expected errors made with the noise of this version ({noise[1]}), got those of "
            f"{noise[0] or 'an earlier one'}, by which validation images cannot be recognised; evaluate again"
        )
    # Other draws have other errors, of the same images too.
    same = again.shape == was.values.shape and not bool(was.differing(again).any())
    if not (complete and same and set(place) <= set(stored.keys)):
        raise ValueError(
            f"--data: expected the validation images that the errors in {path} are of, got others in "
            f"{bundle.get('dataset_dir')}; name the data set that was evaluated, or evaluate again"
        )
