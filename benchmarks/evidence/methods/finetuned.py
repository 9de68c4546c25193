"""The pretrained CNN, fine-tuned end to end with a linear head."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from monai import transforms as mt
from monai.data import Dataset

from benchmarks.evidence.data import Images, as_tensor
from benchmarks.evidence.methods.base import Prediction
from monai_diffclf.representations import AdaptedEncoder, adapt_encoder, make_encoder

EPOCHS = {"isic2017_224": 8, "busi_224": 8, "kermany_cxr_224": 3}


class FinetunedMethod:
    """EfficientNet-Lite0 by `adapt_encoder`, on images reduced to 160 px; nothing is chosen by validation.

    Args:
        data: data set of the protocol.
        encoder: name of the encoder.
        size: size of the images that it sees.
        epochs: passes over the training images; None for those of the data set.
    """

    def __init__(
        self, data: str, encoder: str = "efficientnet_lite0", size: int = 160, epochs: int | None = None
    ) -> None:
        self.settings: dict[str, Any] = {
            "data": data, "encoder": encoder, "size": size, "epochs": epochs or EPOCHS.get(data, 8),
        }  # fmt: skip

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedCNN:
        """Fine-tune, or go on with what a folder holds."""
        folder.mkdir(parents=True, exist_ok=True)
        start, size = time.perf_counter(), self.settings["size"]
        adapted = adapt_encoder(
            make_encoder(self.settings["encoder"], image_size=size),
            _dataset(train, size, augmentation(self.settings["data"], size)),
            _dataset(validation, size, []),
            int(train.labels.max()) + 1,
            epochs=self.settings["epochs"],
            seed=seed,
            device="cuda" if torch.cuda.is_available() else "cpu",
            checkpoint=folder / "checkpoint.pt",
        )
        facts = {
            "training_seconds": round(time.perf_counter() - start, 1),
            "parameters": sum(p.numel() for p in adapted.parameters()),
            "evaluations": 1,
            "history": adapted.history,
        }
        return FittedCNN(adapted, size, facts)


class FittedCNN:
    """See `FinetunedMethod`; the energy of the logits is its score of unlikeness."""

    def __init__(self, network: AdaptedEncoder, size: int, facts: dict[str, Any]) -> None:
        self.network, self.size, self.facts = network.eval(), size, facts

    def predict(self, images: Images) -> Prediction:
        """Softmax probabilities and energies."""
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            parts = [
                self.network(reduced(part.to(device), self.size)).double().cpu() for part in as_tensor(images).split(64)
            ]
        logits = torch.cat(parts)
        return Prediction(torch.softmax(logits, 1).numpy(), -torch.logsumexp(logits, 1).numpy())


def reduced(images: torch.Tensor, size: int) -> torch.Tensor:
    """Images [B, C, H, W] at another size, antialiased."""
    shape = (size, size)
    return torch.nn.functional.interpolate(images, shape, mode="bilinear", align_corners=False, antialias=True)


def augmentation(data: str, size: int) -> list[Any]:
    """Moves and changes of intensity for items with an image [C, H, W] in [0, 1], as the adapted bundles have them."""
    key = "image"
    if data.startswith("isic"):
        return [
            mt.RandFlipd(key, prob=0.5, spatial_axis=0),
            mt.RandFlipd(key, prob=0.5, spatial_axis=1),
            _moved(key, size, math.pi, 0.2),
            mt.RandAdjustContrastd(key, prob=0.5, gamma=(0.8, 1.25)),
            mt.RandScaleIntensityd(key, factors=0.15, prob=0.8, channel_wise=True),
            mt.RandShiftIntensityd(key, offsets=0.06, prob=0.5),
        ]
    flips = [mt.RandFlipd(key, prob=0.5, spatial_axis=1)] if data.startswith("busi") else []
    return [
        *flips,
        _moved(key, size, 0.2, 0.15),
        mt.RandAdjustContrastd(key, prob=0.5, gamma=(0.7, 1.4)),
        mt.RandScaleIntensityd(key, factors=0.2, prob=0.5),
        mt.RandShiftIntensityd(key, offsets=0.08, prob=0.5),
    ]


def _moved(key: str, size: int, turn: float, scale: float) -> Any:
    ranges = {"rotate_range": turn, "scale_range": [scale] * 2, "translate_range": [0.06 * size] * 2}
    return mt.RandAffined(key, prob=1.0, **ranges, padding_mode="reflection")


def _dataset(images: Images, size: int, augment: list[Any]) -> Dataset:
    """A MONAI dataset of images [C, size, size] in [-1, 1], changed by random transforms while in [0, 1]."""
    small = (reduced(as_tensor(images), size) + 1) / 2
    items = [{"image": image, "label": int(label)} for image, label in zip(small, images.labels, strict=True)]
    ends = [
        mt.ScaleIntensityRanged("image", 0, 1, -1, 1, clip=True),
        mt.EnsureTyped("image", track_meta=False),
    ]
    return Dataset(items, mt.Compose([*augment, *ends]))
