"""Small data sets in the official layouts of CBIS-DDSM, INbreast and VinDr-Mammo, with synthetic mammograms."""

from __future__ import annotations

import plistlib
import struct
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from monai_diffclf.data.image_table import split_by_hash
from monai_diffclf.data.inbreast import split_of_patient as inbreast_split

CBIS_HEADER = (
    "patient_id,{density},left or right breast,image view,abnormality id,abnormality type,mass shape,mass margins,"
    "assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path\n"
)
INBREAST_HEADER = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
VINDR_HEADER = "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split\n"


def synthetic_mammogram(height: int = 120, width: int = 90, *, seed: int = 0) -> np.ndarray:
    """A breast with its chest wall on the left, a label at the top right: uint16 ``[H, W]``, 14 bits."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot((rows - height / 2) / (0.42 * height), columns / (0.6 * width))
    tissue = 0.3 + 0.5 * np.clip(1 - distance, 0, 1)
    texture = 0.05 * np.random.default_rng(seed).random((height, width))
    image = np.where(distance < 1, tissue + texture, 0.0)
    image[height // 20 : height // 8, -width // 5 : -width // 20] = 1.0
    return (image * 16383).astype(np.uint16)


def mammogram_dataset(pixels: np.ndarray, **elements: object) -> Dataset:
    """A DICOM data set with an image; keywords become elements, None removes one."""
    dataset = Dataset()
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(sorted(elements))])
    dataset.Modality = "MG"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.PixelRepresentation = 16, 14, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name, value in elements.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    dataset.HighBit = dataset.BitsStored - 1
    return dataset


def write_mammogram(path: Path, pixels: np.ndarray | None = None, **elements: object) -> Path:
    """Write a mammogram, by default a tiny one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tiny = np.arange(12, dtype=np.uint16).reshape(4, 3) * 1000
    mammogram_dataset(tiny if pixels is None else pixels, **elements).save_as(path, enforce_file_format=True)
    return path


def patients_of(split: str, split_of: Callable[[str], str], pattern: str, number: int) -> list[str]:
    """The first patients, named by a pattern such as ``"P_{:05d}"``, that are in a split by hash."""
    names = (pattern.format(n) for n in count(1))
    return [next(name for name in names if split_of(name) == split) for _ in range(number)]


def cbis_row(
    patient: str,
    kind: str = "Mass",
    part: str = "Training",
    *,
    side: str = "LEFT",
    view: str = "CC",
    pathology: str = "BENIGN",
    assessment: str = "4",
    density: str = "3",
    abnormality: int = 1,
) -> str:
    """One line of a table of CBIS-DDSM, with the line break that the official tables have within a field."""
    name = f"{kind}-{part}_{patient}_{side}_{view}"
    crop = f"{name}_{abnormality}/1.3.6.1.4.1.9590.3/1.3.6.1.4.1.9590.4/000001.dcm"
    return (
        f"{patient},{density},{side},{view},{abnormality},{kind.lower()},OVAL,CIRCUMSCRIBED,{assessment},{pathology},4,"
        f'{name}/1.3.6.1.4.1.9590.1/1.3.6.1.4.1.9590.2/000000.dcm,{crop},"{crop}\n"\n'
    )


def cbis_tables(root: Path, **rows: list[str]) -> Path:
    """The four tables, ``mass_train=[...]`` and so on; one that is left out gets a row of a patient of its own."""
    patients = iter(patients_of("train", split_by_hash, "P_9{:04d}", 4))
    for kind in ("mass", "calc"):
        for part, name in (("train", "Training"), ("test", "Test")):
            default = [cbis_row(next(patients), kind.capitalize(), name)]
            density = "breast_density" if kind == "mass" else "breast density"
            text = CBIS_HEADER.format(density=density) + "".join(rows.get(f"{kind}_{part}", default))
            root.mkdir(parents=True, exist_ok=True)
            (root / f"{kind}_case_description_{part}_set.csv").write_text(text)
    return root


def cbis_images(root: Path, *, manifest: bool = False) -> None:
    """The mammograms of the tables, in the folders that the NBIA retriever makes; crops have folders of their own."""
    base = root / "manifest-1600709154662" / "CBIS-DDSM" if manifest else root / "CBIS-DDSM"
    for table in root.glob("*_set.csv"):
        for word in table.read_text().replace("\n", ",").split(","):
            if word.endswith("000000.dcm"):
                name = word.split("/")[0]
                write_mammogram(base / name / "07-20-2016-DDSM-NA-74994/1.000000-full mammogram images-24515/1-1.dcm")
                write_mammogram(base / f"{name}_1" / "07-20-2016-DDSM-NA-1/1.000000-cropped images-2/1-1.dcm")


def inbreast_tree(root: Path, rows: list[tuple[str, str, str, str, str]], *, excel: bool = False) -> Path:
    """INbreast with rows of (ID, patient, file's side and view such as "L_CC", ACR, BI-RADS)."""
    lines = [INBREAST_HEADER.split(";")]
    for key, patient, place, density, birads in rows:
        side, view = place.split("_")
        lines.append(["removed", "removed", side, "MLO" if view == "ML" else view, "201001", key, density, birads])
        write_mammogram(root / "AllDICOMs" / f"{key}_{patient}_MG_{place}_ANON.dcm")
    # The official table ends with lines that are no images.
    lines += [[""] * 8, ["", "notes", "", "", "", "", "", ""]]
    if excel:
        write_biff2(root / "INbreast.xls", lines)
    else:
        (root / "INbreast.csv").write_text("\n".join(";".join(line) for line in lines) + "\n")
    return root


def inbreast_outlines(root: Path, key: str) -> Path:
    """A property list with one mass, as OsiriX writes it."""
    path = root / "AllXML" / f"{key}.xml"
    path.parent.mkdir(exist_ok=True)
    points = ["(1.5, 2.0)", "(5.0, 2.0)", "(5.0, 6.25)"]
    images = [{"ImageIndex": 0, "NumberOfROIs": 1, "ROIs": [{"Name": "Mass", "Point_px": points}]}]
    path.write_bytes(plistlib.dumps({"Images": images}))
    return path


def write_biff2(path: Path, lines: list[list[str]]) -> None:
    """An Excel 2 worksheet, the simplest that xlrd reads; numbers are floats, as in all Excel files."""
    records = [struct.pack("<HHHH", 0x0009, 4, 2, 0x10)]
    for i, line in enumerate(lines):
        for j, text in enumerate(line):
            place = struct.pack("<HH3x", i, j)
            if text.isdecimal():
                records.append(struct.pack("<HH", 0x0003, 15) + place + struct.pack("<d", float(text)))
            elif text:
                body = place + bytes([len(text)]) + text.encode("ascii")
                records.append(struct.pack("<HH", 0x0004, len(body)) + body)
    path.write_bytes(b"".join(records) + struct.pack("<HH", 0x000A, 0))


def vindr_row(study: str, image: str, **values: str) -> str:
    """One line of the table of VinDr-Mammo."""
    row = {"side": "L", "view": "CC", "birads": "BI-RADS 2", "density": "DENSITY C", "split": "training"} | values
    finding = f"{row['birads']},{row['density']},{row['split']}"
    return f"{study},series,{image},{row['side']},{row['view']},3518,2800,{finding}\n"


def vindr_tree(root: Path, rows: list[str]) -> Path:
    """VinDr-Mammo with these rows and their images."""
    for row in rows:
        study, _, image, *_ = row.split(",")
        write_mammogram(root / "images" / study / f"{image}.dicom")
    root.mkdir(parents=True, exist_ok=True)
    (root / "breast-level_annotations.csv").write_text(VINDR_HEADER + "".join(rows))
    return root


def fill_with_mammograms(root: Path) -> Path:
    """Replace the tiny images of a data set by synthetic mammograms in which a breast can be found."""
    files = sorted(file for file in root.rglob("*") if file.suffix in (".dcm", ".dicom"))
    for seed, file in enumerate(files):
        write_mammogram(file, synthetic_mammogram(60, 45, seed=seed))
    return root


def vindr_bundle_data(root: Path) -> Path:
    """VinDr-Mammo with mammograms of both classes in each split: 4 train, 4 validation, 4 test."""
    rows = []
    for split in ("train", "validation", "test"):
        patients = [f"t{i}" for i in range(4)]
        if split != "test":
            patients = patients_of(split, split_by_hash, "s{}", 4)
        part = "test" if split == "test" else "training"
        rows += [
            vindr_row(patient, f"{patient}_image", birads=("BI-RADS 2", "BI-RADS 5")[i % 2], split=part)
            for i, patient in enumerate(patients)
        ]
    return fill_with_mammograms(vindr_tree(root, rows))


def cbis_bundle_data(root: Path) -> Path:
    """CBIS-DDSM likewise; the tables of calcifications have a row of one more patient each."""
    rows: dict[str, list[str]] = {"mass_train": [], "mass_test": []}
    for split in ("train", "validation", "test"):
        part, table = ("Test", "mass_test") if split == "test" else ("Training", "mass_train")
        patients = (
            [f"P_0{i}" for i in range(4)] if split == "test" else patients_of(split, split_by_hash, "P_1{:04d}", 4)
        )
        rows[table] += [
            cbis_row(patient, part=part, pathology=("BENIGN", "MALIGNANT")[i % 2]) for i, patient in enumerate(patients)
        ]
    cbis_tables(root, **rows)
    cbis_images(root)
    return fill_with_mammograms(root)


def inbreast_bundle_data(root: Path) -> Path:
    """INbreast likewise."""
    rows = []
    for split in ("train", "validation", "test"):
        for i, patient in enumerate(patients_of(split, inbreast_split, "p{}", 4)):
            rows.append((f"{len(rows)}", patient, "R_ML" if i < 2 else "L_CC", "2", "25"[i % 2]))
    return fill_with_mammograms(inbreast_tree(root, rows))
