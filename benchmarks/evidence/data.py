"""Images, labels and groups of the protocol's data sets; those of test sets only against an opening of the ledger."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.evidence.ledger import Opening
from benchmarks.evidence.protocol import ROOT, content_hash, data_settings
from monai_diffclf.data.pneumonia_mnist import is_held_out, load_pneumonia_mnist, patient_number
from tools.match_pneumonia_patients import patient_of

DATA_ROOT = ROOT.parent / "shared" / "data"
PATIENTS = ROOT / "bundles" / "pneumonia_xray_diffusion" / "configs" / "patients.csv"
_SUBTYPES = {"normal": 0, "bacteria": 1, "virus": 2}


@dataclass(frozen=True)
class Images:
    """Images of one size with what is known of them.

    Args:
        pixels: uint8 [N, H, W, C].
        labels: class of each [N].
        keys: name of each, unique [N].
        groups: patient or group of near-duplicates of each [N].
        changed: whether pixels are other than those of the files.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    keys: NDArray[np.str_]
    groups: NDArray[np.str_]
    changed: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Images:
        """Some of the images."""
        return Images(self.pixels[rows], self.labels[rows], self.keys[rows], self.groups[rows], self.changed)

    def with_labels(self, labels: NDArray[np.int64]) -> Images:
        """The same images with other labels."""
        return replace(self, labels=labels)

    def with_pixels(self, pixels: NDArray[np.uint8]) -> Images:
        """The same images changed."""
        return replace(self, pixels=pixels, changed=True)

    @property
    def digest(self) -> str:
        """Hash of the keys, in order: equal where rows are those of the same images."""
        return content_hash(self.keys.tolist())[:16]


def as_tensor(images: Images) -> torch.Tensor:
    """Images as float32 [N, C, H, W] in [-1, 1], as bundles scale them.

    Example:
        >>> pixels = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
        >>> none = np.array([""])
        >>> as_tensor(Images(pixels, np.array([0]), none, none)).flatten().tolist()
        [-1.0, 1.0]
    """
    return torch.from_numpy(images.pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class _Row:
    file: str
    label: int
    group: str
    split: str


def load(name: str, step: str = "final", root: Path = DATA_ROOT) -> tuple[Images, Images]:
    """Training and validation images of a data set.

    Args:
        name: a data set of the protocol.
        step: "development" (what settings are chosen with), "final" or "fold0" to "fold4".
        root: folder of the data sets.

    Raises:
        ValueError: for another name or step.
    """
    return _images(name, step, "train", root), _images(name, step, "validation", root)


def load_test(opening: Opening, root: Path = DATA_ROOT) -> Images:
    """The test images of an opening that the ledger holds; there is no other way to them.

    Raises:
        TypeError: for anything but an opening.
        ValueError: for an opening that its ledger does not hold.
    """
    if not isinstance(opening, Opening):
        raise TypeError(f"opening: expected an Opening of the ledger, got {type(opening).__name__}; use open_test")
    opening.check()
    return _images(opening.data, opening.split, "test", root)


@lru_cache(maxsize=6)  # several methods and seeds in a row read the same ones
def _images(name: str, step: str, part: str, root: Path) -> Images:
    if name == "pneumoniamnist_28":
        return _pneumonia(root, part)
    return _read(name, [row for row in _rows(name, root) if _part(name, row, step) == part], root)


def _part(name: str, row: _Row, step: str) -> str:
    """To which part an image belongs; "" to none."""
    settings = data_settings(name)
    if step.startswith("fold") and step[4:].isdigit() and int(step[4:]) < settings["folds"]:
        apart = (patient_number(row.group) - int(step[4:])) % settings["folds"]
        return ("test", "validation", "train", "train", "train")[min(apart, 4)]
    if step not in ("development", "final", "test"):
        raise ValueError(f"step: expected development, final or fold0 to fold{settings['folds'] - 1}, got {step!r}")
    if row.split == "train" and step == "development" and is_held_out(row.group, settings["held_out"]):
        return "validation"
    return {"train": "train", "val": "validation", "test": "test"}.get(row.split, "")


def _rows(name: str, root: Path) -> list[_Row]:
    with (root / data_settings(name)["folder"] / "labels.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    if name.startswith("kermany"):
        rows = [_Row(r["file"], _SUBTYPES[r["subtype"]], patient_of(Path(r["file"]).stem), r["split"]) for r in table]
        known = {row.group for row in rows if row.split == "train"}
        return [replace(row, split="") if row.split == "val" and row.group in known else row for row in rows]
    if name.startswith("busi"):
        return [_Row(r["file"], int(r["label"]), "G" + r["near_dup_group"], r["split_own"]) for r in table]
    return [_Row(r["file"], int(r["label"]), Path(r["file"]).stem, r["split"]) for r in table]


def _read(name: str, rows: Iterable[_Row], root: Path) -> Images:
    settings = data_settings(name)
    size, mode = settings["size"], "RGB" if settings["channels"] == 3 else "L"
    chosen = sorted(rows, key=lambda row: row.file)
    return Images(
        _pixels([root / settings["folder"] / row.file for row in chosen], size, mode),
        np.asarray([row.label for row in chosen], dtype=np.int64),
        np.asarray([row.file for row in chosen]),
        np.asarray([row.group for row in chosen]),
    )


def is_same(images: Images, others: Images) -> bool:
    """Whether images, their order and their labels are the same."""
    return (
        images.digest == others.digest
        and np.array_equal(images.labels, others.labels)
        and np.array_equal(images.pixels, others.pixels)
    )


def at_size(images: Images, name: str, size: int, root: Path = DATA_ROOT) -> NDArray[np.uint8]:
    """Pixels [N, size, size, C] of unchanged images from their files: reduced once, not twice.

    Raises:
        ValueError: for images that were changed.
    """
    if images.changed:
        raise ValueError("images: expected those of the files, these were changed")
    settings = data_settings(name)
    mode = "RGB" if settings["channels"] == 3 else "L"  # as many letters as channels
    return _pixels([root / settings["folder"] / key for key in images.keys.tolist()], size, mode)


def _pixels(files: list[Path], size: int, mode: str) -> NDArray[np.uint8]:
    pixels = np.empty((len(files), size, size, len(mode)), dtype=np.uint8)
    for pixel, path in zip(pixels, files, strict=True):
        with Image.open(path) as file:
            image = file.convert(mode)
        pixel[:] = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).reshape(pixel.shape)
    return pixels


def _pneumonia(root: Path, split: str) -> Images:
    items = load_pneumonia_mnist(root / "pneumoniamnist_28", split, patients=PATIENTS)
    keys = [f"{item['key']}_{number}" for number, item in enumerate(items)]
    return Images(
        np.stack([item["image"] for item in items])[..., None],
        np.asarray([item["label"] for item in items], dtype=np.int64),
        np.asarray(keys),
        np.asarray([item["patient"] for item in items]),
    )
