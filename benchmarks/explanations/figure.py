"""The picture of the benchmark of explanations: some phantoms, each method's map, and a counterfactual."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from monai_diffclf.explain import overlay

OUTLINE = "#ffd400"


def draw_examples(
    path: Path,
    images: torch.Tensor,
    masks: torch.Tensor,
    maps: dict[str, torch.Tensor],
    edited: torch.Tensor,
    *,
    count: int = 4,
) -> None:
    """One row a phantom: image with the lesion's outline, maps, counterfactual without lesion, and what it changed.

    Args:
        path: PNG to write.
        images: images [n, 1, H, W] in [-1, 1].
        masks: lesions [n, H, W].
        maps: maps [n, H, W] of each method.
        edited: counterfactuals [m, 1, H, W] of the first m images.
        count: number of rows at most.
    """
    rows = min(count, len(edited))
    names = ["image, lesion outlined", *maps, "counterfactual", "what it changed"]
    figure, axes = plt.subplots(rows, len(names), figsize=(1.6 * len(names), 1.65 * rows + 0.3), squeeze=False)
    grey = (images.numpy() + 1) / 2
    for row, line in enumerate(axes):
        cells = [np.repeat(grey[row, 0][..., None], 3, 2)]
        for each in maps.values():
            cells.append(overlay(grey[row], each[row].numpy(), smooth=0, size=images.shape[-1]))
        cells.append(np.repeat((edited[row, 0].numpy()[..., None] + 1) / 2, 3, 2))
        difference = (edited[row] - images[row])[0].numpy()
        cells.append(overlay(grey[row], difference, smooth=0, size=images.shape[-1]))
        for axis, cell, name in zip(line, cells, names, strict=True):
            _cell(axis, cell, masks[row].numpy(), name if row == 0 else "")
    figure.tight_layout(pad=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _cell(axis: Axes, picture: np.ndarray, mask: np.ndarray, title: str) -> None:
    """A picture with the lesion's outline."""
    axis.imshow(np.clip(picture, 0, 1), interpolation="nearest")
    axis.contour(mask, levels=[0.5], colors=OUTLINE, linewidths=0.8)
    axis.set_title(title, fontsize=8)
    axis.axis("off")
