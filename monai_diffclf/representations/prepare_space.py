# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The stages before a diffusion model on features is trained: adapt the encoder, if asked, and fit its space."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from monai.data import DataLoader, Dataset
from tqdm import tqdm

from .._checks import check_integer, plain_tensor
from .._plain_values import json_values
from ..data.data_description import contents_hash, files_hash, items_hash
from ..networks import AutoencoderSpace
from ..networks.model_description import describe_settings, differences
from ..storage.atomic_file import replace_text
from .adapt import adapt_encoder
from .autoencoder_encoder import AutoencoderCodes, fit_autoencoder, save_autoencoder
from .encoder import Encoder
from .representation_space import RepresentationSpace, check_precision
from .space_file import load_space, save_space
from .transform_steps import compose_steps, describe_steps

__all__ = ["prepare_space"]


def prepare_space(
    path: str | os.PathLike[str],
    encoder: Encoder,
    images: Dataset,
    *,
    num_components: int = 64,
    whitening: float = 0.0,
    global_token: bool = False,
    amp_dtype: torch.dtype | str | None = None,
    grid: Sequence[int] | None = None,
    adaptation: Mapping[str, Any] | None = None,
    augmented: Dataset | None = None,
    validation: Dataset | None = None,
    num_classes: int = 2,
    data: str = "",
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
    num_workers: int = 0,
    progress: bool = True,
) -> RepresentationSpace | AutoencoderSpace:
    """The space that a diffusion model on an encoder's features works in: read where it has been made, else made.

    Two stages, each of which is kept and not repeated: with ``adaptation`` the encoder is fine-tuned on the augmented
    training images (`adapt_encoder`; a stopped one goes on), then the principal components are fitted to the training
    images as they are. The file is written last. Of an autoencoder nothing is adapted or fitted but the scaling of its
    latents, and what comes is an `AutoencoderSpace`, which decodes them.

    Args:
        path: the file, ``representation.pt`` in the folder of a run; beside it lies what it was made from
            (``representation.json``).
        encoder: the pretrained encoder.
        images: training images, without augmentation: items with "image" [C, *spatial].
        num_components: see `RepresentationSpace`, as the three below.
        whitening: exponent in [0, 1].
        global_token: whether the encoder's global vector is one more token.
        amp_dtype: precision that images are encoded in, such as ``"bfloat16"``; None for float32.
        grid: the grid of cells that the diffusion model is made for, to be checked; None checks nothing.
        adaptation: arguments of `adapt_encoder`, such as ``{"epochs": 8}``; None leaves the encoder frozen.
        augmented: training images with augmentation and "label", needed with ``adaptation``.
        validation: validation images without, with "label".
        num_classes: number of classes.
        data: hash of the training images; another than the file was made with is refused.
        seed: of the adaptation.
        device: where to compute.
        batch_size: images encoded at a time.
        num_workers: processes that read images.
        progress: whether to show bars on stderr.

    Returns:
        the space, on the device.

    Raises:
        ValueError: when the file was made with other settings or images; the difference is named. When the encoder
            makes another grid of the images, or the precision is unknown.
    """
    path = Path(path)
    wanted = {
        "encoder": encoder.name,
        "encoder_version": encoder.version,
        "num_components": int(num_components),
        "whitening": float(whitening),
        "global_token": bool(global_token),
        "amp_dtype": None if amp_dtype is None else str(amp_dtype).removeprefix("torch."),
        "adaptation": None if adaptation is None else {**adaptation, "seed": check_integer(seed, "seed", 0)},
        "data": data,
        "transform": describe_settings(list(compose_steps(getattr(images, "transform", None)).transforms)),
    }
    if adaptation is not None:
        wanted |= _about_adaptation(adaptation, augmented, validation)
    precision, batch_size = check_precision(amp_dtype), check_integer(batch_size, "batch_size")
    wanted = json_values(wanted, "adaptation")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may ask at the same time: the first one makes it.
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.is_file():
            _check_made_from(path, wanted, getattr(images, "data", None))
            found = load_space(path, encoder, device)
            return found if isinstance(found, AutoencoderSpace) else found.to(device)
        size = _size(images)
        _check_grid(encoder, encoder.grid(size), size, grid)  # before anything that takes long
        wanted["images"] = _state_of(getattr(images, "data", None))
        if isinstance(encoder.network, AutoencoderCodes):
            _refuse_for_autoencoder(whitening, global_token, precision, adaptation)
            batches = _batches(images, batch_size, num_workers, device, progress)
            scaled = fit_autoencoder(encoder.to(device), batches, num_components)
            replace_text(_note(path), json.dumps(wanted, indent=1) + "\n")
            save_autoencoder(path, scaled, encoder)
            return scaled
        if adaptation is not None:
            encoder = _adapt(path, encoder, adaptation, augmented, validation, num_classes, seed, device, progress)
            encoder.adapted = encoder.adapted or f"training images {data}"
        space = RepresentationSpace(
            encoder.to(device),
            num_components=num_components,
            whitening=whitening,
            global_token=global_token,
            amp_dtype=precision,
        )
        space.fit(_batches(images, batch_size, num_workers, device, progress))
        replace_text(_note(path), json.dumps(wanted, indent=1) + "\n")
        save_space(path, space)
    return space


def _check_grid(encoder: Encoder, found: Sequence[int], size: Sequence[int], grid: Sequence[int] | None) -> None:
    if grid is not None and list(found) != list(grid):
        raise ValueError(
            f"grid: expected {list(found)}, what {encoder.name} makes of images of {list(size)} pixels, got "
            f"{list(grid)}; say --set grid={str(list(found)).replace(' ', '')}, or make the bundle anew with "
            "--encoder, --layers and --image-size"
        )


def _refuse_for_autoencoder(
    whitening: float, global_token: bool, amp_dtype: torch.dtype | None, adaptation: Mapping[str, Any] | None
) -> None:
    """Refuse what would change latents that the decoder is to take."""
    given = {"whitening": whitening, "global_token": global_token, "amp_dtype": amp_dtype, "adaptation": adaptation}
    for name, value in given.items():
        if value:
            raise ValueError(f"{name}: expected none for an autoencoder, which stays as it is, got {value!r}")


def _size(images: Dataset) -> tuple[int, ...]:
    return tuple(torch.as_tensor(images[0]["image"]).shape[1:])


def _adapt(
    path: Path,
    encoder: Encoder,
    adaptation: Mapping[str, Any],
    augmented: Dataset | None,
    validation: Dataset | None,
    num_classes: int,
    seed: int,
    device: torch.device | str,
    progress: bool,
) -> Encoder:
    if augmented is None:
        raise ValueError("augmented: expected the training images with adaptation, got None")
    adapted = adapt_encoder(
        encoder,
        augmented,
        validation,
        num_classes,
        seed=seed,
        device=device,
        checkpoint=path.with_name("adaptation.pt"),
        progress=progress,
        **adaptation,
    )
    replace_text(path.with_name("adaptation.json"), json.dumps(adapted.history, indent=1) + "\n")
    return adapted.encoder


def _batches(
    images: Dataset, batch_size: int, num_workers: int, device: torch.device | str, progress: bool
) -> Iterator[torch.Tensor]:
    # With a generator of its own, or it would take torch's global numbers, and whether the space is made or read would
    # decide what a network begins with.
    loader = DataLoader(images, batch_size=batch_size, num_workers=num_workers, generator=torch.Generator())
    for batch in tqdm(loader, desc="fitting the space", disable=not progress, leave=False):
        yield plain_tensor(torch.as_tensor(batch["image"])).float().to(device)


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _about_adaptation(
    adaptation: Mapping[str, Any], augmented: Dataset | None, validation: Dataset | None
) -> dict[str, Any]:
    """What the encoder was adapted on beside the images: how they were augmented, and what chose the epoch."""
    found: dict[str, Any] = {}
    if augmented is not None:  # a space that is there needs none
        found["augmentation"] = describe_steps(getattr(augmented, "transform", None))
    judged = getattr(validation, "data", None)
    if adaptation.get("select") == "best" and isinstance(judged, Sequence) and judged:
        found["validation"] = f"{items_hash(judged)} {contents_hash(judged)}"
    return found


def _state_of(items: Any) -> dict[str, str]:
    """What the images hold, and sizes and times of their files, by which that need not be read again."""
    known = isinstance(items, Sequence) and all(isinstance(item, Mapping) for item in items)
    return {"files": files_hash(items), "contents": contents_hash(items)} if known else {}


def _check_made_from(path: Path, wanted: Mapping[str, Any], items: Any) -> None:
    note = _note(path)
    try:
        made = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    except ValueError as error:
        raise ValueError(
            f"representation: expected JSON in {note}, which says how {path} was made, got something else ({error}); "
            "name another output folder"
        ) from None
    asked = dict(wanted)
    texts = []
    if (made.get("adaptation") is None) != (wanted["adaptation"] is None) and made:
        asked.pop("adaptation")
        texts = ["adaptation: one is frozen, the other adapted"]
    texts += differences(asked, made, of_one_run=True)
    before = made.get("images") or {}
    if before and not texts and files_hash(items) != before["files"] and contents_hash(items) != before["contents"]:
        texts.append("images: they have changed since, under the same names")
    if texts:
        raise ValueError(
            f"representation: {path} was made with other settings ({'; '.join(texts)}); name another output folder"
        )
