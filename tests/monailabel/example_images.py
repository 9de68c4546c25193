"""The same picture in the formats that the app takes, and a bundle that answers fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

# Voxels are not of 1 mm, though square, and both axes of the plane run against the screen: to the right and front.
AFFINE = np.array([[0.5, 0.1, 0.0, -20.0], [-0.1, 0.5, 0.0, 30.0], [0.0, 0.0, 2.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
OTHERS = ("train", "evaluate")
ROW_SPACING, COLUMN_SPACING, POSITION = 0.3, 0.3, (-12.0, 7.0, 50.0)


def make_picture(seed: int = 0, size: tuple[int, int] = (61, 47)) -> np.ndarray:
    """A smooth uint8 picture without any symmetry."""
    rows, columns = np.meshgrid(*(np.linspace(0, 1, n) for n in size), indexing="ij")
    blobs = np.zeros(size)
    for y, x, weight in np.random.default_rng(seed).uniform(0, 1, (5, 3)):
        blobs += weight * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 0.05)
    return np.rint(255 * blobs / blobs.max()).astype(np.uint8)


def write_png(path: Path, picture: np.ndarray) -> Path:
    """Write a PNG."""
    Image.fromarray(picture).save(path)
    return path


def write_nifti(path: Path, picture: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write a NIfTI file that viewers show like the picture; axis 0 is the column."""
    nibabel.save(nibabel.Nifti1Image(picture[::-1, ::-1].T[:, :, None].copy(), affine), path)
    return path


def write_dicom(path: Path, picture: np.ndarray, spacing: tuple[float, float] = (ROW_SPACING, COLUMN_SPACING)) -> Path:
    """Write a DICOM file with a place in the patient: coronal, columns to the left, rows to the feet."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = picture.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelSpacing, dataset.ImagePositionPatient = list(spacing), list(POSITION)
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    dataset.PixelData = picture.tobytes() + b"\0" * (picture.size % 2)
    dataset.save_as(path, enforce_file_format=True)
    return path


def make_bundle(original: Path, folder: Path, **changes: Any) -> Path:
    """A bundle of the same weights with three draws, on the CPU, and other changes to its configuration."""
    (folder / "configs").mkdir(parents=True)
    # Without those of training and evaluation, which would not agree.
    for file in set(original.glob("configs/*.json")) - {original / "configs" / f"{name}.json" for name in OTHERS}:
        (folder / "configs" / file.name).write_text(file.read_text())
    config = json.loads((original / "configs" / "inference.json").read_text())
    config.pop("postprocessing", None)  # what is fitted for the bundle's own number of draws
    config |= {"num_draws": 3, "device": "$torch.device('cpu')", "checkpoint": str(original / "models" / "model.pt")}
    (folder / "configs" / "inference.json").write_text(json.dumps(config | changes))
    return folder
