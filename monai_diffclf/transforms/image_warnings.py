# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Post-transform that gathers what may be wrong with an image itself, so that it stands beside the image's class."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import CommonKeys, MetaKeys, TransformBackends

from .._lost_values import lost_values
from ..keys import OutputKeys
from ..storage.mean_image_file import load_mean_image
from ..uncertainty.mean_image import MeanImage

__all__ = ["ImageWarningsD", "ImageWarningsDict", "ImageWarningsd"]

MOSTLY = 0.5


class ImageWarningsd(MapTransform):
    """Add ``warnings``: text on what may be wrong with an image, "" if nothing, findings separated by "; ".

    It says what reading the image found (``meta["warnings"]``, see `monai_diffclf.image_io.image_warnings`), that few
    of the known images are as untypical (after `TypicalityScored`: ``ood_p_value`` below ``untypical``), and that the
    image looks inverted: its correlation with the mean of the known images is negative. The last needs no network; it
    found all negatives of the validation images of the shipped models and none of these images
    (benchmarks/results/inverted.json). Images of another kind are mostly found as well. Of an image that was read
    from a file it also says that scaling has left next to nothing of its values, as they are in other units than those
    of the training; of a volume that less than half of it lies where the network sees it.

    Args:
        keys: key of the image as the network saw it [C, *spatial].
        mean_image: what :func:`monai_diffclf.uncertainty.fit_mean_image` gave, or the path of a file of
            :func:`monai_diffclf.storage.save_uncertainty`, which may hold one; None to leave this out.
        provenance: what the mean image must have been fitted for, see :func:`monai_diffclf.storage.load_mean_image`.
        p_value_key: key of the p-value, read where it is there.
        untypical: p-value below which an image is called untypical.
        output_key: key of the text.
        allow_missing_keys: do not raise when the image is missing.

    Raises:
        ValueError: when the file cannot be read or is one of another model.

    Example:
        >>> from monai_diffclf.uncertainty import fit_mean_image
        >>> ramp = torch.linspace(-1, 1, 32).expand(1, 32, 32)
        >>> warn = ImageWarningsd("image", fit_mean_image(ramp[None]))
        >>> warn({"image": ramp})["warnings"]
        ''
        >>> warn({"image": -ramp})["warnings"]
        'looks inverted, or of another kind: its correlation with the mean of the known images is -1.00'
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own way to declare it

    def __init__(
        self,
        keys: KeysCollection = CommonKeys.IMAGE,
        mean_image: MeanImage | str | os.PathLike[str] | None = None,
        *,
        provenance: Mapping[str, Any] | None = None,
        p_value_key: str = OutputKeys.OOD_P_VALUE.value,
        untypical: float = 0.01,
        output_key: str = OutputKeys.WARNINGS.value,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys: expected one key, that of the image, got {list(self.keys)}")
        if not 0 < untypical < 1:
            raise ValueError(f"untypical: expected a share between 0 and 1, got {untypical!r}")
        if not isinstance(mean_image, MeanImage | None):
            mean_image = load_mean_image(mean_image, provenance=provenance)
        self.mean_image = mean_image
        self.p_value_key, self.untypical, self.output_key = p_value_key, untypical, output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the text to an item."""
        out = dict(data)
        found = []
        for key in self.key_iterator(out):
            found += _of_reading(out[key])
            if self.p_value_key in out and float(out[self.p_value_key]) < self.untypical:
                found.append(
                    f"untypical: p-value {float(out[self.p_value_key]):.2g} among the images that the model knows"
                )
            if self.mean_image is not None:
                image = torch.as_tensor(out[key]).detach()[None]
                correlation = float(self.mean_image.correlation(image))
                if correlation < 0:
                    found.append(
                        "looks inverted, or of another kind: its correlation with the mean of the known images is "
                        f"{correlation:.2f}"
                    )
        out[self.output_key] = "; ".join(text for text in found if text)
        return out


def _of_reading(image: Any) -> list[str]:
    """What reading an image found, and what was lost between its file and the network."""
    meta = getattr(image, "meta", {})
    if "warnings" not in meta:
        return []
    found = [str(meta["warnings"])]
    if "have the same value" not in found[0] and "has the same value" not in found[0]:
        lost = lost_values(image)
        found.append(lost and f"{lost}: a mask, or values in other units than those of the training")
    share = _share_seen(image) if image.ndim == 4 else 1.0
    if share < MOSTLY:
        found.append(f"the network sees {100 * share:.0f} % of the volume, around its centre; the rest is cut off")
    return found


def _share_seen(volume: Any) -> float:
    """The share of a volume's file that lies in what is left of it [C, X, Y, Z], by up to 32 voxels along each axis."""
    size, affine = volume.meta.get(MetaKeys.SPATIAL_SHAPE), volume.meta.get(MetaKeys.ORIGINAL_AFFINE)
    if size is None or affine is None:
        return 1.0
    axes = [np.linspace(0, int(n) - 1, min(int(n), 32)) for n in size]
    voxels = np.stack([*(axis.ravel() for axis in np.meshgrid(*axes)), np.ones(np.prod([len(a) for a in axes]))])
    places = (np.linalg.inv(np.asarray(volume.affine, np.float64)) @ np.asarray(affine, np.float64) @ voxels)[:3]
    end = np.asarray(volume.shape[1:], np.float64)[:, None] - 0.5
    return float(((places >= -0.5) & (places <= end)).all(0).mean())


ImageWarningsD = ImageWarningsDict = ImageWarningsd
