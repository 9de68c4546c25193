"""Small files and tables for the tests of data sets and image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


@pytest.fixture
def asymmetric() -> np.ndarray:
    """A uint8 image [6, 8] that no flip, rotation or transposition leaves as it is; from 0 to 255."""
    image = np.zeros((6, 8), dtype=np.uint8)
    image[0, :5] = 255
    image[:4, 0] = 100
    image[1, 2] = 30
    return image


@pytest.fixture
def write_dicom():
    """Function that writes an array as a DICOM file; keywords become elements of the data set."""

    def write(path: Path, pixels: np.ndarray, **elements: object) -> Path:
        dataset = Dataset()
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[path.name])
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.SamplesPerPixel = 1
        dataset.Rows, dataset.Columns = pixels.shape[-2:]
        if pixels.ndim == 3:
            dataset.NumberOfFrames = len(pixels)
        dataset.BitsAllocated = 8 * pixels.itemsize
        dataset.BitsStored = 8 * pixels.itemsize
        dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
        for name, value in elements.items():
            setattr(dataset, name, value)
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write
