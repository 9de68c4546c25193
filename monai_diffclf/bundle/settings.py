# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a bundle is made from: the few things in which bundles differ."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._class_names import class_names, finding_names, shown
from .._text_path import text_path
from .plain_values import check_plain, plain_value

__all__ = ["METHODS", "PARTS", "SETTINGS", "BundleSettings", "read_settings"]

METHODS = ("diffusion", "representation", "score", "resnet18")
"""How a bundle classifies."""

PARTS = (
    "known_patients",
    "volumes",
    "phantoms",
    "slices",
    "findings",
    "mammograms",
    "favero",
    "grey_as_colour",
    "latents",
    "weights",
    "fitted",
)
"""Parts of the template that a bundle may have beside those of its method."""

SETTINGS = "settings.json"
"""The file of a bundle that holds its settings."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.json")
_SIZES = range(16, 1025)
_CLASSES = range(2, 101)


@dataclass(frozen=True, kw_only=True)
class BundleSettings:
    """Settings of a bundle, from which `write_bundle` makes it.

    Args:
        name: its name: letters, digits, ``_``, ``.`` and ``-``. Weights say by it what they are for.
        classes: names of the classes in the order of their labels, 2 to 100.
        channels: 1 (grey) or 3 (colour).
        image_size: size in pixels to which images are resized, 16 to 1,024: one number, or height and width; of volumes
            (the part ``"volumes"``) the voxels to the right, to the front and upwards, to which they are padded or cut.
        method: ``"diffusion"``, ``"representation"`` (diffusion on what a pretrained encoder sees), ``"score"`` or
            ``"resnet18"``.
        values: plain values by their ids, such as ``{"max_epochs": 20, "denoiser#channels": [32, 64]}``. Each is set in
            all of ``train.json``, ``evaluate.json`` and ``inference.json`` that have it; ``dataset_dir``, the
            images of the training, in the first. Text in them is never evaluated.
        parts: further parts of the template: ``"known_patients"`` (PneumoniaMNIST with the table of its patients),
            ``"volumes"`` (3D), ``"slices"`` (of volumes, through a network of planes), ``"phantoms"``,
            ``"findings"`` (the classes are findings, of which an image has any
            number), ``"mammograms"``, ``"favero"`` (networks and training of Favero et al. 2025),
            ``"grey_as_colour"`` (grey images repeated as three channels), ``"latents"`` (of an autoencoder whose folder
            its user gives, with the method representation), ``"weights"`` (that the bundle ships
            in ``models``), ``"fitted"`` (what was fitted to these and lies in ``configs``).
        configs: what else a configuration file has otherwise, by the file's name; laid over it key by key, where
            ``"~key"`` takes a key away. This is configuration, thus code.
        metadata: what else ``metadata.json`` says.

    Raises:
        TypeError: when one is of another type.
        ValueError: when one is not as said.

    Example:
        >>> settings = BundleSettings(name="mine", classes=["benign", "malignant"], channels=1, image_size=64)
        >>> settings.image_size, settings.method
        ((64, 64), 'diffusion')
        >>> BundleSettings.from_dict(settings.to_dict()) == settings
        True
    """

    name: str
    classes: Sequence[str]
    channels: int
    image_size: int | Sequence[int]
    method: str = "diffusion"
    values: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[str] = ()
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name: expected up to 80 letters, digits, _, . and -, got {shown(self.name)}; choose another name"
            )
        _check_one_of("method", self.method, METHODS)
        for part in self.parts:
            _check_one_of("parts", part, PARTS)
        _check_one_of("channels", self.channels, (1, 3))
        names = (finding_names if "findings" in self.parts else class_names)(self.classes)
        check_plain("classes", names)
        if len(names) not in _CLASSES:
            raise ValueError(f"classes: expected 2 to 100 names, got {len(names)}")
        values = {name: _stored(name, plain_value(name, value)) for name, value in self.values.items()}
        for file in self.configs:
            if not _FILE.fullmatch(file):
                raise ValueError(f"configs: expected names of files such as train.json, got {shown(file)}")
        for name, value in (
            ("classes", tuple(names)),
            ("image_size", _size(self.image_size, 3 if "volumes" in self.parts else 2)),
            ("values", values),
            ("parts", tuple(self.parts)),
        ):
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """All of it in values for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {name: value for name, value in plain.items() if value not in ({}, [])}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> BundleSettings:
        """Settings from what `to_dict` gave.

        Raises:
            ValueError: when something else is in it, or is missing.
        """
        known = {each.name for each in dataclasses.fields(cls)}
        if unknown := set(content) - known:
            raise ValueError(f"settings: expected {sorted(known)}, got {sorted(unknown)} as well")
        if missing := {"name", "classes", "channels", "image_size"} - set(content):
            raise ValueError(f"settings: expected {sorted(missing)} as well, got {sorted(content)}")
        return cls(**content)


def read_settings(bundle: str | os.PathLike[str]) -> BundleSettings:
    """The settings of a bundle that `write_bundle` made, from its folder.

    Raises:
        ValueError: when there are none, or they cannot be read.
    """
    path = text_path(bundle, "bundle") / SETTINGS
    if not path.is_file():
        raise ValueError(f"bundle: expected the file {path}, found none; the bundle was not made from the template")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"bundle: {path} is no JSON: {error}") from None
    return BundleSettings.from_dict(content)


def _stored(name: str, value: Any) -> Any:
    """A value that a JSON file can hold, and that is no setting of its own."""
    if name in ("classes", "channels", "image_size"):
        raise ValueError(f"values: {name} is a setting of its own; give it as {name}=")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"values: expected plain values as {name}, got {shown(value)} ({error})") from None
    return value


def _check_one_of(name: str, value: Any, known: Sequence[Any]) -> None:
    if isinstance(value, bool) or value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(str, known))}, got {shown(value)}")


def _size(value: Any, axes: int) -> tuple[int, ...]:
    sides = (value,) * axes if isinstance(value, int) else tuple(value) if isinstance(value, list | tuple) else ()
    if len(sides) != axes or any(isinstance(n, bool) or not isinstance(n, int) or n not in _SIZES for n in sides):
        named = ("pixels", "height and width") if axes == 2 else ("voxels", "three of a volume, right, front and up")
        raise ValueError(
            f"image_size: expected 16 to 1024 {named[0]}, one number or {named[1]}, got {shown(value)}; larger images "
            "are resized to what you name, and volumes have three numbers and the part 'volumes'"
        )
    return sides
