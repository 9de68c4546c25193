"""A trained bundle as a method: its weights of a seed classify any images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.evidence.data import Images, as_tensor, is_same, load
from benchmarks.evidence.methods.base import Prediction
from benchmarks.evidence.methods.finetuned import FinetunedMethod, reduced
from monai_diffclf.bundle import Bundle, open_bundle
from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.representations import Encoder, RepresentationSpace, load_space, save_space
from monai_diffclf.run import run_bundle
from monai_diffclf.uncertainty import fit_typicality

# Data set -> bundle. What is shipped is seed 0 on all training images.
FEATURES = {
    "isic2017_224": "skin_lesion_features",
    "kermany_cxr_224": "chest_xray_features",
    "busi_224": "breast_ultrasound_features",
}


ADAPTED_SIZE = 160  # of cnn_finetuned, whose encoder diffusion_adapted takes


class BundleMethod:
    """A diffusion classifier that a bundle holds, trained by its own command on the images of a condition.

    Args:
        data: data set of the protocol.
        bundle: name of a shipped bundle.
        rule: "mean" or "vote", the bundle's own or the votes of its draws.
        settings: further settings of its training.
    """

    def __init__(self, data: str, bundle: str, rule: str = "mean", **settings: Any) -> None:
        self.settings: dict[str, Any] = {"data": data, "bundle": bundle, "rule": rule, **settings}

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedBundle:
        """Train where the condition or the seed is not what the bundle ships, then learn what is typical."""
        name, start = self.settings["bundle"], time.perf_counter()
        shipped = seed == 0 and is_same(train, load(self.settings["data"])[0])
        if not shipped:
            changes = {k: v for k, v in self.settings.items() if k not in ("data", "bundle", "rule")}
            changes |= same_steps(name, len(train), len(load(self.settings["data"])[0]))
            train_bundle(name, train, validation, seed, folder, changes)
        seconds = None if shipped else round(time.perf_counter() - start, 1)
        bundle = open_bundle(name, run=None if shipped else folder / "run", device="cpu")
        return FittedBundle(bundle, self.settings["rule"], validation, seconds)


class AdaptedBundleMethod:
    """The diffusion classifier of a features bundle on the encoder that `cnn_finetuned` of the same seed is.

    Args:
        data: data set of the protocol.
        bundle: name of a shipped bundle.
        rule: see `BundleMethod`.
        settings: further settings of its training.
    """

    def __init__(self, data: str, bundle: str, rule: str = "mean", **settings: Any) -> None:
        size = [ADAPTED_SIZE] * 2
        self.settings: dict[str, Any] = {"data": data, "bundle": bundle, "rule": rule, "image_size": size, **settings}

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedBundle:
        """Fine-tune the encoder, or take what `cnn_finetuned` kept; train on augmented views of the same images."""
        start, name = time.perf_counter(), self.settings["bundle"]
        tuned = FinetunedMethod(self.settings["data"], size=ADAPTED_SIZE)
        encoder = tuned.fit(train, validation, seed, folder / "encoder").network.encoder
        encoder.adapted = f"{len(train)} training images of {self.settings['data']}"
        file = folder / "run" / "representation.pt"  # the training takes one that lies there
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            save_space(file, _space_of(encoder, train, open_bundle(name, "train.json"), self.settings))
        changes = {k: v for k, v in self.settings.items() if k not in ("data", "bundle", "rule")}
        changes |= {"grid": list(load_space(file).grid)}
        changes |= same_steps(name, len(train), len(load(self.settings["data"])[0]))
        train_bundle(name, train, validation, seed, folder, changes)
        bundle = open_bundle(name, run=folder / "run", device="cpu")
        return FittedBundle(bundle, self.settings["rule"], validation, round(time.perf_counter() - start, 1))


def _space_of(encoder: Encoder, train: Images, training: Any, settings: dict[str, Any]) -> RepresentationSpace:
    """Principal components of the features of training images without augmentation, as the bundle makes them."""
    names = ("num_components", "whitening", "global_token", "amp_dtype")
    chosen = dict(zip(names, (training.get(n) for n in (*names[:3], "encoder_amp")), strict=True))
    chosen["amp_dtype"] = getattr(torch, chosen["amp_dtype"])
    space = RepresentationSpace(encoder, **chosen)
    return space.fit(reduced(train, {**settings, "size": ADAPTED_SIZE}).split(32))


def same_steps(name: str, images: int, all_images: int) -> dict[str, int]:
    """Epochs that make as many steps with fewer images as the bundle makes with all, and as many validations."""
    training = open_bundle(name, "train.json")
    epochs, interval, batch = (int(training.get(value)) for value in ("max_epochs", "val_interval", "batch_size"))
    more = max(1, all_images // batch) / max(1, images // batch)
    return {"max_epochs": round(epochs * more), "val_interval": max(1, round(interval * more))}


def train_bundle(
    name: str, train: Images, validation: Images, seed: int, folder: Path, changes: dict[str, Any]
) -> None:
    """Train a bundle on images that are written as files first, or go on with what the folder holds."""
    classes = open_bundle(name, "train.json").classes
    for split, images in (("train", train), ("validation", validation)):
        for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
            file = folder / "data" / split / classes[label] / f"{number:05d}.png"
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file)
    settings = {"dataset_dir": folder / "data", "output_dir": folder / "run", "seed": seed, **changes}
    run_bundle(name, ["train.json"], settings)


class FittedBundle:
    """See `BundleMethod`."""

    def __init__(self, bundle: Bundle, rule: str, validation: Images, seconds: float | None) -> None:
        self.bundle, self.rule = bundle, rule
        errors, _, evaluations = self._classify(validation)
        self.typicality = fit_typicality(errors, groups=validation.groups)
        self.facts: dict[str, Any] = {
            "parameters": sum(p.numel() for p in bundle.network.parameters()),
            "training_seconds": seconds,
            "evaluations": evaluations,
        }

    def predict(self, images: Images) -> Prediction:
        """Probabilities by the rule, and the typicality's distance."""
        errors, probabilities, _ = self._classify(images)
        return Prediction(probabilities.double().numpy(), self.typicality.score(errors).double().numpy())

    def _classify(self, images: Images, batch: int = 64) -> tuple[DenoisingErrors, torch.Tensor, int]:
        """Errors and probabilities of images, and the most evaluations that one took."""
        found: list[Any] = [
            self.bundle.classify(part)
            for part in tqdm(as_tensor(images).split(batch), desc=self.bundle.name, unit="batch")
        ]
        p = [one.vote_share if self.rule == "vote" else one.probabilities for one in found]
        evaluations = max(int(one.network_evaluations.max()) for one in found)
        return DenoisingErrors.concatenate([one.errors for one in found]), torch.cat(p), evaluations
