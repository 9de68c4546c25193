# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An opened bundle: what its configuration makes, made when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from .._checks import check_floating, check_scale
from .._class_names import class_names
from ..classification import Classification
from ..image_io.map_file import intensity_scaling
from ..inferers import ClassifierInferer
from ..networks import load_weights

__all__ = ["Bundle"]

Source = str | os.PathLike[str] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle that :func:`monai_diffclf.bundle.open_bundle` has opened.

    Its configuration holds modules and what was made so far, so that it can neither be pickled nor copied with all it
    holds: both raise a TypeError. Open it again, or copy what it makes, such as its network.

    Args:
        root: its folder.
        parser: its configuration; what is made of it is made once.
        run: folder of the training whose weights are taken; None for the bundle's own.
        notes: what of a run could not be taken, and what follows from it.
    """

    root: Path
    parser: ConfigParser
    run: Path | None = None
    notes: tuple[str, ...] = ()

    def __copy__(self) -> Bundle:
        return replace(self)

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Bundle:
        raise _no_copy("be copied with all it holds")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise _no_copy("be pickled, nor be sent to another process")

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.root.name

    def get(self, name: str) -> Any:
        """What the configuration makes of an id, such as ``"validate#preprocessing"``.

        Raises:
            ValueError: when there is no such id; and what a component itself raises, without what MONAI wraps it in.
        """
        if name not in self.parser:
            raise ValueError(f"id: expected one of {sorted(self.parser.get())} or a part of it, got {name!r}")
        try:
            return self.parser.get_parsed_content(name)
        except RuntimeError as error:
            cause = _cause(error)
        raise cause from cause.__cause__  # out here: the error, whose cause it is, would be its context

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their labels."""
        return class_names(self.get("classes"))

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.get("channels"))

    @property
    def image_size(self) -> tuple[int, ...]:
        """Size of an image in pixels, before padding."""
        size = self.get("image_size")
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return torch.device(self.get("device"))

    @property
    def scheduler(self) -> Any:
        """The noise schedule: a MONAI scheduler or a `NoiseProcess`."""
        return self._first("noise schedule", "scheduler")

    @property
    def inferer(self) -> Any:
        """What classifies: a cascade, that of inference, of evaluation, or of the validation in training."""
        return self._first("inferer", "cascade", "inferer", "evaluate#inferer", "validate#inferer")

    @property
    def decision(self) -> dict[str, Any]:
        """Weighting and temperature of the classifier, those that it has, as evaluation and inference take them."""
        return {
            name: getattr(self.inferer, name) for name in ("weighting", "temperature") if hasattr(self.inferer, name)
        }

    @property
    def calibrated(self) -> bool:
        """Whether inference calibrates its probabilities and makes prediction sets."""
        return bool(self.get("calibrated")) if "calibrated" in self.parser else False

    @property
    def checkpoint(self) -> Path:
        """The file of weights: the run's, or the one that the configuration names, or the bundle ships."""
        if self.run is not None:
            return self.run / "model.pt"
        return Path(self.get("checkpoint")) if "checkpoint" in self.parser else self.root / "models" / "model.pt"

    @cached_property
    def network(self) -> torch.nn.Module:
        """The network with its weights, which are held to what they say they are for, in eval mode.

        Raises:
            ValueError: when there are no weights, or they are of another model.
        """
        if not self.checkpoint.is_file():
            raise ValueError(
                f"checkpoint: no weights in {self.checkpoint}; the bundle {self.name} ships none, or has not been "
                "trained yet: name the folder of a training as run"
            )
        if "evaluate#network" in self.parser:
            made = self.get("evaluate#network")
        elif "checkpoint" in self.parser:
            made = self.get("network")
        else:  # of a training, which begins without weights
            made = load_weights(self.get("network"), self.checkpoint, self.get("model_description"))
        network: torch.nn.Module = made.to(self.device)
        return network.eval()

    def read(self, files: Source | Iterable[Source]) -> torch.Tensor:
        """Images as the network takes them, read, resized and scaled as in training.

        Args:
            files: a path, several, or items of a datalist (``{"image": ...}``).

        Returns:
            images [B, C, H, W] on the CPU.

        Raises:
            TypeError: when they are neither paths nor items.
            ValueError: when there are none, or one cannot be read.
        """
        if not isinstance(files, Iterable | os.PathLike) or isinstance(files, bytes):
            raise TypeError(f"files: expected paths or items of a datalist, got {type(files).__name__}")
        several = [files] if isinstance(files, str | os.PathLike | Mapping) else list(files)
        if not several:
            raise ValueError("files: expected at least one image, got none")
        if any(isinstance(each, torch.Tensor) for each in several):
            raise TypeError("files: expected paths or items of a datalist, got a list of tensors; torch.stack them")
        for each in several:
            if not isinstance(each, str | os.PathLike | Mapping):
                raise TypeError(f"files: expected paths or items of a datalist, got a list with {type(each).__name__}")
            if isinstance(each, Mapping) and "image" not in each:
                raise ValueError(f"files: expected items of a datalist with 'image', got {sorted(map(str, each))}")
        items = [dict(each) if isinstance(each, Mapping) else {"image": os.fspath(each)} for each in several]
        return torch.stack([torch.as_tensor(self._preprocessing(item)["image"]) for item in items])

    def classify(self, images: Source | Iterable[Source] | torch.Tensor, *, error_maps: bool = False) -> Classification:
        """Classify images, without what was fitted: calibrated probabilities are of ``inference.json``.

        Args:
            images: paths, items as for `read`, or a tensor [B, C, H, W] from it.
            error_maps: whether error maps are made as well.

        Raises:
            TypeError: when the bundle's inferer gives no `Classification`, as that of a ResNet, or the images are no
                paths, items or dense tensor of floating point values.
            ValueError: when an image cannot be read, there are no weights, or a tensor is not what `read` gives, by its
                channels, its size or its range.
        """
        if not isinstance(self.inferer, ClassifierInferer):
            raise TypeError(
                f"bundle: expected a diffusion or score classifier, but {self.name} classifies with "
                f"{type(self.network).__name__} and {type(self.inferer).__name__}; call its network, or run its "
                "configs/inference.json"
            )
        if isinstance(images, np.ndarray):
            raise TypeError("images: expected paths, items or a Tensor, got ndarray; torch.as_tensor makes one")
        batch = self._checked(images) if isinstance(images, torch.Tensor) else self.read(images)
        with torch.no_grad():
            return self.inferer.classify(batch.to(self.device), self.network, error_maps=error_maps)

    def _checked(self, images: torch.Tensor) -> torch.Tensor:
        """A tensor as `read` would have given it, as far as can be told."""
        check_floating(images, "images", "[B, C, *spatial]", "values scaled as in training")
        multiple = int(self.get("pad_multiple")) if "pad_multiple" in self.parser else 1
        padded = tuple(multiple * -(-side // multiple) for side in self.image_size)
        if images.ndim < 3 or images.shape[1] != self.channels or images.shape[2:] != padded:
            raise ValueError(
                f"images: expected [B, {self.channels}, {', '.join(map(str, padded))}], as {self.name} reads them, got "
                f"{list(images.shape)}; give paths, or read them by its read(paths)"
            )
        scaler = intensity_scaling(self._preprocessing.transforms)
        if scaler is None or not scaler.clip or scaler.b_min is None or scaler.b_max is None:
            return images
        low, high = float(scaler.b_min), float(scaler.b_max)
        remedy = "give paths, or read them by its read(paths)"
        check_scale(images, low, high, room=1e-3 * (high - low), reader=f"{self.name} scales them", remedy=remedy)
        return images

    @cached_property
    def _preprocessing(self) -> Compose:
        # What the description of the weights is made from; a list where a part of it is cached in training.
        made = self.get("model_description#preprocessing")
        return Compose(list(made)) if isinstance(made, list | tuple) else made

    def _first(self, what: str, *names: str) -> Any:
        for name in names:
            if name in self.parser:
                return self.get(name)
        raise ValueError(f"bundle: the configuration of {self.name} has no {what} ({' or '.join(names)})")


def _no_copy(what: str) -> TypeError:
    return TypeError(
        f"Bundle: an opened bundle cannot {what}; open it again there with open_bundle, or copy its network"
    )


def _cause(error: BaseException) -> BaseException:
    """What was raised first, where MONAI says only which component failed."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error
