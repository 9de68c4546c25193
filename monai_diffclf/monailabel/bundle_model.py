# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A bundle of this package as a classifier of single images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.utils import CommonKeys

from ..bundle import find_bundle, open_bundle
from ..explain import decision_map, rival_class
from ..image_io import ImageGrid, ReadImaged, ReadVolumed
from ..image_io.map_file import image_reader, intensity_scaling, map_to_image_size
from ..inferers import ClassifierInferer, DiffusionClassifierInferer, ScoreClassifierInferer, provenance
from ..keys import NamedValues, OutputKeys, with_old_names
from ..transforms import ImageWarningsd

__all__ = ["BundleModel", "Outcome", "find_default_bundle"]

DEFAULT_BUNDLE = "pneumonia_xray_diffusion"


def find_default_bundle() -> Path:
    """The pneumonia bundle: the one that is shipped, or one below the working folder.

    Raises:
        ValueError: when there is neither.
    """
    try:
        return find_bundle(DEFAULT_BUNDLE)
    except ValueError:
        return find_bundle(Path("bundles") / DEFAULT_BUNDLE)


@dataclass(frozen=True)
class Outcome:
    """What is known of one image.

    Args:
        item: output of the bundle's post-processing; the keys are those of `DiffusionClassifierEvaluator`'s output,
            ``pred`` [K] among them.
        before: ``pred`` before the post-processing.
        map: how much better the predicted class explains each pixel than its rival, in the image's own size [H, W] or
            [H, W, D], upright, of `ReadVolumed` in the order of the file [X, Y, Z]; 0 where the bundle cropped it.
        rival: the other class with the smallest mean error.
        inferer: what classified it.
        device: where.
        warnings: what of the post-processing could not be done with the settings asked for, and why; what may be wrong
            with the image itself (the item's ``warnings``).
    """

    item: dict[str, Any]
    before: torch.Tensor
    map: torch.Tensor
    rival: int
    inferer: ClassifierInferer
    device: str
    warnings: tuple[str, ...]

    @property
    def predicted(self) -> int:
        """The most probable class after the post-processing."""
        return int(self.item[CommonKeys.PRED].argmax())


class BundleModel:
    """A diffusion or score classifier from a bundle's ``configs/inference.json``.

    Read from it: ``classes``, ``preprocessing`` (its first transform must be `ReadImaged` or `ReadVolumed`, the others
    must be invertible where they move pixels), ``inferer``, ``network``, ``device``, and ``postprocessing`` if there (a
    Compose of dictionary transforms of the evaluator's output, such as `CalibrateProbabilitiesd`). A stopping rule is
    left out: the map needs all draws.

    Args:
        folder: the bundle.
        run: folder of a training whose weights are taken in place of the bundle's, see `open_bundle`; None for the
            weights that the bundle takes by itself, of its own first training with what was fitted to it, as its draws.

    Raises:
        ValueError: when there is no such bundle, or its postprocessing was fitted for another model.
        RuntimeError: when its weights are absent or do not fit.
        TypeError: when it classifies with neither a `DiffusionClassifierInferer` nor a `ScoreClassifierInferer`.
    """

    def __init__(self, folder: str | os.PathLike[str], run: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder).expanduser().resolve()
        self.config = self.folder / "configs" / "inference.json"
        if not self.config.is_file():
            raise ValueError(f"bundle: expected a bundle's folder, but there is no file {self.config}")
        self.run = _own_run(self.folder) if run is None else run
        parser = self._parser({})
        for key in ("classes", "preprocessing", "inferer", "network"):
            if key not in parser:
                raise ValueError(f"bundle: expected the key {key!r} in {self.config}, got {sorted(parser.get())}")
        self.classes = [str(name) for name in parser.get_parsed_content("classes")]
        device = torch.device(parser.get_parsed_content("device") if "device" in parser else "cpu")
        self.device = "cuda:0" if str(device) == "cuda" else str(device)
        self._networks: dict[str, torch.nn.Module] = {}
        self._parsers: dict[tuple[Any, ...], ConfigParser] = {}
        self._lock = RLock()
        inferer = self.inferer()
        _, refused = self._postprocessing(self._parsed())
        if refused:
            raise ValueError(f"bundle: the postprocessing in {self.config} cannot be used: {'; '.join(refused)}")
        self.spatial_dims = self._reader(self._parsed()).read.spatial_dims
        self.seed = inferer.seed
        self.draws: dict[str, Any] = {}  # what a likelihood has none of
        if isinstance(inferer, DiffusionClassifierInferer):
            self.draws = {"num_draws": inferer.num_draws, "rule": inferer.rule}

    @property
    def description(self) -> str:
        """The bundle's own description."""
        metadata = self.folder / "configs" / "metadata.json"
        text = json.loads(metadata.read_text()).get("description") if metadata.is_file() else None
        return str(text or self.folder.name)

    @property
    def window(self) -> tuple[float, float] | None:
        """The units that the preprocessing brings to the network's range, cut off beyond; None where it sets none."""
        scaler = intensity_scaling(self._preprocessing(self._parsed()))
        return None if scaler is None else (float(scaler.a_min), float(scaler.a_max))

    def inferer(self, **settings: Any) -> DiffusionClassifierInferer | ScoreClassifierInferer:
        """The bundle's inferer with other settings: num_draws, rule, seed, device; None leaves the bundle's own."""
        inferer = self._parsed(**settings).get_parsed_content("inferer")
        if not isinstance(inferer, DiffusionClassifierInferer | ScoreClassifierInferer):
            raise TypeError(
                f"bundle: expected a DiffusionClassifierInferer or a ScoreClassifierInferer as inferer in "
                f"{self.config}, got {type(inferer).__name__}; this app serves diffusion and score classifiers only"
            )
        return inferer

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Whether the classifier has what a request sets.

        Raises:
            ValueError: when draws or their rule are set for a likelihood.
        """
        for name in ("num_draws", "rule"):
            if settings.get(name) is not None and name not in self.draws:
                raise ValueError(
                    f"{name}: expected none for {self.folder.name}, which classifies by likelihood and makes no draws, "
                    f"got {settings[name]!r}"
                )

    def network(self, device: str) -> torch.nn.Module:
        """The bundle's network on a device."""
        with self._lock:
            if device not in self._networks:
                network = self._parser({"device": device}).get_parsed_content("network")
                self._networks[device] = network.to(device).eval()
            return self._networks[device]

    def made_by(self) -> str:
        """Sixteen hexadecimal digits that change with anything that the bundle's answers depend on."""
        made: dict[str, Any] = dict(provenance(self.inferer(), self.network(self.device)))
        for file in sorted((self.folder / "configs").glob("*.json")):
            made[file.name] = hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
        return hashlib.blake2b(json.dumps(made, sort_keys=True).encode(), digest_size=8).hexdigest()

    def read(self, path: str | os.PathLike[str]) -> MetaTensor:
        """An image file as the network takes it [C, *spatial].

        Raises:
            ValueError: when it cannot be read, or is not of the kind that the bundle expects.
        """
        item: dict[str, Any] = {"image": os.fspath(path)}
        for transform in self._preprocessing(self._parsed()):
            item = transform(item)
        image = item["image"]
        if not isinstance(image, MetaTensor):
            raise TypeError(
                f"bundle: expected preprocessing in {self.config} to keep a MetaTensor, which knows its origin"
            )
        return image

    def grid(self, path: str | os.PathLike[str]) -> ImageGrid:
        """Where the pixels or voxels of an image lie, as the bundle's own reader takes it."""
        return self._reader(self._parsed()).read.grid(path)

    def classify(self, image: MetaTensor, **settings: Any) -> Outcome:
        """Classify an image from `read`.

        Args:
            image: the image [C, *spatial].
            settings: num_draws, rule, seed, device; None leaves the bundle's own.

        Raises:
            ValueError: when one is set that the classifier does not have, see `check_settings`.
        """
        self.check_settings(settings)
        device = settings.get("device") or self.device
        with self._lock:
            inferer, network = self.inferer(**settings), self.network(device)
            transforms, refused = self._postprocessing(self._parsed(**settings))
        with torch.no_grad():
            result = inferer.classify(image.as_tensor()[None].to(device), network, error_maps=True)
        if result.error_maps is None:
            raise RuntimeError("the inferer made no error maps")
        maps = result.error_maps.cpu()
        outputs = result.outputs()
        uncertainty = outputs.pop(OutputKeys.UNCERTAINTY)
        item: dict[str, Any] = with_old_names({name: value[0].cpu() for name, value in outputs.items()})
        item[CommonKeys.IMAGE] = image
        item[OutputKeys.UNCERTAINTY] = NamedValues({name: value[0].cpu() for name, value in uncertainty.items()})
        before = item[CommonKeys.PRED].clone()
        item, warnings = _apply(transforms, item)
        if OutputKeys.WARNINGS not in item:
            known: dict[Hashable, Any] = dict(item.items())
            item[OutputKeys.WARNINGS] = ImageWarningsd()(known)[OutputKeys.WARNINGS.value]
        about_image = [text for text in str(item[OutputKeys.WARNINGS]).split("; ") if text]
        warnings = (*refused, *warnings, *about_image)
        predicted = item[CommonKeys.PRED].argmax().reshape(1)
        map_ = self.to_image_size(decision_map(maps, predicted)[0], image)
        return Outcome(item, before, map_, int(rival_class(maps, predicted)), inferer, device, warnings)

    def to_image_size(self, values: torch.Tensor, image: MetaTensor) -> torch.Tensor:
        """Values of the network's pixels [*spatial] in those of the image: the preprocessing undone, 0 outside."""
        return map_to_image_size(values, image, self._preprocessing(self._parsed()))

    def parser(self) -> ConfigParser:
        """The bundle's configuration, to be added to; its network is the one that is loaded."""
        parser = self._parser({})
        parser["network"] = self.network(self.device)
        return parser

    def _parser(self, settings: Mapping[str, Any]) -> ConfigParser:
        """The bundle's configuration with settings in the place of its own."""
        parser = open_bundle(self.folder, run=self.run).parser
        if settings.get("device"):
            parser["device"] = torch.device(settings["device"])
        inferer = parser.get("inferer")
        if isinstance(inferer, dict):
            inferer.pop("stopping", None)
            for name in ("num_draws", "rule", "seed"):
                if settings.get(name) is not None:
                    inferer[name] = settings[name]
                    if name in parser:  # the post-processing may refer to it
                        parser[name] = settings[name]
        return parser

    def _parsed(self, **settings: Any) -> ConfigParser:
        """As `_parser`; the last ones are kept, so that what they built is built once."""
        key = tuple(settings.get(name) for name in ("device", "num_draws", "rule", "seed"))
        with self._lock:
            if key not in self._parsers:
                if len(self._parsers) >= 16:
                    del self._parsers[next(name for name in self._parsers if any(name))]
                parser = self._parser(settings)
                parser["network"] = self.network(settings.get("device") or self.device)  # not one for each parser
                self._parsers[key] = parser
            return self._parsers[key]

    def _reader(self, parser: ConfigParser) -> ReadImaged | ReadVolumed:
        try:
            return image_reader(self._preprocessing(parser))
        except TypeError as error:
            raise TypeError(f"bundle: {self.config}: {error}") from error

    @staticmethod
    def _preprocessing(parser: ConfigParser) -> Sequence[Any]:
        return list(parser.get_parsed_content("preprocessing").transforms)

    @staticmethod
    def _postprocessing(parser: ConfigParser) -> tuple[list[Any], list[str]]:
        """The post-transforms, and why others cannot be made: what is stored was fitted for other settings, say."""
        made, refused = [], []
        configs = parser.get("postprocessing::transforms", [])
        for index, config in enumerate(configs):
            try:
                transform = parser.get_parsed_content(f"postprocessing::transforms::{index}")
            except (RuntimeError, ValueError) as error:
                # MONAI wraps what the transform says.
                refused.append(f"{config['_target_'].rpartition('.')[2]}: {error.__cause__ or error}")
            else:
                made += [] if transform is None else [transform]  # None where the configuration disables it
        return made, refused


def _own_run(folder: Path) -> Path | None:
    """The training in a bundle's folder whose weights its inference takes by itself; None for weights that it ships."""
    bundle = open_bundle(folder)
    if not {"run_dir", "checkpoint"} <= bundle.parser.get().keys():
        return None
    run, weights = Path(str(bundle.get("run_dir"))), Path(str(bundle.get("checkpoint")))
    return run if weights == run / "model.pt" and weights.is_file() else None


def _apply(transforms: Sequence[Any], item: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Apply post-transforms; one that refuses is left out with a warning."""
    warnings = []
    for transform in transforms:
        try:
            item = dict(transform(dict(item)))
        except ValueError as error:
            warnings.append(f"{type(transform).__name__}: {error}")
    return NamedValues(item), tuple(warnings)
