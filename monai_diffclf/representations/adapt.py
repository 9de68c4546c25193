# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Fine-tune a pretrained encoder on the training images, end to end, with a linear layer on top."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.data import DataLoader
from monai.metrics import compute_roc_auc
from monai.optimizers import WarmupCosineSchedule
from torch.nn.functional import cross_entropy, one_hot
from torch.utils.data import Dataset, WeightedRandomSampler
from tqdm import tqdm

from .._checks import check_integer, check_labels
from ..data.sampling import class_balanced_weights
from ..networks.model_description import differences
from ..networks.moving_average import averaged_model
from ..networks.weights_content import read_torch_file
from ..storage.torch_file import write_torch_file
from .adaptation_data import (
    about_training,
    check_data,
    check_numbers,
    datalist_of,
    entry,
    images_of,
)
from .encoder import Encoder

__all__ = ["AdaptedEncoder", "adapt_encoder"]

EVALUATION_BATCH = 64


class AdaptedEncoder(torch.nn.Module):
    """An encoder with a linear layer on its pooled features: a softmax classifier, and the encoder of an adapted space.

    Args:
        encoder: the encoder, whose global vector [B, V] (class token, or mean of the feature maps) is classified.
        head: linear layer from the V features to K logits.
        dropout: share of the features that is dropped in training.
        history: one entry an epoch, see `adapt_encoder`.
        description: what it was adapted on and how, in JSON values.

    Example:
        >>> from monai_diffclf.representations import Encoder
        >>> layer = torch.nn.Conv2d(1, 4, 2, stride=2)
        >>> encoder = Encoder(layer, ["output"], name="one layer", in_channels=1, image_size=8)
        >>> AdaptedEncoder(encoder, torch.nn.Linear(4, 3)).eval()(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        encoder: Encoder,
        head: torch.nn.Linear,
        dropout: float = 0.0,
        history: Sequence[Mapping[str, float]] = (),
        description: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.dropout, self.head = encoder, torch.nn.Dropout(dropout), head
        self.history = [dict(epoch) for epoch in history]
        self.description = dict(description or {})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, K] of images [B, C, *spatial]."""
        logits: torch.Tensor = self.head(self.dropout(self.encoder.features(images).vector))
        return logits


@torch.inference_mode(False)  # it trains, whatever mode it is called in
@torch.enable_grad()
def adapt_encoder(
    encoder: Encoder,
    train_dataset: Dataset[Any],
    validation_dataset: Dataset[Any] | None,
    num_classes: int,
    *,
    epochs: int = 8,
    learning_rate: float = 5e-4,
    batch_size: int = 32,
    weight_decay: float = 0.05,
    label_smoothing: float = 0.1,
    dropout: float = 0.2,
    select: Literal["last", "best"] = "last",
    seed: int = 0,
    device: torch.device | str = "cpu",
    amp_dtype: torch.dtype | None = None,
    num_workers: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> AdaptedEncoder:
    """Fine-tune all weights of a copy of an encoder, with dropout and a linear layer on its pooled features.

    AdamW (no decay of biases and norms), a tenth of the steps to warm up and cosine decay to 0, gradients of norm 1 at
    most, cross-entropy with label smoothing, every class drawn equally often, and a moving average of the weights,
    which is what is validated and returned. Augmentation is the training set's own: its random transforms are seeded
    anew in every epoch, so that the same arguments give the same weights.

    Args:
        encoder: the encoder, left as it is.
        train_dataset: MONAI dataset (with the datalist ``data``) of items with "image" [C, *spatial] and "label".
        validation_dataset: the same without random transforms; None where nothing is to be validated.
        num_classes: number of classes K.
        epochs: passes over as many images as the training set has.
        learning_rate: the largest.
        batch_size: images a step.
        weight_decay: of AdamW.
        label_smoothing: share of the target that all classes have alike.
        dropout: share of the pooled features that is dropped.
        select: which weights are returned: "last", the average after the last epoch, so that validation chose nothing;
            "best", the average after the epoch with the largest validation AUC (the earlier of two).
        seed: of the linear layer, the order of the images, their random transforms and dropout.
        device: where to train.
        amp_dtype: reduced precision of the forward pass, None for float32.
        num_workers: processes that read images.
        checkpoint: file that keeps the state after each epoch; where it is there, the training goes on from it, if it
            is of the same images (by their content), labels, transforms and settings.
        progress: whether to show a bar on stderr.

    Returns:
        the classifier in eval mode on ``device``. ``history`` has for each epoch ``epoch``, ``train_loss`` and, with
        validation, ``val_auc`` (macro, one class against the rest; NaN where a class is absent) and ``val_loss``.

    Raises:
        TypeError: when ``train_dataset`` has no datalist, or images are no floating point numbers.
        ValueError: when a number is out of its range, a label is missing or no class, images are not finite or of
            plainly another scale, the validation set is empty, ``select`` is "best" without validation, no gradient
            reaches the encoder, the loss is not finite, the checkpoint is one of another training, or one is to be kept
            of transforms that cannot be told from others.
    """
    check_numbers(num_classes, learning_rate, weight_decay, label_smoothing, dropout, seed, num_workers, amp_dtype)
    check_data(encoder, train_dataset, validation_dataset, num_classes)
    if select not in ("last", "best") or (select == "best" and validation_dataset is None):
        raise ValueError(f"select: expected 'last', or 'best' with a validation_dataset, got {select!r}")
    settings = {
        **about_training(
            encoder, train_dataset, validation_dataset, num_classes, amp_dtype, kept=checkpoint is not None
        ),
        "epochs": check_integer(epochs, "epochs"),
        "learning_rate": float(learning_rate),
        "batch_size": check_integer(batch_size, "batch_size"),
        "weight_decay": float(weight_decay),
        "label_smoothing": float(label_smoothing),
        "dropout": float(dropout),
        "select": select,
        "seed": int(seed),
    }
    if not encoder.trainable:
        raise ValueError(
            f"encoder: expected one with weights that can be trained, but {encoder.name} has none, as ONNX files and "
            "frozen exports have; export the network to TorchScript without freezing it"
        )
    with _own_random_numbers(seed, device):
        head = torch.nn.Linear(encoder.vector_size, num_classes)
        network = AdaptedEncoder(copy.deepcopy(encoder), head, dropout).to(device).requires_grad_(True)
        if encoder.spatial_dims == 2:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        training = _Training(network, train_dataset, validation_dataset, settings, amp_dtype, num_workers)
        training.resume(checkpoint)
        total = epochs * training.steps
        with tqdm(total=total, initial=len(training.history) * training.steps, disable=not progress) as bar:
            for epoch in range(len(training.history), epochs):
                training.run_epoch(epoch, bar)
                training.save(checkpoint)
    return training.result()


class _Training:
    """All that changes while an encoder is adapted."""

    def __init__(
        self,
        network: AdaptedEncoder,
        train: Dataset[Any],
        validation: Dataset[Any] | None,
        settings: Mapping[str, Any],
        amp_dtype: torch.dtype | None,
        num_workers: int,
    ) -> None:
        self.network, self.train, self.settings, self.amp_dtype = network, train, dict(settings), amp_dtype
        items, batch = datalist_of(train), settings["batch_size"]
        self.generator = torch.Generator()
        sampler = WeightedRandomSampler(_weights(items), len(items), generator=self.generator)
        self.loader = DataLoader(
            train,
            num_workers,
            batch_size=batch,
            sampler=sampler,
            drop_last=len(items) > batch,
            generator=self.generator,
        )
        self.validation = None
        if validation is not None:
            self.validation = DataLoader(validation, num_workers, batch_size=EVALUATION_BATCH)
        self.steps = len(self.loader)
        total = settings["epochs"] * self.steps
        warmup = max(1, total // 10)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(network, settings["weight_decay"]), lr=settings["learning_rate"]
        )
        self.schedule = WarmupCosineSchedule(self.optimizer, warmup_steps=warmup, t_total=total, warmup_multiplier=0.01)
        self.average = averaged_model(network, start=warmup)
        self.loss = torch.nn.CrossEntropyLoss(label_smoothing=settings["label_smoothing"])
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}

    def run_epoch(self, epoch: int, bar: Any) -> None:
        """Train and validate once; the epoch's random numbers depend on its number alone."""
        seeds = np.random.SeedSequence([self.settings["seed"], epoch]).generate_state(3)
        torch.manual_seed(int(seeds[0]))
        self.generator.manual_seed(int(seeds[1]))
        transform: Any = getattr(self.train, "transform", None)
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed=int(seeds[2]))
        self.network.train()
        losses = []
        for batch in self.loader:
            losses.append(self._step(batch))
            bar.update()
        record = {"epoch": epoch + 1, "train_loss": float(np.mean(losses))}
        if self.validation is not None:
            record |= _validate(self.average.module, self.validation)
        self.history.append(record)
        bar.set_postfix({name: f"{value:.3f}" for name, value in record.items() if name != "epoch"})
        if self.settings["select"] == "best" and self._is_best():
            self.best = copy.deepcopy(self.average.module.state_dict())

    def _step(self, batch: Mapping[str, Any]) -> float:
        device = self.network.head.weight.device
        images = images_of(batch, device, "train_dataset")
        labels = torch.as_tensor(entry(batch, "label", "train_dataset")).long().to(device)
        with torch.autocast(device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
            loss = self.loss(self.network(images).float(), labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(f"learning_rate: expected one with which the loss stays finite, got a loss of {value}")
        self.optimizer.zero_grad()
        loss.backward()
        if all(parameter.grad is None for parameter in self.network.encoder.parameters()):
            raise ValueError("encoder: expected one that is differentiable, but no gradient reaches its weights")
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.network)
        return value

    def _is_best(self) -> bool:
        values = [-1.0 if math.isnan(epoch["val_auc"]) else epoch["val_auc"] for epoch in self.history]
        return values.index(max(values)) == len(values) - 1

    def result(self) -> AdaptedEncoder:
        """The averaged weights that were to be selected."""
        network = self.average.module
        if not isinstance(network, AdaptedEncoder):
            raise TypeError(f"network: expected an AdaptedEncoder, got {type(network).__name__}")
        if self.best:
            network.load_state_dict(self.best)
        network.history, network.description = self.history, dict(self.settings)
        network.encoder.adapted = "{images} images, {epochs} epochs, seed {seed}".format(**self.settings)
        return network.eval()

    def save(self, checkpoint: str | os.PathLike[str] | None) -> None:
        """Keep the state of the training."""
        if checkpoint is not None:
            content = {"settings": self.settings, "history": self.history, "state": self._state()}
            write_torch_file(checkpoint, content)

    def resume(self, checkpoint: str | os.PathLike[str] | None) -> None:
        """Go on from a state that was kept."""
        if checkpoint is None or not Path(checkpoint).is_file():
            return
        kept = read_torch_file(checkpoint)
        made_with = kept.get("settings") if isinstance(kept, Mapping) else None
        if made_with != self.settings:
            known = made_with if isinstance(made_with, Mapping) else {}
            missing = [name for name in self.settings if name not in known] if known else ["of which"]
            what = differences(self.settings, known, of_one_run=True) or [f"it does not say {', '.join(missing)}"]
            raise ValueError(
                f"checkpoint: expected one of this training, got one of another in {checkpoint} ({'; '.join(what)}); "
                "remove it, or name another file"
            )
        self.history, self.best = list(kept["history"]), kept["state"].pop("best")
        for name, state in kept["state"].items():
            getattr(self, name).load_state_dict(state)

    def _state(self) -> dict[str, Any]:
        names = ("network", "optimizer", "schedule", "average")
        return {**{name: getattr(self, name).state_dict() for name in names}, "best": self.best}


@torch.no_grad()
def _validate(classifier: torch.nn.Module, loader: DataLoader) -> dict[str, float]:
    """Macro AUC and mean cross-entropy of a softmax classifier in eval mode: ``val_auc`` and ``val_loss``."""
    device = next(classifier.parameters()).device
    name = "validation_dataset"
    found = [
        (classifier(images_of(batch, device, name)).double().cpu(), torch.as_tensor(entry(batch, "label", name)))
        for batch in loader
    ]
    logits, given = torch.cat([pair[0] for pair in found]), torch.cat([pair[1] for pair in found])
    classes = logits.shape[1]
    labels = torch.from_numpy(check_labels(given, classes, len(logits), name=name))
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("encoder: expected finite features of the validation images, got NaN or infinity")
    auc = math.nan
    if len(labels.unique()) == classes:
        auc = float(np.asarray(compute_roc_auc(logits.softmax(1), one_hot(labels, classes))))
    return {"val_auc": auc, "val_loss": float(cross_entropy(logits, labels))}


def _weights(items: Sequence[Mapping[str, Any]]) -> Sequence[float]:
    weights: list[float] = class_balanced_weights(items).tolist()
    return weights


def _parameter_groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels with decay, biases and norms (one axis) without."""
    kernels = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


@contextmanager
def _own_random_numbers(seed: int, device: torch.device | str) -> Iterator[None]:
    """torch's random numbers from a seed, and as they were afterwards."""
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
