# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is to be done: which images, by which bundle, in which blocks. Equal plans give equal results."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import monai
import torch

from .. import __version__
from .._finding_files import finding_paths
from ..bundle import Bundle, open_bundle
from ..networks import network_hash
from ..zoo import open_generative_bundle
from .inputs import ArchiveImage
from .series import Slice

__all__ = ["ArchivePlan", "ClassifierSettings", "make_plan", "read_plan"]

MAPS = ("png", "npy", "nifti", "none")
THREADS = 1
"""Threads of a process on a CPU: sums come out otherwise with another number."""

_BLOCK = 16  # images at least


@dataclass(frozen=True)
class ClassifierSettings:
    """What every process needs to know to classify alike.

    Args:
        bundle: the bundle's folder.
        run: folder of the training whose weights are taken; None for the bundle's own.
        values: other values of the bundle's configuration by their ids, plain ones.
        device: where to compute; None for what the bundle says.
        maps: ``"png"``, ``"npy"``, ``"nifti"`` or ``"none"``.
        report: whether there is to be a case report.
        strict: whether an image that cannot be read ends it all.
        max_cases: images that the report shows at most.
        conditions: the file of conditions of a generative bundle, see `open_generative_bundle`; None for a bundle that
            classifies by itself.
        dicom: whether DICOM images get DICOM results, see `monai_diffclf.dicom_out`.
        positive: classes that are urgent, for the worklist; none for no worklist.
        configs: names of files of the bundle's ``configs`` that are laid over ``inference.json``.
        begun: when the work was begun, in ISO format, which is the time of these results. Not a part of the plan's
            fingerprint: who goes on with a work takes it from the plan that was saved.
    """

    bundle: str
    run: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    maps: str = "png"
    report: bool = True
    strict: bool = False
    max_cases: int = 500
    conditions: str | None = None
    dicom: bool = False
    positive: Sequence[str] = ()
    configs: Sequence[str] = ()
    begun: str = ""

    def open(self, device: str | None = None) -> Bundle:
        """The bundle, set so.

        Args:
            device: another device, of this process alone.
        """
        where = device or self.device
        given = {} if where is None else {"device": where}
        if self.conditions is not None:
            with _own_threads():  # prompts are encoded
                bundle = open_generative_bundle(self.bundle, self.conditions, **self.values, **given)
        else:
            bundle = open_bundle(self.bundle, "inference.json", *self.configs, run=self.run, **self.values, **given)
        # Before anything is made of it. Images and handlers are given block by block.
        for name, value in (("maps", self.maps != "none"), ("report", self.report)):
            if name in bundle.parser:
                bundle.parser[name] = value
        if not isinstance(bundle.parser.get("evaluator"), dict):
            raise ValueError(f"bundle: expected an evaluator in {bundle.root / 'configs' / 'inference.json'}, got none")
        for name in ("val_handlers", "val_data_loader"):
            bundle.parser[f"evaluator::{name}"] = []
        return bundle


@dataclass(frozen=True)
class ArchivePlan:
    """Images in blocks, and how they are classified.

    A block is a piece of the list, so that whoever computes it puts the same images into the same batches: results
    are then the same to the last bit.

    Args:
        images: all images in the order of the table.
        settings: how they are classified.
        made_by: all else that results depend on: weights, configuration, versions.
        block_size: images of a block.
    """

    images: tuple[ArchiveImage, ...]
    settings: ClassifierSettings
    made_by: Mapping[str, Any]
    block_size: int

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return -(-len(self.images) // self.block_size)

    def block(self, number: int) -> tuple[ArchiveImage, ...]:
        """The images of a block."""
        return self.images[self.first(number) : self.first(number + 1)]

    def first(self, number: int) -> int:
        """Place of a block's first image."""
        return number * self.block_size

    @property
    def has_series(self) -> bool:
        """Whether any image is a slice of a DICOM series."""
        return any(image.series is not None for image in self.images)

    def parts(self) -> dict[str, str]:
        """A hash of each thing that may tell two runs apart, by its name in words."""
        made_by = dict(self.made_by)
        weights = str(made_by.pop("weights"))
        shown: dict[str, Any] = {
            "maps": self.settings.maps,
            "report": self.settings.report,
            "max_cases": self.settings.max_cases,
        }
        if self.settings.dicom:
            shown |= {"dicom": True, "positive": list(self.settings.positive)}
        return {
            "images": _hash([asdict(image) for image in self.images]),
            "weights": weights,
            "settings": _hash({"made_by": made_by, "strict": self.settings.strict, "blocks": self.block_size, **shown}),
        }

    @cached_property  # it goes over all images, and is asked for block by block
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that tell this plan from others."""
        return _hash(self.parts())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, for other processes; the caller sees to it that nobody reads half of it."""
        Path(path).write_text(json.dumps(asdict(self), default=str), encoding="utf-8")


def read_plan(path: str | os.PathLike[str]) -> ArchivePlan:
    """A plan that was saved."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    images = tuple(_image(image) for image in content["images"])
    return ArchivePlan(images, ClassifierSettings(**content["settings"]), content["made_by"], content["block_size"])


def images_to_json(images: Sequence[ArchiveImage]) -> str:
    """Images as text, for another process."""
    return json.dumps([asdict(image) for image in images])


def images_from_json(text: str) -> tuple[ArchiveImage, ...]:
    """What `images_to_json` made a text of."""
    return tuple(_image(image) for image in json.loads(text))


def _image(values: Mapping[str, Any]) -> ArchiveImage:
    place = values["series"]
    return ArchiveImage(**{**values, "series": None if place is None else Slice(**place)})


def make_plan(images: Sequence[ArchiveImage], settings: ClassifierSettings, bundle: Bundle) -> ArchivePlan:
    """The plan for some images.

    Args:
        images: the images.
        settings: how they are classified.
        bundle: the bundle as these settings open it; its weights are read.
    """
    batch = batch_size(bundle)
    # DICOM results are as large as the images, and those of a block are in memory together.
    block_size = batch if settings.dicom else -(-_BLOCK // batch) * batch
    made_by = {
        "bundle": bundle.name,
        "weights": network_hash(bundle.network),
        "classes": bundle.classes,
        "configuration": _configuration(bundle),
        "device": bundle.device.type,
        "values": dict(settings.values),
        "versions": {"monai_diffclf": __version__, "monai": monai.__version__, "torch": torch.__version__},
    }
    return ArchivePlan(tuple(images), settings, made_by, block_size)


@contextmanager
def _own_threads() -> Iterator[None]:
    """Within it torch computes with as many threads as every process does that classifies."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def batch_size(bundle: Bundle) -> int:
    """How many images the bundle's inference takes at a time."""
    name = "dataloader#batch_size"
    return max(1, int(bundle.get(name))) if name in bundle.parser else 1


def _configuration(bundle: Bundle) -> str:
    """A hash of the configuration, and of the JSON files beside it and beside the run's weights."""
    # Of the values without the bundle's place and device, which are no part of the results.
    content = {name: value for name, value in bundle.parser.get().items() if name not in ("bundle_root", "device")}
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps(content, sort_keys=True, default=str).replace(str(bundle.root), "").encode())
    files = sorted((bundle.root / "configs").glob("*.json"))
    if bundle.run is not None:
        files += [path for name in ("uncertainty.json", "decision.json") if (path := bundle.run / name).is_file()]
        files += finding_paths(bundle.run / "findings")
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
