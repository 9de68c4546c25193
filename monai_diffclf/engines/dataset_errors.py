# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The errors of a whole data set from a few lines of a script; for long evaluations there is the evaluator."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from .._patients import known_patient
from ..classification import DenoisingErrors
from ..inferers import DiffusionClassifierInferer, provenance
from ..storage.errors_file import StoredErrors
from ..uncertainty.pooled_maps import pool_maps

__all__ = ["compute_dataset_errors"]


def compute_dataset_errors(
    dataset: Dataset[Any],
    network: torch.nn.Module,
    *,
    inferer: DiffusionClassifierInferer,
    description: str | None = None,
    batch_size: int = 8,
    grid: int | None = None,
) -> StoredErrors:
    """All errors of all images of a data set, sorted by their keys.

    Args:
        dataset: items with ``image`` [C, *spatial], ``label``, ``key`` and, where it is known, ``patient``.
        network: the denoiser in eval mode; images are moved to its device.
        inferer: which draws to make.
        description: text before a progress bar, None for no bar.
        batch_size: images at a time.
        grid: also keep the error maps, averaged over a grid of this many cells a side; None for no maps.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> class Denoiser(torch.nn.Linear):
        ...     def forward(self, x, timesteps, class_labels):
        ...         return super().forward(x + class_labels.view(-1, 1, 1, 1))
        >>> items = [{"image": torch.rand(1, 4, 4), "label": i, "key": k, "patient": ""} for i, k in enumerate("ba")]
        >>> inferer = DiffusionClassifierInferer(DDPMScheduler(10), num_draws=3)
        >>> stored = compute_dataset_errors(items, Denoiser(4, 4).eval(), inferer=inferer)
        >>> stored.keys, stored.labels.tolist(), stored.errors.values.shape
        (['a', 'b'], [1, 0], torch.Size([2, 2, 3]))
    """
    device = next(network.parameters()).device
    items = [dataset[i] for i in range(len(dataset))]  # type: ignore[arg-type]
    items.sort(key=lambda item: (str(item["key"]), known_patient(item.get("patient")), int(item["label"])))
    parts, maps = [], []
    for start in tqdm(range(0, len(items), batch_size), desc=description, unit="batch", disable=description is None):
        images = torch.stack([torch.as_tensor(item["image"]) for item in items[start : start + batch_size]])
        if grid is None:
            parts.append(inferer.compute_errors(images.to(device), network).to("cpu"))
            continue
        result = inferer.classify(images.to(device), network, error_maps=True)
        parts.append(result.errors.to("cpu"))
        maps.append(pool_maps(cast(torch.Tensor, result.error_maps), grid).cpu())
    return StoredErrors(
        DenoisingErrors.concatenate(parts),
        labels=torch.tensor([int(item["label"]) for item in items]),
        keys=[str(item["key"]) for item in items],
        patients=[known_patient(item.get("patient")) for item in items],
        provenance=dict(provenance(inferer, network)),
        maps=torch.cat(maps) if maps else None,
    )
