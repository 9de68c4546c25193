"""DICOM files of every kind, with what the standard says they show (PS3.3, C.11.1, C.11.2, C.7.6.3, C.7.6.16)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite
from pydicom.data import DATA_ROOT
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from monai_diffclf.image_io import read_image_file

from .cases import ANYTHING, GREY_LEVEL, Case, ramp

CLASS = "1.2.840.10008.5.1.4.1.1."
DX, SECONDARY, TOMOSYNTHESIS, ANGIOGRAPHY = CLASS + "1.1.1", CLASS + "7", CLASS + "13.1.3", CLASS + "12.1"
Array = npt.NDArray[Any]


def data_set(
    pixels: Array, *, bits: int = 12, allocated: int = 16, signed: bool = False, **elements: Any
) -> FileDataset:
    """A data set with these stored values; keywords become elements, None an empty one."""
    meta = FileMetaDataset()
    kind = elements.pop("sop", DX)
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, kind
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[repr(elements)])
    made = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = kind, meta.MediaStorageSOPInstanceUID, "DX"
    made.Rows, made.Columns = pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", int(signed)
    made.BitsAllocated, made.BitsStored, made.HighBit = allocated, bits, bits - 1
    if pixels.ndim == 3:
        made.NumberOfFrames = len(pixels)
    type_ = {8: np.uint8, 16: np.uint16, 32: np.uint32}[allocated]
    data = np.ascontiguousarray(pixels).astype(np.int64).astype(type_).tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB" if allocated == 8 else "OW"
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def save(made: FileDataset, name: str, folder: Path, *, syntax: str | None = None, preamble: bool = True) -> Path:
    """Write a data set."""
    path = folder / name
    if syntax is not None:
        made.file_meta.TransferSyntaxUID = syntax
    made.save_as(path, enforce_file_format=True)
    if not preamble:
        path.write_bytes(path.read_bytes()[132:])
    return path


def linear(values: Array, center: float, width: float) -> Array:
    """The VOI function LINEAR, C.11.2.1.2.1, to [0, 1]."""
    inside = (values - (center - 0.5)) / max(width - 1, 1e-9) + 0.5
    return np.where(
        values <= center - 0.5 - (width - 1) / 2, 0, np.where(values > center - 0.5 + (width - 1) / 2, 1, inside)
    )


def linear_exact(values: Array, center: float, width: float) -> Array:
    """The VOI function LINEAR_EXACT, C.11.2.1.3.2."""
    return np.clip((values - center) / width + 0.5, 0, 1)


def sigmoid(values: Array, center: float, width: float) -> Array:
    """The VOI function SIGMOID, C.11.2.1.3.1."""
    return 1 / (1 + np.exp(-4 * (values - center) / width))


FUNCTIONS = {None: linear, "LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}


_RESCALES = ((1.0, 0.0), (-1.0, 300.0), (2.5, -1000.0), (-0.5, 12.0))


def grey_cases(count: int, seed: int = 0) -> Iterator[Case]:
    """Random settings of the grey pipeline: depth, sign, garbage above, slope, window and where it stands, polarity."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        bits = int(rng.choice([8, 10, 12, 14, 16]))
        allocated = 8 if bits == 8 and rng.random() < 0.5 else 16
        signed, photometric = bool(rng.random() < 0.4), str(rng.choice(["MONOCHROME1", "MONOCHROME2"]))
        low = -(2 ** (bits - 1)) if signed else 0
        stored = np.rint(low + ramp() * (2**bits - 1)).astype(np.int64)
        slope, intercept = _RESCALES[int(rng.integers(len(_RESCALES)))]
        values = stored * slope + intercept
        elements: dict[str, Any] = {"PhotometricInterpretation": photometric}
        if slope != 1:
            elements |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
        elif rng.random() < 0.5:  # empty elements count as absent
            elements |= {"RescaleSlope": None, "RescaleIntercept": None}
        windowed = rng.random() < 0.7
        if windowed:
            function = rng.choice(np.array([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"], dtype=object))
            center = round(float(values.min() + rng.uniform(0.3, 0.7) * np.ptp(values)), 1)
            width = round(float(rng.uniform(0.3, 1.2) * np.ptp(values)), 1)
            shown = FUNCTIONS[function](values, center, width)
            window = {"WindowCenter": center, "WindowWidth": width}
            if function is not None:
                window["VOILUTFunction"] = function
            where = str(rng.choice(["top", "shared", "per frame"]))
            elements |= window if where == "top" else _group(window, where)
        else:
            ends = np.array([low, low + 2**bits - 1]) * slope + intercept
            shown = (values - ends.min()) / np.ptp(ends)
            where = "none"
        if photometric == "MONOCHROME1":
            shown = 1 - shown
        shift = int(rng.integers(0, allocated - bits + 1)) if allocated > bits else 0
        raw = (stored & (2**bits - 1)) << shift
        garbage = rng.integers(0, 2**allocated, raw.shape) & ~((2**bits - 1) << shift) if rng.random() < 0.4 else 0
        made = data_set(raw | garbage, bits=bits, allocated=allocated, signed=signed, **elements)
        made.HighBit = bits - 1 + shift
        name = (
            f"grey {number}: {bits} of {allocated} bits, high bit {made.HighBit}, signed {signed}, {photometric}, "
            f"slope {slope}, window {where} {elements.get('VOILUTFunction', '')}"
        )
        yield Case(name, partial(save, made, f"g{number}.dcm"), read_image_file, shown)


def _group(window: dict[str, Any], where: str) -> dict[str, Any]:
    """A window in a functional group, C.7.6.16.2.10."""
    voi, group = Dataset(), Dataset()
    for name, value in window.items():
        setattr(voi, name, value)
    group.FrameVOILUTSequence = [voi]
    name = "SharedFunctionalGroupsSequence" if where == "shared" else "PerFrameFunctionalGroupsSequence"
    return {name: [group], "NumberOfFrames": 1, "sop": TOMOSYNTHESIS}


def _lut_item(data: Array, first: int, bits: int, *, entries: int | None = None) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(data) % 65536 if entries is None else entries, first, bits]
    item.add_new(0x00283006, "OW", np.asarray(data, np.uint16).tobytes())
    return item


def lut_cases() -> Iterator[Case]:
    """Look-up tables of 8 to 16 bits in 16-bit words, short ones, and tables that contradict themselves."""
    stored = np.rint(ramp() * 4095).astype(np.int64)
    curve = np.sqrt(np.arange(4096) / 4095)
    for keyword in ("VOILUTSequence", "ModalityLUTSequence"):
        for bits in (8, 10, 12, 14, 16):
            item = _lut_item(np.rint(curve * (2**bits - 1)), 0, bits)
            made = data_set(stored, **{keyword: [item]})
            yield Case(f"{keyword} of {bits} bits", partial(save, made, "l.dcm"), read_image_file, curve[stored])
    short = _lut_item(np.arange(256) * 257, 1000, 16)
    shown = np.clip(stored - 1000, 0, 255) / 255
    made = data_set(stored, VOILUTSequence=[short])
    yield Case("VOI LUT of 256 entries from 1000 on", partial(save, made, "l.dcm"), read_image_file, shown)
    for keyword in ("VOILUTSequence", "ModalityLUTSequence"):
        made = data_set(stored, **{keyword: [_lut_item(np.arange(4096), 0, 16)]})
        yield Case(
            f"{keyword} says 16 bits, holds 12",
            partial(save, made, "l.dcm"),
            read_image_file,
            stored / 65535,
            or_refused=True,
            named="l.dcm",
            warns="l.dcm",
        )
        made = data_set(stored, **{keyword: [_lut_item(np.arange(100), 0, 16, entries=4096)]})
        yield Case(
            f"{keyword} with fewer words than entries", partial(save, made, "l.dcm"), read_image_file, named="l.dcm"
        )
        empty = data_set(stored, **{keyword: []})
        yield Case(f"empty {keyword}", partial(save, empty, "l.dcm"), read_image_file, stored / 4095)
    log = _lut_item(np.rint(curve * 65535), 0, 16)
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    for relationship in ("LOG", "LIN"):
        made = data_set(
            stored, sop=ANGIOGRAPHY, ModalityLUTSequence=[log], PixelIntensityRelationship=relationship, **window
        )
        made.Modality = "XA"
        yield Case(
            f"modality LUT of an angiogram, {relationship}",
            partial(save, made, "l.dcm"),
            read_image_file,
            linear(stored, 2048, 4096),
        )


def other_cases() -> Iterator[Case]:
    """Polarity, empty tags, encodings, frames, padding, what is no image."""
    image = ramp()
    stored = np.rint(image * 4095).astype(np.int64)
    case = partial(_case, stored)
    yield case("PresentationLUTShape INVERSE", 1 - image, PresentationLUTShape="INVERSE")
    yield case("PresentationLUTShape IDENTITY", image, PresentationLUTShape="IDENTITY")
    yield case(
        "MONOCHROME1, INVERSE", 1 - image, PresentationLUTShape="INVERSE", PhotometricInterpretation="MONOCHROME1"
    )
    empty = ["WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept", "RescaleType"]
    empty += [
        "NumberOfFrames",
        "PresentationLUTShape",
        "PixelSpacing",
        "PixelPaddingValue",
        "WindowCenterWidthExplanation",
    ]
    empty += [
        "PixelAspectRatio",
        "ImagerPixelSpacing",
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
        "PlanarConfiguration",
    ]
    for name in empty:
        yield case(f"empty {name}", image, **{name: None})
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    for name in ("VOILUTFunction", "RescaleSlope", "RescaleIntercept", "PresentationLUTShape"):
        yield case(f"empty {name} beside a window", linear(stored, 2048, 4096), **window, **{name: None})
    two = linear(stored, 1000, 600)
    yield case("two windows: the first", two, WindowCenter=["1000", "3000"], WindowWidth=["600", "50"])
    yield case("window of width 1", (stored >= 2000).astype(float), WindowCenter="2000.5", WindowWidth="1")
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        made = data_set(stored)
        if syntax == ExplicitVRBigEndian:
            made.PixelData = stored.astype(">u2").tobytes()
        yield Case(f"{syntax.name}", partial(_save_as, made, syntax), read_image_file, image)
    rle = data_set(stored)
    rle.compress("1.2.840.10008.1.2.5")
    yield Case("RLE", partial(save, rle, "r.dcm"), read_image_file, image)
    for name, preamble in (
        ("IM0001", True),
        ("IM0002", False),
        ("a.dcm", False),
        ("scan.png", True),
        ("scan.nii", True),
    ):
        yield Case(
            f"called {name}, preamble {preamble}",
            partial(save, data_set(stored), name, preamble=preamble),
            read_image_file,
            image,
        )
    frames = np.stack([stored, stored[::-1], stored[:, ::-1]])
    shown = np.moveaxis(frames / 4095, 0, -1)
    yield Case("three frames", partial(save, data_set(frames), "f.dcm"), read_image_file, shown)
    yield from _refused_cases(stored)


def _case(stored: Array, name: str, shown: Array, **elements: Any) -> Case:
    return Case(
        name, partial(save, data_set(stored, **elements), "o.dcm"), read_image_file, shown, tolerance=GREY_LEVEL
    )


def _save_as(made: FileDataset, syntax: str, folder: Path) -> Path:
    made.file_meta.TransferSyntaxUID = syntax
    path = folder / "s.dcm"
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dcmwrite(path, made, implicit_vr=implicit, little_endian=little, force_encoding=True)
    return path


def _refused_cases(stored: Array) -> Iterator[Case]:
    def refused(name: str, **elements: Any) -> Case:
        return Case(name, partial(save, data_set(stored, **elements), "bad.dcm"), read_image_file, named="bad.dcm")

    doubtful = partial(Case, read=read_image_file, or_refused=True, named="bad.dcm", warns="bad.dcm")
    whole, window = stored / 4095, {"WindowCenter": "2048", "WindowWidth": "1000"}
    for name, shown, elements in (
        ("window without a width", whole, window | {"WindowWidth": "0"}),
        ("negative window", whole, window | {"WindowWidth": "-5"}),
        ("unknown VOI function", linear(stored, 2048, 1000), window | {"VOILUTFunction": "CUBIC"}),
        ("slope 0", whole, {"RescaleSlope": "0", "RescaleIntercept": "5"}),
    ):
        yield doubtful(name, partial(save, data_set(stored, **elements), "bad.dcm"), expected=shown)
    yield refused("more bits stored than allocated", BitsStored=20)
    yield refused("high bit beyond the word", HighBit=17)
    yield refused("pixels cut short", PixelData=stored.astype(np.uint16).tobytes()[:100])
    yield refused("no pixel data", PixelData=b"")
    yield refused("65535 x 65535 pixels said, 480 there", Rows=65535, Columns=65535)
    yield refused("unknown photometric interpretation", PhotometricInterpretation="MONOCHROME9")
    yield refused("0 rows", Rows=0)
    yield refused("half of the rows, so that there are two frames", Rows=10)
    three = data_set(np.stack([stored] * 3))
    three.NumberOfFrames = 2
    yield Case("three frames, said to be two", partial(save, three, "bad.dcm"), read_image_file, named="bad.dcm")


def pydicoms() -> Iterator[Case]:
    """The files that pydicom brings for its own tests; test_dicom_file compares their pixels with DCMTK's."""
    for path in sorted(Path(DATA_ROOT, "test_files").glob("*.dcm")):
        yield Case(f"pydicom's {path.name}", lambda folder, path=path: path, read_image_file, ANYTHING, named=path.name)


def dicom_cases() -> list[Case]:
    """All of them."""
    return [*grey_cases(90), *lut_cases(), *other_cases(), *pydicoms()]
