"""Grey DICOM images of every kind, with the options by which DCMTK shows them as viewers do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.image_io.dcmtk import voi_options

RAMP = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (16, 1))
SIGNED = RAMP.astype(np.int16) - 2048
RAMP8 = np.arange(4096) // 16
DX, SC, CT, XA, XRF = ("1.2.840.10008.5.1.4.1.1." + uid for uid in ("1.1.1", "7", "2", "12.1", "12.2"))


@dataclass(frozen=True)
class Case:
    """An image; `options` are DCMTK's, `like` is the data set that DCMTK is shown in its place.

    DCMTK cuts the output of the modality LUT to whole numbers before it applies a narrow window: `tolerance`.
    """

    name: str
    dataset: Dataset
    options: tuple[str, ...]
    like: Dataset | None = None
    tolerance: float = 1 / 255


def image(pixels: np.ndarray, *, bits: int = 12, high: int | None = None, sop: str = DX, **elements: object) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[sop, str(elements)])
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.BitsAllocated, dataset.BitsStored = 8 * pixels.itemsize, bits
    dataset.HighBit = bits - 1 if high is None else high
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def lut(descriptor: tuple[int, int, int], data: object, vr: str = "OW") -> list[Dataset]:
    """A sequence with a lookup table; bytes are stored as they are, numbers in words of 16 bits."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if descriptor[1] < 0 else "US", list(descriptor))
    if vr == "OW":
        item.add_new("LUTData", "OW", data if isinstance(data, bytes) else np.asarray(data, np.uint16).tobytes())
    else:
        item.add_new("LUTData", "US", [int(value) for value in data])
    return [item]


def all_cases() -> list[Case]:
    cases = [*_rescales(), *_windows(), *_tables(), *_bits(), *_polarity(), *_not_for_display(), *_empty(), *_frames()]
    assert len({case.name for case in cases}) == len(cases)
    return cases


def _case(name: str, dataset: Dataset) -> Case:
    return Case(name, dataset, voi_options(dataset))


def _rescales() -> Iterator[Case]:
    slopes = ((1, 0), (-1, 4095), (-10, 40950), (2, -1024), (0.1, 3), (-0.25, 7.5), (1.7, -100.3))
    for (slope, intercept), kind, pixels in product(slopes, ("MONOCHROME1", "MONOCHROME2"), (RAMP, SIGNED)):
        scale = {"RescaleSlope": str(slope), "RescaleIntercept": str(intercept), "PhotometricInterpretation": kind}
        name = f"slope {slope} intercept {intercept} {kind} {pixels.dtype}"
        yield _case(name, image(pixels, **scale))
        middle = float(np.median(pixels)) * slope + intercept
        for width in (abs(slope) * 1000, max(abs(slope) * 50, 2)):
            window = {"WindowCenter": f"{middle:.6g}", "WindowWidth": f"{width:.6g}"}
            case = _case(f"{name} width {width}", image(pixels, **scale, **window))
            cut = 0 if float(slope).is_integer() else 1 / (width - 1)
            yield replace(case, tolerance=1 / 255 + cut)


def _windows() -> Iterator[Case]:
    for width, function in product((1, 1.5, 2, 17, 256, 4096, 10000), ("LINEAR", "SIGMOID")):
        window = {"WindowCenter": "2080", "WindowWidth": str(width), "VOILUTFunction": function}
        yield _case(f"{function} of width {width}", image(RAMP, **window))
    yield _case("two windows", image(RAMP, WindowCenter=["2048", "100"], WindowWidth=["4096", "10"]))
    yield _case("more centers than widths", image(RAMP, WindowCenter=["2048", "100"], WindowWidth="400"))
    yield _case("center outside", image(RAMP, WindowCenter="-5000", WindowWidth="400"))


def _tables() -> Iterator[Case]:
    i = np.arange(4096)
    tables = {
        "8 bits in words": lut((4096, 0, 8), i // 16),
        "8 bits, two to a word": lut((4096, 0, 8), (i // 16).astype(np.uint8).tobytes()),
        "10 bits": lut((4096, 0, 10), i // 4),
        "12 bits": lut((4096, 0, 12), i),
        "12 bits as US": lut((4096, 0, 12), i, "US"),
        "14 bits falling": lut((4096, 0, 14), 4 * i[::-1]),
        "16 bits curved": lut((4096, 0, 16), 65535 * (i / 4095) ** 2),
        "16 bits, holds 12": lut((4096, 0, 16), i),
        "65536 entries": lut((0, 0, 16), np.arange(65536)),
        "first is 1000": lut((2048, 1000, 16), 32 * i[:2048]),
        "fewer entries": lut((100, 0, 8), np.arange(100) * 2),
        "more data than entries": lut((2048, 0, 16), 16 * i),
    }
    for (name, table), where, kind in product(
        tables.items(), ("VOILUTSequence", "ModalityLUTSequence"), ("MONOCHROME1", "MONOCHROME2")
    ):
        yield _case(f"{where} {name} {kind}", image(RAMP, PhotometricInterpretation=kind, **{where: table}))
    for first in (-2048, 63488):
        table = lut((4096, first, 12), i)
        for where in ("VOILUTSequence", "ModalityLUTSequence"):
            yield _case(f"{where} of signed pixels from {first}", image(SIGNED, **{where: table}))
    window = {"WindowCenter": "128", "WindowWidth": "100"}
    yield _case("modality LUT and window", image(RAMP, ModalityLUTSequence=lut((4096, 0, 8), i // 16), **window))
    both = {"ModalityLUTSequence": lut((4096, 0, 12), i[::-1]), "VOILUTSequence": lut((4096, 0, 8), i // 16)}
    yield _case("modality LUT and VOI LUT", image(RAMP, **both))
    for slope, intercept in ((2, 0), (-1, 4095), (0.5, -7.3), (1, -1024)):
        scale = {"RescaleSlope": str(slope), "RescaleIntercept": str(intercept)}
        for sign, pixels in (("unsigned", RAMP), ("signed", SIGNED)):
            table = lut((4096, -1024 if intercept < 0 else 0, 16), 16 * i)
            yield _case(f"VOI LUT after slope {slope} {intercept} {sign}", image(pixels, VOILUTSequence=table, **scale))


def _bits() -> Iterator[Case]:
    for high, garbage in product((11, 12, 13, 15), (0, 0xFFFF)):
        unused = ~(0xFFF << (high - 11)) & 0xFFFF & garbage
        cells = ((RAMP << (high - 11)) | unused).astype(np.uint16)
        yield _case(f"high bit {high} garbage {garbage}", image(cells, high=high))
        cells = (((SIGNED.view(np.uint16) & 0xFFF) << (high - 11)) | unused).astype(np.uint16)
        yield _case(f"high bit {high} garbage {garbage} signed", image(cells.view(np.int16), high=high))
    overlay = {"OverlayRows": 16, "OverlayColumns": 64, "OverlayType": "G", "OverlayOrigin": [1, 1]}
    dataset = image(RAMP | np.uint16(0xA000))
    for number, (name, value) in enumerate(overlay.items()):
        element = (0x0010, 0x0011, 0x0040, 0x0050)[number]
        dataset.add_new((0x6000, element), "CS" if name == "OverlayType" else "SS" if element == 0x50 else "US", value)
    dataset.add_new((0x6000, 0x0100), "US", 16)
    dataset.add_new((0x6000, 0x0102), "US", 13)
    yield _case("overlay in the pixels", dataset)
    for bits in (1, 2, 4, 7, 8):
        yield _case(f"{bits} of 8 bits", image((RAMP >> (12 - bits)).astype(np.uint8), bits=bits))
        yield _case(f"{bits} of 16 bits", image(RAMP >> (12 - bits), bits=bits))
    for kind, bits in ((np.uint32, 32), (np.int32, 32), (np.uint32, 20), (np.uint16, 16), (np.int16, 16), (np.int8, 8)):
        low = 0 if np.issubdtype(kind, np.unsignedinteger) else -(2 ** (bits - 1))
        yield _case(f"{np.dtype(kind)} {bits}", image((low + RAMP * (2.0**bits - 1) // 4095).astype(kind), bits=bits))
    yield _case("fewer bits stored than used", image(RAMP, bits=10))


def _polarity() -> Iterator[Case]:
    kinds, shapes = ("MONOCHROME1", "MONOCHROME2"), (None, "", "IDENTITY", "INVERSE")
    windows = ({}, {"WindowCenter": "1000", "WindowWidth": "1500"}, {"VOILUTSequence": lut((4096, 0, 8), RAMP8)})
    for kind, shape, (number, window) in product(kinds, shapes, enumerate(windows)):
        elements = {"PhotometricInterpretation": kind, **window}
        if shape is not None:
            elements["PresentationLUTShape"] = shape
        yield _case(f"{kind} shape {shape!r} {number}", image(RAMP, **elements))


def _not_for_display() -> Iterator[Case]:
    root = lut((4096, 0, 16), 65535 * np.sqrt(np.arange(4096) / 4095))
    window = {"WindowCenter": "2048", "WindowWidth": "2000"}
    for sop, relation in product((XA, XRF, DX, SC), ("LOG", "LIN", "DISP", None)):
        elements = dict(window) if relation is None else {**window, "PixelIntensityRelationship": relation}
        yield _case(f"modality LUT {sop} {relation}", image(RAMP, sop=sop, ModalityLUTSequence=root, **elements))
        scale = {"RescaleSlope": "3", "RescaleIntercept": "-99"}
        yield _case(f"slope {sop} {relation}", image(RAMP, sop=sop, **scale, **elements))


def _empty() -> Iterator[Case]:
    window = {"WindowCenter": "2048", "WindowWidth": "1000"}
    scale = {"RescaleSlope": "2", "RescaleIntercept": "-7"}
    lists = ("ModalityLUTSequence", "VOILUTSequence")
    texts = ("VOILUTFunction", "RescaleType", "NumberOfFrames", "PresentationLUTShape", "WindowCenterWidthExplanation")
    for name in (*texts, *lists, "PixelPaddingValue", "PixelIntensityRelationship", "HighBit"):
        value: object = [] if name in lists else ""
        yield _case(f"empty {name}", image(RAMP, **{**window, **scale, name: value}))
    yield _case("empty window", image(RAMP, WindowCenter="", WindowWidth="", **scale))
    yield _case("empty slope", image(RAMP, RescaleSlope=None, RescaleIntercept=None, **window))


def _frames() -> Iterator[Case]:
    frames = np.stack([RAMP, RAMP[:, ::-1], RAMP // 2])
    window = {"WindowCenter": "1500", "WindowWidth": "900"}
    yield _case("three frames", image(frames))
    yield _case("three frames and a window", image(frames, **window))
    # DCMTK reads no functional groups: it is shown the same values where they stand in a plain image.
    yield from _groups(window)


def _groups(window: dict[str, str]) -> Iterator[Case]:
    scale = {"RescaleSlope": "-2", "RescaleIntercept": "5000", "RescaleType": "US"}
    table = {"VOILUTSequence": lut((4096, 0, 8), RAMP8)}
    for name, voi, modality in (
        ("window", window, {}),
        ("slope", {}, scale),
        ("window and slope", {"WindowCenter": "2000", "WindowWidth": "3000"}, scale),
        ("sigmoid", {**window, "VOILUTFunction": "SIGMOID"}, {}),
        ("VOI LUT", table, {}),
    ):
        group, plain = Dataset(), image(RAMP, **voi, **modality)
        for macro, elements in (("FrameVOILUTSequence", voi), ("PixelValueTransformationSequence", modality)):
            item = Dataset()
            for key, value in elements.items():
                setattr(item, key, value)
            if elements:
                setattr(group, macro, [item])
        wrong = {"WindowCenter": "1", "WindowWidth": "2"} if voi else {}
        for where in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            dataset = image(RAMP, NumberOfFrames=1, **wrong, **{where: [group]})
            yield Case(f"{name} in {where}", dataset, voi_options(plain), plain)


def write(dataset: Dataset, path: Path) -> Path:
    """A data set as a file with preamble and header."""
    dataset.save_as(path, enforce_file_format=True)
    return path


def encapsulated(dataset: Dataset, frames: list[bytes], syntax: str) -> Dataset:
    """A data set with these compressed frames as its pixels."""
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset
