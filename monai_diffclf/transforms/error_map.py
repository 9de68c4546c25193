# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Post-transform that turns an evaluator's error maps into one map of the predicted class, ready to be saved."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import CommonKeys, MetaKeys, ensure_tuple_rep

from .._checks import plain_tensor
from ..explain import decision_map, overlay
from ..keys import NamedValues, OutputKeys, with_old_names

__all__ = ["ErrorMap", "ErrorMapD", "ErrorMapDict", "ErrorMapd"]

KINDS = ("signed", "unit", "overlay")


class ErrorMap(Transform):
    """How much each pixel contributed to the decision for the predicted class over its rival [1, *spatial].

    See :func:`monai_diffclf.explain.decision_map`: positive where the predicted class denoises better.

    Args:
        kind: ``"signed"``: the differences as they are, for formats with signs such as NIfTI. ``"unit"``: in [0, 1],
            1/2 + d / (2 max |d|), so that 1/2 speaks for no class, for PNG. ``"overlay"``: a colour picture
            [3, *spatial] in [0, 1] of the map over the 2D image, see :func:`monai_diffclf.explain.overlay`, for PNG.

    Raises:
        ValueError: when ``kind`` is unknown; when called, if the shapes do not fit or an image is needed.

    Example:
        >>> maps = torch.tensor([[[1.0, 2.0]], [[3.0, 1.0]]])
        >>> ErrorMap()(maps, torch.tensor([0.9, 0.1])).tolist()
        [[[2.0, -1.0]]]
        >>> ErrorMap("unit")(maps, torch.tensor([0.9, 0.1])).tolist()
        [[[1.0, 0.25]]]
    """

    def __init__(self, kind: str = "signed") -> None:
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {list(KINDS)}, got {kind!r}")
        self.kind = kind

    def __call__(  # type: ignore[override]
        self, error_maps: torch.Tensor, prediction: torch.Tensor, image: torch.Tensor | None = None
    ) -> MetaTensor:
        """The map of one image.

        Args:
            error_maps: error of each pixel under each class [K, *spatial].
            prediction: class probabilities [K], or the predicted class as one number.
            image: the image [C, *spatial], for the overlay in [-1, 1]. The map takes over its metadata, so that it is
                saved in the image's grid under its name.
        """
        maps = plain_tensor(torch.as_tensor(error_maps)).detach()
        scores = torch.as_tensor(prediction)
        if scores.numel() not in (1, len(maps)):
            raise ValueError(
                f"prediction: expected {len(maps)} probabilities, as many as there are maps, or one class; "
                f"got shape {list(scores.shape)}"
            )
        predicted = scores.flatten().argmax() if scores.numel() > 1 else scores.flatten()[0]
        difference = decision_map(maps[None], predicted.reshape(1))
        if self.kind == "overlay":
            difference = self._overlay(difference[0], image)
        elif self.kind == "unit":
            difference = 0.5 + difference / (2 * difference.abs().max().clamp(min=1e-30))
        if not isinstance(image, MetaTensor):
            return MetaTensor(difference)
        meta = dict(image.meta)
        if MetaKeys.ORIGINAL_CHANNEL_DIM not in meta:
            # Not read by MONAI: its own size is that of the whole image, to which a writer must not stretch the map.
            meta["spatial_shape"] = np.asarray(difference.shape[1:])
            if difference.ndim == 3 and bool((torch.as_tensor(image.affine)[2, :2] != 0).any()):
                # MONAI's writers keep two coordinates of a plane: better no place than a wrong one, or none at all.
                meta.pop(MetaKeys.AFFINE, None)
        return MetaTensor(difference, meta=meta, applied_operations=list(image.applied_operations))

    @staticmethod
    def _overlay(difference: torch.Tensor, image: torch.Tensor | None) -> torch.Tensor:
        if image is None or difference.ndim != 2:
            given = "no image" if image is None else f"a map of {difference.ndim} dimensions"
            raise ValueError(f"kind: an overlay needs the 2D image, got {given}; use 'signed' or 'unit'")
        grey = (torch.as_tensor(image).detach().float().cpu().numpy() + 1) / 2
        picture = overlay(grey, difference.float().cpu().numpy(), size=1)
        return torch.as_tensor(picture, dtype=torch.float32, device=difference.device).permute(2, 0, 1).contiguous()


class ErrorMapd(MapTransform):
    """Dictionary form of `ErrorMap`, a post-transform for a `DiffusionClassifierEvaluator`; `SaveImaged` saves it.

    The map is in the grid of the image that the network saw and has its metadata and its trace:
    ``Invertd("decision_map", preprocessing, orig_keys="image", nearest_interp=False)`` brings it back to the upright
    image in its own size, and ``SaveImaged("decision_map", resample=True, ...)`` to the file's grid, where MONAI's
    reader read the image. MONAI writes planes with two of their three coordinates, so that a NIfTI file lies on its
    image if that is axial or a picture; for others there is :func:`monai_diffclf.monailabel.map_file.write_map`. For
    PNG use the kinds ``"unit"`` and ``"overlay"`` with ``output_ext=".png", output_dtype="uint8", scale=255``, and
    after `ReadImaged`, whose images are upright, ``.set_options(write_kwargs={"reverse_indexing": False})``: MONAI's
    writer turns them otherwise.

    Args:
        keys: key of the error maps [K, *spatial]; of several findings [L, 2, *spatial], whose map is [L, *spatial].
        pred_key: key of the class probabilities [K] or of the predicted class.
        image_key: key of the image; the map takes over its metadata.
        output_key: key of the map, `OutputKeys.DECISION_MAP`; under this key the map is there as ``"error_map"`` too,
            as it was called.
        kind: see `ErrorMap`.
        allow_missing_keys: leave an item without error maps as it is instead of raising.

    Raises:
        ValueError: when an item has no error maps; see also `ErrorMap`.

    Example:
        >>> item = {"error_maps": torch.rand(2, 8, 6), "pred": torch.tensor([0.3, 0.7]), "image": torch.zeros(1, 8, 6)}
        >>> tuple(ErrorMapd()(item)["decision_map"].shape)
        (1, 8, 6)
    """

    def __init__(
        self,
        keys: KeysCollection = OutputKeys.ERROR_MAPS,
        pred_key: str = CommonKeys.PRED,
        *,
        image_key: str = CommonKeys.IMAGE,
        output_key: KeysCollection = OutputKeys.DECISION_MAP,
        kind: str = "signed",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = ensure_tuple_rep(output_key, len(self.keys))
        self.pred_key, self.image_key = pred_key, image_key
        self.paint = ErrorMap(kind)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the map to an item."""
        item: dict[Any, Any] = dict(data)
        known: dict[Any, Any] = NamedValues(item)
        for key, output_key in zip(self.keys, self.output_keys, strict=True):
            if key in known:
                painted = self._painted(known, key)
                item.update(with_old_names({output_key: painted}))
            elif not self.allow_missing_keys:
                raise ValueError(
                    f"{key}: expected error maps in the output, got none; they need all draws, so give the evaluator "
                    "explain=True, no journal, and its inferer no stopping rule"
                )
        return item

    def _painted(self, item: Mapping[Any, Any], key: Hashable) -> torch.Tensor:
        """The map of an item; of several findings one each, positive where it is seen, whatever was predicted."""
        image = item.get(self.image_key)
        if not item.get(OutputKeys.MULTI_LABEL):
            return self.paint(item[key], item[self.pred_key], image)
        if self.paint.kind == "overlay":
            raise ValueError("kind: expected 'signed' or 'unit' for several findings, got 'overlay'")
        return torch.cat([self.paint(maps, torch.tensor(1), image) for maps in torch.as_tensor(item[key])])


ErrorMapD = ErrorMapDict = ErrorMapd
