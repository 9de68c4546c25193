"""Small volumes as files: an asymmetric phantom, DICOM series, enhanced DICOM, tiny 3D bundles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from nibabel import orientations
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from monai_diffclf.bundle import find_bundle, open_bundle

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
ALL_CODES = ["".join(axes) for order in permutations(("LR", "PA", "IS")) for axes in product(*order)]
"""The 48 ways in which the axes of a volume may point."""


def phantom(shape: Sequence[int] = (14, 12, 10), blob: Sequence[float] = (4, 8, 3), width: float = 1.2) -> np.ndarray:
    """A volume int16 [X, Y, Z] of -1000 with a ramp along each axis and a blob of 500 off the centre."""
    grid = np.indices(shape, dtype=float)
    values = -1000 + 3 * grid[0] + 7 * grid[1] + 11 * grid[2]
    distance = sum((axis - place) ** 2 for axis, place in zip(grid, blob, strict=True))
    return np.round(values + 1500 * np.exp(-distance / (2 * width**2))).astype(np.int16)


def affine(spacing: Sequence[float] = (1.0, 0.8, 2.5), origin: Sequence[float] = (-10.0, 5.0, 30.0)) -> np.ndarray:
    """An affine in RAS order, anisotropic."""
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = origin
    return matrix


def reoriented(image: Any, codes: str) -> Any:
    """A NIfTI image with its axes stored another way; its voxels stay where they are."""
    wanted = orientations.axcodes2ornt(tuple(codes))
    return image.as_reoriented(orientations.ornt_transform(orientations.io_orientation(image.affine), wanted))


def save_nifti(path: Path, values: np.ndarray, matrix: np.ndarray | None = None, codes: str = "RAS") -> Any:
    """Write an array given in RAS order as NIfTI; returns nibabel's image."""
    image = reoriented(nibabel.Nifti1Image(values, affine() if matrix is None else matrix), codes)
    nibabel.save(image, path)
    return image


def slices_of(
    volume: np.ndarray, axes: Sequence[float] = AXIAL, spacing: Sequence[float] = (0.8, 1.0, 2.5), **more: Any
) -> Iterator[Dataset]:
    """CT slices of a volume int16 [slice, row, column]; spacing of rows, columns and slices; more elements."""
    normal = np.cross(axes[:3], axes[3:])
    series = generate_uid(entropy_srcs=["series", str(more)])
    for n, pixels in enumerate(volume):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[series, str(n)])
        dataset.Modality, dataset.SeriesInstanceUID, dataset.InstanceNumber = "CT", series, n + 1
        dataset.AcquisitionNumber = 1
        dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
        dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1024
        dataset.WindowCenter, dataset.WindowWidth = 40, 400
        dataset.PixelSpacing = [spacing[0], spacing[1]]
        dataset.ImageOrientationPatient = list(axes)
        dataset.ImagePositionPatient = [float(v) for v in np.array([-50.0, -40.0, 100.0]) + n * spacing[2] * normal]
        for name, value in more.items():
            setattr(dataset, name, value)
        dataset.PixelData = pixels.astype(np.uint16).tobytes()
        yield dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write a data set as a file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path, volume: np.ndarray, change: Callable[[int, Dataset], bool | None] = lambda n, d: True, **more: Any
) -> Path:
    """Write a series, the files named in another order than the slices lie in.

    Args:
        folder: where to.
        volume: stored values [slice, row, column].
        change: called with number and data set of each slice; False leaves it out.
        more: see `slices_of`.
    """
    datasets = list(slices_of(volume, **more))
    names = np.random.default_rng(1).permutation(len(datasets))
    for n, dataset in enumerate(datasets):
        if change(n, dataset) is not False:
            save(dataset, folder / f"IM{names[n]:04d}")
    return folder


def write_enhanced(path: Path, volume: np.ndarray, order: Sequence[int] | None = None, **more: Any) -> Path:
    """Write slices as the frames of one enhanced CT image, in a given order."""
    slices = list(slices_of(volume, **more))
    chosen = [slices[n] for n in (range(len(slices)) if order is None else order)]
    whole = Dataset()
    whole.update(chosen[0])
    whole.SOPClassUID, whole.NumberOfFrames = EnhancedCTImageStorage, len(chosen)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_only(chosen[0], "PixelSpacing")]
    shared.PlaneOrientationSequence = [_only(chosen[0], "ImageOrientationPatient")]
    shared.PixelValueTransformationSequence = [_only(chosen[0], "RescaleSlope", "RescaleIntercept")]
    whole.SharedFunctionalGroupsSequence = [shared]
    whole.PerFrameFunctionalGroupsSequence = []
    for one in chosen:
        frame = Dataset()
        frame.PlanePositionSequence = [_only(one, "ImagePositionPatient")]
        whole.PerFrameFunctionalGroupsSequence.append(frame)
    for name in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept"):
        delattr(whole, name)
    whole.PixelData = b"".join(one.PixelData for one in chosen)
    return save(whole, path)


def _only(dataset: Dataset, *names: str) -> Dataset:
    found = Dataset()
    for name in names:
        setattr(found, name, getattr(dataset, name))
    return found


def volume_bundle(folder: Path, size: int = 8, pixdim: float = 2.0) -> Path:
    """A bundle for volumes with a tiny untrained 3D network: the configuration of the phantoms' with another reader."""
    config = json.loads((find_bundle("phantom_xray_diffusion") / "configs" / "inference.json").read_text())
    config |= {"classes": ["clear", "lesion"], "image_size": [size] * 3, "num_draws": 2}
    config["denoiser"] |= {"spatial_dims": 3, "channels": [8, 8], "num_head_channels": 8, "norm_num_groups": 4}
    config["read"] = [
        {"_target_": "monai_diffclf.image_io.ReadVolumed", "keys": "image"},
        {"_target_": "monai.transforms.Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
        {"_target_": "monai.transforms.Spacingd", "keys": "image", "pixdim": [pixdim] * 3, "padding_mode": "border"},
        {
            "_target_": "monai.transforms.ResizeWithPadOrCropd",
            "keys": "image",
            "spatial_size": "@image_size",
            "mode": "edge",
        },
    ]
    config["scale"] |= {"a_min": -1000.0, "a_max": 500.0}
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(config, indent=4))
    (folder / "configs" / "metadata.json").write_text("{}")
    network = open_bundle(folder).get("denoiser")
    generator = torch.Generator().manual_seed(3)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=generator)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder
