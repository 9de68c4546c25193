# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI post-transform: how untypical an image is of the validation images, from its errors and the image itself."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import CommonKeys, TransformBackends, convert_to_tensor

from .._checks import plain_tensor
from ..keys import OutputKeys
from ..networks.latent_space import LatentSpace, check_latent_space, encode
from ..storage.uncertainty_file import load_part
from ..uncertainty.typicality import Typicality

__all__ = ["TypicalityScore", "TypicalityScoreD", "TypicalityScoreDict", "TypicalityScored"]


class TypicalityScore(Transform):
    """Out-of-distribution score and p-value of one image, from its errors [K, N] and the image itself.

    Args:
        typicality: what :func:`monai_diffclf.uncertainty.fit_typicality` gave, or the path of a file of
            :func:`monai_diffclf.storage.save_uncertainty`.
        rule: the inferer's rule, to read a file; not needed otherwise.
        provenance: what makes the errors, see :func:`monai_diffclf.storage.load_uncertainty`.
        latent_space: the inferer's space, which a typicality that was fitted with latents needs.

    Raises:
        TypeError: when ``typicality`` is neither.
        ValueError: when the file holds none, or was fitted for another model.

    Example:
        >>> from monai_diffclf.classification import DenoisingErrors
        >>> from monai_diffclf.uncertainty import fit_typicality
        >>> values = torch.rand(40, 2, 9, generator=torch.Generator().manual_seed(0)) + 1
        >>> fitted = fit_typicality(DenoisingErrors(values, torch.arange(9), torch.linspace(4, -4, 9)), num_bands=3)
        >>> score, p_value = TypicalityScore(fitted)(4 * values[0])
        >>> bool(score > 5), round(float(p_value), 4)
        (True, 0.0244)
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own way to declare it

    def __init__(
        self,
        typicality: Typicality | str | os.PathLike[str],
        *,
        rule: str | None = None,
        provenance: Mapping[str, Any] | None = None,
        latent_space: LatentSpace | None = None,
    ) -> None:
        self.typicality = load_part("typicality", typicality, Typicality, rule, provenance)
        if self.typicality.needs_latents and latent_space is None:
            raise ValueError(
                "latent_space: expected the inferer's, as the typicality was fitted with latents, got None"
            )
        self.latent_space = latent_space

    def __call__(
        self, errors: NdarrayOrTensor, image: NdarrayOrTensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score and p-value [], float32, on the device of the errors [K, N]; with the image [C, *spatial] if needed.

        Raises:
            ValueError: when draws were not evaluated, there are others than those of the fit, or the image is missing.
        """
        tensor: torch.Tensor = convert_to_tensor(errors)
        if tensor.ndim != 2:
            raise ValueError(
                f"errors: expected those of one image [K, N], got shape {list(tensor.shape)}; for a batch call "
                "Typicality.score"
            )
        images = None if image is None else plain_tensor(convert_to_tensor(image))[None]
        latents = None
        if self.typicality.needs_latents and images is not None:
            latents = encode(check_latent_space(self.latent_space), images.to(tensor.device).float())
        score = self.typicality.score(tensor[None], images, latents)
        return score[0].float(), self.typicality.p_value(score)[0].float()


class TypicalityScored(MapTransform):
    """Dictionary form of `TypicalityScore`; adds ``ood_score`` and ``ood_p_value`` and leaves the errors.

    For an evaluator without a stopping rule, whose output holds the errors of all draws.

    Args:
        keys: key of the errors [K, N]: ``"errors"``.
        typicality: see `TypicalityScore`, as ``rule`` and ``provenance``.
        image_key: key of the image as the network saw it [C, *spatial], read if the typicality was fitted with images.
        latent_space: see `TypicalityScore`.
        score_key: key of the score: the larger, the less typical.
        p_value_key: key of the p-value: small for an image unlike those of validation.
        allow_missing_keys: do not raise when the key is missing.

    Example:
        >>> from monai_diffclf.classification import DenoisingErrors
        >>> from monai_diffclf.uncertainty import fit_typicality
        >>> values = torch.rand(40, 2, 9, generator=torch.Generator().manual_seed(0)) + 1
        >>> fitted = fit_typicality(DenoisingErrors(values, torch.arange(9), torch.linspace(4, -4, 9)), num_bands=3)
        >>> sorted(TypicalityScored("errors", fitted)({"errors": values[0]}))
        ['errors', 'ood_p_value', 'ood_score']
    """

    backend = TypicalityScore.backend

    def __init__(
        self,
        keys: KeysCollection,
        typicality: Typicality | str | os.PathLike[str],
        *,
        rule: str | None = None,
        provenance: Mapping[str, Any] | None = None,
        image_key: str = CommonKeys.IMAGE,
        latent_space: LatentSpace | None = None,
        score_key: str = OutputKeys.OOD_SCORE.value,
        p_value_key: str = OutputKeys.OOD_P_VALUE.value,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys: expected one key, that of the errors, got {list(self.keys)}")
        self.image_key, self.score_key, self.p_value_key = image_key, score_key, p_value_key
        self.score = TypicalityScore(typicality, rule=rule, provenance=provenance, latent_space=latent_space)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add score and p-value of the errors under the key."""
        out = dict(data)
        for key in self.key_iterator(out):
            out[self.score_key], out[self.p_value_key] = self.score(out[key], out.get(self.image_key))
        return out


TypicalityScoreD = TypicalityScoreDict = TypicalityScored
