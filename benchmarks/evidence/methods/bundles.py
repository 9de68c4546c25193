"""A trained bundle as a method: its weights of a seed classify any images."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import DivisiblePad
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.evidence.conditions import PRECONDITIONED, SHIPPED
from benchmarks.evidence.data import Images, as_tensor, is_same, load
from benchmarks.evidence.method import Prediction
from benchmarks.evidence.methods.finetuned import FinetunedMethod, reduced, steps_ratio
from benchmarks.evidence.methods.stored import FORMER
from benchmarks.evidence.protocol import ROOT
from monai_diffclf._spread import spread
from monai_diffclf.bundle import Bundle, find_bundle, open_bundle
from monai_diffclf.classification import (
    DenoisingErrors,
    FewDraws,
    classify_errors,
    fit_few_draws,
    fit_stopping,
    replay,
)
from monai_diffclf.fitting.image_description import NUM_TRAINING, learned_from_training
from monai_diffclf.networks import PixelSpace
from monai_diffclf.networks.latent_space import encode
from monai_diffclf.networks.model_description import read_model_note
from monai_diffclf.representations import Encoder, RepresentationSpace, load_space, save_space
from monai_diffclf.run import run_bundle
from monai_diffclf.storage.atomic_file import replaced
from monai_diffclf.uncertainty import fit_typicality, image_statistics, latent_statistics

# Data set -> bundle. What is shipped is seed 0 on all training images.
FEATURES = {
    "isic2017_224": "skin_lesion_features",
    "kermany_cxr_224": "chest_xray_features",
    "busi_224": "breast_ultrasound_features",
}


PIXELS = {"isic2017_64": "skin_lesion_diffusion", "pneumoniamnist_28": "pneumonia_xray_diffusion"}
BATCH = 64  # images at a time
RISK = 0.015  # of another class than that of all draws, for the stopping rule
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
        made = shipped or (folder / "run" / "model.pt").is_file()
        if not shipped:
            train_bundle(name, train, validation, seed, folder, _changes(self.settings, train))
        seconds = None if made else round(time.perf_counter() - start, 1)
        bundle = open_bundle(name, run=None if shipped else folder / "run", device="cpu")
        return FittedBundle(bundle, self.settings, validation, seconds)


class AdaptedBundleMethod:
    """The diffusion classifier of a features bundle on the encoder that `cnn_finetuned` of the same seed is.

    Args:
        data: data set of the protocol.
        bundle: name of a shipped bundle.
        rule: see `BundleMethod`.
        weighting: of the levels when it classifies; "learned" takes those that the contrastive term has learned.
        settings: further settings of its training.
    """

    def __init__(self, data: str, bundle: str, rule: str = "mean", weighting: str = "learned", **settings: Any) -> None:
        own = {"data": data, "bundle": bundle, "rule": rule, "weighting": weighting}
        self.settings: dict[str, Any] = {**own, "image_size": [ADAPTED_SIZE] * 2, **settings}

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedBundle:
        """Fine-tune the encoder, or take what `cnn_finetuned` kept; train on augmented views of the same images."""
        start, name = time.perf_counter(), self.settings["bundle"]
        tuned = FinetunedMethod(self.settings["data"], size=ADAPTED_SIZE)
        encoder = tuned.fit(train, validation, seed, folder / "encoder").network.encoder
        encoder.adapted = f"{len(train)} training images of {self.settings['data']}"
        made = (folder / "run" / "model.pt").is_file()
        file = folder / "run" / "representation.pt"  # the training takes one that lies there
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            save_space(file, _space_of(encoder, train, open_bundle(name, "train.json"), self.settings))
        changes = _changes(self.settings, train) | {"grid": list(load_space(file).grid)}
        train_bundle(name, train, validation, seed, folder, changes)
        bundle = open_bundle(name, run=folder / "run", device="cpu", weighting=self.settings["weighting"])
        seconds = None if made else round(time.perf_counter() - start, 1)
        return FittedBundle(bundle, self.settings, validation, seconds)


class KeptRunMethod:
    """A diffusion classifier by the run that a training of its bundle's own command has left.

    Args:
        data: data set of the protocol.
        bundle: name of a shipped bundle.
        runs: folder under ``runs/evidence`` with a folder ``DATA_seedN`` for each training.
        rule: see `BundleMethod`.
        weighting: see `AdaptedBundleMethod`.
    """

    def __init__(self, data: str, bundle: str, runs: str, rule: str = "mean", weighting: str = "learned") -> None:
        self.settings: dict[str, Any] = {
            "data": data, "bundle": bundle, "runs": runs, "rule": rule, "weighting": weighting,
        }  # fmt: skip

    def fit(self, train: Images, validation: Images, seed: int, folder: Path) -> FittedBundle:
        """Open the run of a seed: that in the folder of a condition, that of the primary one, or what is shipped.

        Raises:
            ValueError: when there is none, or other images than all are asked for.
        """
        name, condition = self.settings["bundle"], folder.parent.name
        run = kept_run(self.settings["data"], self.settings["runs"], seed, folder)
        shipped = condition == SHIPPED and seed == 0
        weights = (find_bundle(name) / "models" if shipped else run) / "model.pt"
        if not weights.is_file() or not is_same(train, load(self.settings["data"])[0]):
            raise ValueError(f"seed: expected a training on all images in {run}, there is none; train the bundle first")
        chosen: dict[str, Any] = {each: self.settings[each] for each in ("rule", "weighting")}
        if name in FORMER and condition != SHIPPED:  # of the network that the bundle had
            chosen["denoiser#precondition"] = condition == PRECONDITIONED
        bundle = open_bundle(name, run=None if shipped else run, device="cpu", **chosen)
        fitted = FittedBundle(bundle, self.settings, validation, None)
        fitted.facts["training"] = read_model_note(weights).get("training")
        return fitted


def kept_run(data: str, runs: str, seed: int, folder: Path) -> Path:
    """The run of the primary condition, or that in the folder of another condition's training: never one for another.

    Example:
        >>> kept_run("isic2017_64", "contrastive", 0, Path("longer/seed_0")).as_posix()
        'longer/seed_0/run'
    """
    if folder.parent.name in ("", "primary"):
        return ROOT / "runs" / "evidence" / runs / f"{data}_seed{seed}"
    return folder / "run"


def _space_of(encoder: Encoder, train: Images, training: Any, settings: dict[str, Any]) -> RepresentationSpace:
    """Principal components of the features of training images without augmentation, as the bundle makes them."""
    chosen = {name: training.get(name) for name in ("num_components", "whitening", "global_token")}
    amp_dtype = getattr(torch, training.get("encoder_amp"))
    space = RepresentationSpace(encoder, **chosen, amp_dtype=amp_dtype)
    return space.fit(reduced(train, {**settings, "size": ADAPTED_SIZE}).split(32))


def _changes(settings: dict[str, Any], train: Images) -> dict[str, Any]:
    """What a training is told: the settings that are not of the evaluation, and as many steps as with all images."""
    changes = {k: v for k, v in settings.items() if k not in ("data", "bundle", "rule", "weighting")}
    return changes | same_steps(settings["bundle"], len(train), len(load(settings["data"])[0]))


def same_steps(name: str, images: int, all_images: int) -> dict[str, int]:
    """Epochs that make as many steps with fewer images as the bundle makes with all, and as many validations."""
    training = open_bundle(name, "train.json")
    epochs, interval, batch = (int(training.get(value)) for value in ("max_epochs", "val_interval", "batch_size"))
    more = steps_ratio(images, all_images, batch)
    return {"max_epochs": round(epochs * more), "val_interval": max(1, round(interval * more))}


def train_bundle(
    name: str, train: Images, validation: Images, seed: int, folder: Path, changes: dict[str, Any]
) -> None:
    """Train a bundle on images that are written as files first, or go on with what the folder holds."""
    classes = open_bundle(name, "train.json").classes
    for split, images in (("train", train), ("validation", validation)):
        write_images(images, folder / "data" / split, classes)
    settings = {"dataset_dir": folder / "data", "output_dir": folder / "run", "seed": seed, **changes}
    run_bundle(name, ["train.json"], settings)


def write_images(images: Images, folder: Path, classes: Sequence[str]) -> None:
    """Write images that are not there yet as files in folders of their classes, as a bundle reads them."""
    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        file = folder / classes[label] / f"{number:05d}.png"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with replaced(file) as partial:  # one that was stopped half-way would stay
                Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(partial, format="PNG")


class FittedBundle:
    """See `BundleMethod`; unlikeness is typicality, learned on validation images as the command ``fit`` does."""

    def __init__(self, bundle: Bundle, settings: dict[str, Any], validation: Images, seconds: float | None) -> None:
        self.bundle, self.settings = bundle, settings
        pixels = self._pixels(validation)
        errors, _, evaluations = self._classify(pixels)
        parts = [self._describe(part) for part in pixels.split(BATCH)]
        described = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        self._described, self._groups = described, validation.groups
        self.typicality = fit_typicality(errors, images=described, groups=validation.groups)
        self.validation = (errors, torch.from_numpy(validation.labels), validation.groups.tolist())
        self.facts: dict[str, Any] = {
            "parameters": sum(p.numel() for p in bundle.network.parameters()),
            "training_seconds": seconds,
            "evaluations": evaluations,
        }

    def predict(self, images: Images) -> Prediction:
        """Probabilities by the rule, and the typicality's distance."""
        pixels = self._pixels(images)
        errors, probabilities, _ = self._classify(pixels)
        scores = []
        for rows in torch.arange(len(pixels)).split(BATCH):
            part = pixels[rows]
            scores.append(self.typicality.score(errors[rows], images=part, latents=self._latents(part)))
        return Prediction(probabilities.double().numpy(), torch.cat(scores).double().numpy())

    def knowing_training(self, train: Images) -> FittedBundle:
        """The same with a typicality that is fitted to training images too, as the command ``fit`` does."""
        chosen = train.take(np.asarray(spread(range(len(train)), NUM_TRAINING)))
        parts = [self._describe(part) for part in self._pixels(chosen).split(BATCH)]
        described = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if learned_from_training(self.bundle.inferer.latent_space):
            described.pop("latents", None)
        other = copy.copy(self)
        other.typicality = fit_typicality(
            self.validation[0], images=self._described, training=described, groups=self._groups
        )
        return other

    def few_draws(self, images: Images) -> tuple[Prediction, Prediction, dict[str, NDArray[np.float64]]]:
        """What one draw says, and how many a stopping rule takes to say what all do; both fitted on validation.

        Returns:
            Probabilities of the images and of the validation images by one draw at the level that tells most; of the
            images the class by the predictive rule (``stopped``), the class by all draws (``all``), each [N], and the
            network evaluations that the rule spends (``evaluations``) [N].
        """
        errors, labels, groups = self.validation
        weighting = self.bundle.inferer.weighting
        few = fit_few_draws(errors, labels)
        stopping = fit_stopping(errors, "mean", risk=RISK, weighting=weighting, patients=groups).stopping
        found, _, _ = self._classify(self._pixels(images))
        stopped = replay(found, stopping, rule="mean", weighting=weighting)
        values = {
            "stopped": stopped.predicted,
            "all": classify_errors(found, "mean", weighting=weighting).predicted,
            "evaluations": stopped.network_evaluations,
        }
        self.facts |= {"few_draws": few.to_dict(), "stopping": {"alpha": stopping.alpha, "risk": RISK}}
        arrays = {name: value.double().numpy() for name, value in values.items()}
        return Prediction(_one_draw(found, few)), Prediction(_one_draw(errors, few)), arrays

    def _classify(self, pixels: torch.Tensor) -> tuple[DenoisingErrors, torch.Tensor, int]:
        """Errors and probabilities of images, and the most evaluations that one took."""
        found: list[Any] = [
            self.bundle.classify(part) for part in tqdm(pixels.split(BATCH), desc=self.bundle.name, unit="batch")
        ]
        p = [one.vote_share if self.settings["rule"] == "vote" else one.probabilities for one in found]
        evaluations = max(int(one.network_evaluations.max()) for one in found)
        return DenoisingErrors.concatenate([one.errors for one in found]), torch.cat(p), evaluations

    def _latents(self, pixels: torch.Tensor) -> torch.Tensor | None:
        space = self.bundle.inferer.latent_space
        return None if isinstance(space, PixelSpace) else encode(space, pixels)

    def _describe(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        latents = self._latents(pixels)
        return image_statistics(pixels) | ({} if latents is None else latent_statistics(latents))

    def _pixels(self, images: Images) -> torch.Tensor:
        size = self.bundle.image_size[0]
        smaller = size != images.pixels.shape[1]
        pixels = reduced(images, {**self.settings, "size": size}) if smaller else as_tensor(images)
        pad = (
            DivisiblePad(self.bundle.get("pad_multiple"), mode="edge") if "pad_multiple" in self.bundle.parser else None
        )
        return pixels if pad is None else torch.stack([pad(image) for image in pixels])  # as the bundle's own reading


def _one_draw(errors: DenoisingErrors, few: FewDraws) -> NDArray[np.float64]:
    """Probabilities by the draw at the level that was chosen."""
    draw = torch.argmin((errors.log_snr - few.log_snr[0]).abs()).reshape(1)
    found = classify_errors(errors.select(draw), "mean", temperature=few.temperature)
    return found.probabilities.double().numpy()
