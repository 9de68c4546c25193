"""The pretrained CNN, fine-tuned end to end with a linear head."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from monai import transforms as mt
from monai.data import Dataset
from torch.nn.functional import interpolate

from benchmarks.evidence.data import Images, as_tensor, at_size, is_same, load
from benchmarks.evidence.method import Prediction
from benchmarks.evidence.protocol import ROOT, data_settings
from monai_diffclf.representations import AdaptedEncoder, adapt_encoder, make_encoder

TRAINED = ROOT / "runs" / "evidence" / "adapted"
BATCH = 32
EPOCHS = {"isic2017_224": 8, "busi_224": 8, "kermany_cxr_224": 3}


class FinetunedMethod:
    """EfficientNet-Lite0 by `adapt_encoder`, on images reduced to 160 px; nothing is chosen by validation.

    With fewer images it makes as many steps as with all, as the diffusion classifier does.

    Args:
        data: data set of the protocol.
        encoder: name of the encoder.
        size: size of the images that it sees.
        epochs: passes over all training images; None for those of the data set.
    """

    def __init__(
        self, data: str, encoder: str = "efficientnet_lite0", size: int = 160, epochs: int | None = None
    ) -> None:
        self.settings: dict[str, Any] = {
            "data": data, "encoder": encoder, "size": size, "epochs": epochs or EPOCHS.get(data, 8),
        }  # fmt: skip

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedCNN:
        """Fine-tune, go on with what a folder holds, or take the weights that `TRAINED` holds of all images."""
        file = TRAINED / f"{data_settings(self.settings['data'])['folder']}_{self.settings['size']}_seed{seed}.pt"
        if file.is_file() and is_same(train, load(self.settings["data"])[0]):
            return FittedCNN(*read_trained(file, self.settings), self.settings)
        folder.mkdir(parents=True, exist_ok=True)
        start, size = time.perf_counter(), self.settings["size"]
        more = steps_ratio(len(train), len(load(self.settings["data"])[0]), BATCH)
        epochs = max(self.settings["epochs"], round(self.settings["epochs"] * more))
        longer = epochs > self.settings["epochs"]
        adapted = adapt_encoder(
            make_encoder(self.settings["encoder"], image_size=size),
            _dataset(train, self.settings, augmentation(self.settings["data"], size)),
            None if longer else _dataset(validation, self.settings, []),
            int(train.labels.max()) + 1,
            epochs=epochs,
            batch_size=BATCH,
            seed=seed,
            device="cuda" if torch.cuda.is_available() else "cpu",
            checkpoint=folder / "checkpoint.pt",
        )
        facts = {
            "training_seconds": round(time.perf_counter() - start, 1),
            "parameters": sum(p.numel() for p in adapted.parameters()),
            "evaluations": 1,
            "epochs": epochs,
            "history": adapted.history,
        }
        return FittedCNN(adapted, facts, self.settings)


class FittedCNN:
    """See `FinetunedMethod`; the energy of the logits is its score of unlikeness."""

    def __init__(self, network: AdaptedEncoder, facts: dict[str, Any], settings: dict[str, Any]) -> None:
        self.network, self.facts, self.settings = network.eval(), facts, settings

    def predict(self, images: Images) -> Prediction:
        """Softmax probabilities and energies."""
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            small = reduced(images, self.settings)
            parts = [self.network(part.to(device)).double().cpu() for part in small.split(64)]
        logits = torch.cat(parts)
        return Prediction(torch.softmax(logits, 1).numpy(), -torch.logsumexp(logits, 1).numpy())


def steps_ratio(images: int, all_images: int, batch: int) -> float:
    """How many times the steps of a pass over some of the images a pass over all of them has.

    Example:
        >>> steps_ratio(64, 640, 32), steps_ratio(11, 640, 32)
        (10.0, 20.0)
    """
    return max(1, all_images // batch) / max(1, images // batch)


def reduced(images: Images, settings: dict[str, Any]) -> torch.Tensor:
    """Images [B, C, size, size] in [-1, 1]: read again where they are those of the files, else reduced once more."""
    size = settings["size"]
    if not images.changed:
        return as_tensor(replace(images, pixels=at_size(images, settings["data"], size)))
    return interpolate(as_tensor(images), (size, size), mode="bilinear", align_corners=False, antialias=True)


def read_trained(file: Path, settings: dict[str, Any]) -> tuple[AdaptedEncoder, dict[str, Any]]:
    """A network that was fine-tuned by itself, with the names that the encoder's package gives its layers."""
    state = torch.load(file, weights_only=True, map_location="cpu")
    encoder = make_encoder(settings["encoder"], image_size=settings["size"])
    names = {
        "_conv_stem": "stem.0",
        "_bn0": "stem.1",
        "_blocks": "blocks",
        "_conv_head": "features.0",
        "_bn1": "features.1",
    }
    renamed = {}
    for name, value in state["encoder"].items():
        first, _, rest = name.partition(".")
        renamed[f"{names.get(first, first)}.{rest}"] = value
    encoder.network.load_state_dict(renamed)
    classes, size = state["head"]["weight"].shape
    head = torch.nn.Linear(size, classes)
    head.load_state_dict(state["head"])
    network = AdaptedEncoder(encoder, head, history=state["history"])
    parameters = sum(p.numel() for p in network.parameters())
    facts = {"training_seconds": None, "parameters": parameters, "evaluations": 1, "history": state["history"]}
    return network, facts


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


def _dataset(images: Images, settings: dict[str, Any], augment: list[Any]) -> Dataset:
    """A MONAI dataset of images [C, size, size] in [-1, 1], changed by random transforms while in [0, 1]."""
    small = (reduced(images, settings) + 1) / 2
    items = [{"image": image, "label": int(label)} for image, label in zip(small, images.labels, strict=True)]
    ends = [
        mt.ScaleIntensityRanged("image", 0, 1, -1, 1, clip=True),
        mt.EnsureTyped("image", track_meta=False),
    ]
    return Dataset(items, mt.Compose([*augment, *ends]))
