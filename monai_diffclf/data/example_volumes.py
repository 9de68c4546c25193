# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Volume phantoms as NIfTI files, to try what reads files: of nobody, see `monai_diffclf.data.volume_phantoms`.

    python -m monai_diffclf.data.example_volumes FOLDER [--volumes 40] [--size 32] [--seed 0] [--masks]

Files are called ``CLASS/volume-SEED-INDEX.nii.gz``. The bundle ``phantom_volume_diffusion`` classifies them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .._text_path import text_path
from .file_tree import check_new_folder
from .volume_phantoms import make_volume_phantom

__all__ = ["write_example_volumes"]

_CLASSES = ("clear", "lesion")
_WIDTH = 320.0  # mm that a side of a volume stands for


def write_example_volumes(
    folder: str | os.PathLike[str],
    volumes: int = 40,
    size: int = 32,
    seed: int = 0,
    *,
    masks: bool = False,
    progress: bool = False,
) -> Path:
    """Write NIfTI files ``CLASS/volume-SEED-INDEX.nii.gz``, axes RAS+, 320 mm a side.

    Args:
        folder: where to; a new or an empty folder.
        volumes: how many in all, 2 or more; the class of each is drawn.
        size: voxels a side, 16 or more.
        seed: 0 or more; different seeds give unrelated volumes.
        masks: whether to write the lesions' masks to ``FOLDER-masks/volume-SEED-INDEX.nii.gz`` too.
        progress: whether to show a progress bar on stderr.

    Returns:
        The folder.

    Raises:
        TypeError: if `folder` is no text or path.
        ValueError: if an argument is out of its range, or a folder holds something.
    """
    folder = text_path(folder, "folder")
    if volumes < 2:
        raise ValueError(f"volumes: expected 2 or more, got {volumes}")
    make_volume_phantom(0, seed=seed, size=size)  # refuses what it cannot draw before anything is written
    places = {"image": folder, **({"mask": folder.with_name(folder.name + "-masks")} if masks else {})}
    for place in places.values():
        check_new_folder(place)
    step = _WIDTH / size
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = step / 2 - _WIDTH / 2
    for name in _CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    if masks:
        places["mask"].mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(volumes), unit="volume", disable=not progress):
        phantom = make_volume_phantom(index, seed=seed, size=size)
        name = f"{phantom['key']}.nii.gz"
        nib.save(_nifti(phantom["image"][0], affine), folder / _CLASSES[phantom["label"]] / name)
        if masks and phantom["label"]:
            nib.save(_nifti(phantom["mask"][0], affine), places["mask"] / name)
    return folder


def _nifti(values: NDArray[Any], affine: NDArray[Any]) -> nib.Nifti1Image:
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return image


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the volumes and print the folder; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m monai_diffclf.data.example_volumes",
        description="Synthetic volumes of a chest, clear or with a lesion, of nobody, as CLASS/volume-0-1.nii.gz.",
    )
    parser.add_argument("folder", help="where to: a new or an empty folder")
    parser.add_argument("--volumes", type=int, default=40, help="how many in all (40)")
    parser.add_argument("--size", type=int, default=32, help="voxels a side, 16 or more (32)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other volumes (0)")
    parser.add_argument("--masks", action="store_true", help="the masks of the lesions too, in FOLDER-masks")
    options = parser.parse_args(arguments)
    try:
        folder = write_example_volumes(
            options.folder,
            options.volumes,
            options.size,
            options.seed,
            masks=options.masks,
            progress=sys.stderr.isatty(),
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
