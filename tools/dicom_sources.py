# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Valid DICOM images of nobody: CR, DX, MG, SC, MR and CT, with the modules that their classes ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

_CLASS = "1.2.840.10008.5.1.4.1.1."
CR, DX, MG, CT, MR, SC = (_CLASS + end for end in ("1", "1.1", "1.2", "2", "4", "7"))


def uid(*names: object) -> str:
    """The same UID for the same names."""
    return generate_uid(entropy_srcs=["fixture", *map(str, names)])


def item(**elements: Any) -> Dataset:
    """A data set."""
    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def picture(shape: tuple[int, int], seed: int, highest: int) -> np.ndarray:
    """Grey values of a bright ellipse on noise, uint16."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    inside = ((rows / shape[0] - 0.4) / 0.3) ** 2 + ((columns / shape[1] - 0.6) / 0.25) ** 2 < 1
    noise = np.random.default_rng(seed).random(shape)
    return ((0.2 + 0.5 * inside + 0.2 * noise) * highest).astype(np.uint16)


def _basic(sop_class: str, modality: str, name: str, study: str, pixels: np.ndarray, number: int) -> Dataset:
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID, made.SOPInstanceUID = sop_class, uid(name)
    made.StudyInstanceUID, made.SeriesInstanceUID = uid(study), uid(study, modality)
    made.PatientName, made.PatientID = "Fixture^N\xfcll", f"ID-{study}"
    made.PatientBirthDate, made.PatientSex = "19500101", "O"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20200102", "030405", "S1", "A1"
    made.ReferringPhysicianName = ""
    made.Modality, made.SeriesNumber, made.InstanceNumber = modality, 1, number
    made.Manufacturer = "None"
    made.SeriesDate = made.AcquisitionDate = made.ContentDate = "20200102"
    made.SeriesTime = made.AcquisitionTime = made.ContentTime = "030405"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    made.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = 8 * pixels.itemsize
    made.BitsStored = 12 if pixels.itemsize == 2 else 8
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, 0
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def _projection(made: Dataset, spacing: float, monochrome1: bool) -> None:
    made.ImageType = ["ORIGINAL", "PRIMARY", ""]
    made.ImagerPixelSpacing = [spacing, spacing]
    made.PatientOrientation = ["L", "F"]
    made.PixelIntensityRelationship, made.PixelIntensityRelationshipSign = "LOG", -1 if monochrome1 else 1
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = 0, 1, "US"
    made.PresentationLUTShape = "INVERSE" if monochrome1 else "IDENTITY"
    made.LossyImageCompression, made.BurnedInAnnotation = "00", "NO"
    made.WindowCenter, made.WindowWidth = 2048, 4096
    made.PresentationIntentType = "FOR PRESENTATION"
    made.DetectorType = "SCINTILLATOR"
    made.AcquisitionContextSequence = Sequence([])
    if monochrome1:
        made.PhotometricInterpretation = "MONOCHROME1"


def cr(name: str = "cr", *, monochrome1: bool = False, shape: tuple[int, int] = (60, 48)) -> Dataset:
    """A computed radiograph of a chest."""
    made = _basic(CR, "CR", name, f"study {name}", picture(shape, 1, 4095), 1)
    made.ImageType, made.BodyPartExamined, made.ViewPosition = ["ORIGINAL", "PRIMARY"], "CHEST", "PA"
    made.ImagerPixelSpacing, made.PatientOrientation = [0.2, 0.2], ["L", "F"]
    if monochrome1:
        made.PhotometricInterpretation = "MONOCHROME1"
    return made


def dx(name: str = "dx", *, monochrome1: bool = False, shape: tuple[int, int] = (50, 64)) -> Dataset:
    """A digital X-ray of a chest."""
    made = _basic(DX, "DX", name, f"study {name}", picture(shape, 2, 4095), 1)
    _projection(made, 0.14, monochrome1)
    made.BodyPartExamined, made.ImageLaterality, made.ViewPosition, made.PositionerType = "CHEST", "U", "PA", ""
    made.AnatomicRegionSequence = [code("51185008", "SCT", "Chest")]
    made.ViewCodeSequence = [code("399348003", "SCT", "antero-posterior")]
    return made


def mg(name: str = "mg", *, side: str = "L", shape: tuple[int, int] = (72, 56)) -> Dataset:
    """A mammogram."""
    made = _basic(MG, "MG", name, "study mg", picture(shape, 3, 4095), 1 + (side == "R"))
    _projection(made, 0.1, False)
    made.PositionerType, made.OrganExposed = "MAMMOGRAPHIC", "BREAST"
    made.BodyPartExamined, made.ImageLaterality = "BREAST", side
    made.PatientOrientation = ["A", "R"] if side == "L" else ["P", "L"]
    made.AnatomicRegionSequence = [code("76752008", "SCT", "Breast")]
    made.ViewCodeSequence = [code("399162004", "SCT", "cranio-caudal")]
    made.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence([])
    made.BreastImplantPresent, made.PartialView = "NO", "NO"
    return made


def sc(name: str = "sc", *, colour: bool = False, shape: tuple[int, int] = (40, 52)) -> Dataset:
    """A picture that was captured from elsewhere."""
    pixels = (picture(shape, 4, 4095) >> 4).astype(np.uint8)
    pixels = np.stack([pixels, 255 - pixels, pixels], axis=-1) if colour else pixels
    made = _basic(SC, "OT", name, f"study {name}", pixels, 1)
    made.ImageType, made.ConversionType = ["DERIVED", "SECONDARY"], "WSD"
    made.PatientOrientation, made.BodyPartExamined = "", "CHEST"
    return made


@dataclass(frozen=True)
class Plane:
    """How slices lie: cosines of rows and columns, distance of rows, columns and slices in mm."""

    axes: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
    spacing: tuple[float, float, float] = (0.8, 0.8, 3)


AXIAL = Plane()
SAGITTAL = Plane((0, 1, 0, 0, 0, -1), (0.7, 0.9, 4))
CORONAL = Plane((1, 0, 0, 0, 0, -1), (1.1, 0.6, 2.5))
OBLIQUE = Plane((0.8, 0.6, 0, -0.48, 0.64, -0.6), (0.9, 0.7, 2))


def _slice(made: Dataset, number: int, plane: Plane) -> None:
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = uid(made.StudyInstanceUID, "frame"), ""
    made.PixelSpacing, made.SliceThickness, made.PatientPosition = list(plane.spacing[:2]), plane.spacing[2], "HFS"
    normal = np.cross(plane.axes[:3], plane.axes[3:])
    place = np.array([-20, -30, 0]) + plane.spacing[2] * number * normal
    made.ImageOrientationPatient, made.ImagePositionPatient = list(plane.axes), [round(float(x), 6) for x in place]
    made.WindowCenter, made.WindowWidth = 1024, 4096


def ct(
    number: int = 1,
    *,
    name: str = "ct",
    shape: tuple[int, int] = (32, 32),
    plane: Plane = AXIAL,
    stored: np.ndarray | None = None,
) -> Dataset:
    """A slice of a CT of a head; `stored` values in the place of a picture."""
    pixels = picture(shape, 10 + number, 2400) if stored is None else stored.astype(np.uint16)
    made = _basic(CT, "CT", f"{name} {number}", f"study {name}", pixels, number)
    made.ImageType, made.BodyPartExamined = ["ORIGINAL", "PRIMARY", "AXIAL"], "HEAD"
    _slice(made, number, plane)
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = -1024, 1, "HU"
    made.KVP, made.AcquisitionNumber = 120, 1
    made.WindowCenter, made.WindowWidth = 40, 2000
    return made


def mr(number: int = 1, *, name: str = "mr", shape: tuple[int, int] = (36, 40), plane: Plane = AXIAL) -> Dataset:
    """A slice of an MR of a head."""
    made = _basic(MR, "MR", f"{name} {number}", f"study {name}", picture(shape, 20 + number, 2400), number)
    made.ImageType, made.BodyPartExamined = ["ORIGINAL", "PRIMARY", "OTHER"], "HEAD"
    _slice(made, number, plane)
    made.ScanningSequence, made.SequenceVariant, made.ScanOptions, made.MRAcquisitionType = "SE", "NONE", "", "2D"
    made.RepetitionTime, made.EchoTime, made.EchoTrainLength = 500, 15, 1
    return made


def enhanced_ct(slices: list[Dataset]) -> Dataset:
    """The slices as one file of several frames (Legacy Converted Enhanced CT Image)."""
    name = str(slices[0].SOPInstanceUID)
    made = LegacyConvertedEnhancedCTImage(slices, uid(name, "series"), 2, uid(name, "enhanced"), 1)
    del made.ReferencedSeriesSequence  # of the slices, which are no files here
    return made


SOURCES: dict[str, Callable[[], list[Dataset]]] = {
    "cr": lambda: [cr()],
    "cr_monochrome1": lambda: [cr("cr1", monochrome1=True)],
    "dx": lambda: [dx()],
    "dx_monochrome1": lambda: [dx("dx1", monochrome1=True)],
    "mg_left": lambda: [mg()],
    "mg_right": lambda: [mg("mg right", side="R")],
    "sc_grey": lambda: [sc()],
    "sc_colour": lambda: [sc("sc colour", colour=True)],
    "mr_slice": lambda: [mr()],
    "ct_series": lambda: [ct(number) for number in (1, 2, 3)],
    "ct_oblique": lambda: [ct(number, name="ct oblique", shape=(24, 30), plane=OBLIQUE) for number in (3, 1, 4, 2)],
    "mr_sagittal": lambda: [mr(number, name="mr sagittal", plane=SAGITTAL) for number in (2, 3, 1)],
    "mr_coronal": lambda: [mr(number, name="mr coronal", plane=CORONAL) for number in (1, 2, 3)],
    "ct_enhanced": lambda: [enhanced_ct([ct(n, name="ct enhanced", plane=CORONAL) for n in (3, 1, 2)])],
}
"""Images, each a file or the slices of a series."""

VOLUMES = ("ct_series", "ct_oblique", "mr_sagittal", "mr_coronal", "ct_enhanced")
"""Which of them are volumes."""


def write_sources(folder: Path, name: str) -> list[Path]:
    """Write the files of one of `SOURCES`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, made in enumerate(SOURCES[name]()):
        paths.append(folder / f"{name}_{number}.dcm")
        dcmwrite(paths[-1], made, enforce_file_format=True)
    return paths
