"""DICOM files that are refused or warned of, with file and tag: contradictions, doubts, limits, damage."""

from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from monai_diffclf.image_io import read_image_file, read_mammogram
from tests.image_io.dicom_cases import RAMP, encapsulated, image, lut, write


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            image(RAMP, VOILUTSequence=lut((4096, 0, 16), np.arange(4096))),
            r"VOILUTSequence \(0028,3010\): .*4095 \(12 bi",
        ),
        (
            image(RAMP, ModalityLUTSequence=lut((4096, 0, 16), np.arange(4096))),
            r"ModalityLUTSequence \(0028,3000\): .*dark",
        ),
        (
            image(RAMP, VOILUTSequence=lut((2048, 0, 16), 16 * np.arange(4096))),
            r"LUTDescriptor \(0028,3002\) says 2048 en",
        ),
        (
            image(RAMP, PresentationLUTShape="INVERSE"),
            r"PresentationLUTShape \(2050,0020\) INVERSE contradicts .* white",
        ),
        (
            image(RAMP, PresentationLUTShape="IDENTITY", PhotometricInterpretation="MONOCHROME1"),
            r"PresentationLUTShape \(2050,0020\) IDENTITY contradicts PhotometricInterpretation .* black",
        ),
        (image(RAMP, PresentationLUTShape="LIN OD"), r"PresentationLUTShape \(2050,0020\): .*'LIN OD'; it is ignored"),
        (
            image(RAMP, WindowCenter="5", WindowWidth="0"),
            r"WindowWidth \(0028,1051\): expected 1 or more .* no window is",
        ),
        (
            image(RAMP, WindowCenter="5", WindowWidth="9", VOILUTFunction="X"),
            r"VOILUTFunction \(0028,1056\): .*'X'; LIN",
        ),
        (image(RAMP, RescaleSlope="0", RescaleIntercept="1"), r"RescaleSlope \(0028,1053\) is 0"),
        (image(RAMP, bits=10), r"pixels have bits beyond the 10 of BitsStored \(0028,0101\)"),
        (image(RAMP // 100), r"has no window and uses 1\.0% of the range .*WindowCenter \(0028,1050\)"),
    ],
)
def test_doubts_are_warned_of_with_file_and_tag(tmp_path: Path, dataset: Dataset, message: str) -> None:
    path = write(dataset, tmp_path / "doubt.dcm")
    with pytest.warns(UserWarning, match=rf"doubt\.dcm: .*{message}"):
        read_image_file(path)
    with pytest.warns(UserWarning, match=rf"doubt\.dcm: .*{message}"):
        read_mammogram(path)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            image(RAMP, VOILUTSequence=lut((4096, 0, 12), 16 * np.arange(4096))),
            r"VOILUTSequence \(0028,3010\): .*12 bits",
        ),
        (image(RAMP, VOILUTSequence=lut((4096, 0, 8), np.arange(4096))), r"expected entries of 8 bits .* got 4095"),
        (
            image(RAMP, VOILUTSequence=lut((4096, 0, 16), np.arange(2000))),
            r"expected 4096 entries .*LUTData \(0028,3006\)",
        ),
        (
            image(RAMP, VOILUTSequence=lut((4096, 0, 0), np.arange(4096))),
            r"8 to 16 bits in LUTDescriptor \(0028,3002\)",
        ),
        (
            image(RAMP, ModalityLUTSequence=[Dataset()]),
            r"ModalityLUTSequence \(0028,3000\) declares a lookup table, but",
        ),
        (
            image(RAMP, RescaleSlope="2"),
            r"both RescaleSlope \(0028,1053\) and RescaleIntercept \(0028,1052\) or neither",
        ),
        (image(RAMP, WindowCenter="2"), r"both WindowCenter \(0028,1050\) and WindowWidth \(0028,1051\) or neither"),
        (
            image(RAMP, high=7),
            r"BitsAllocated \(0028,0100\) 16, BitsStored \(0028,0101\) 12 and HighBit \(0028,0102\) 7",
        ),
        (image(RAMP, BitsStored=None), r"BitsStored \(0028,0101\) is missing or empty"),
        (image(RAMP, PixelRepresentation=None), r"PixelRepresentation \(0028,0103\) is missing or empty"),
        (image(RAMP, Rows=None), r"Rows \(0028,0010\) is missing or empty"),
        (
            image(RAMP, PhotometricInterpretation="CMYK"),
            r"PhotometricInterpretation \(0028,0004\) MONOCHROME1.* got CMYK",
        ),
        (image(RAMP, PhotometricInterpretation=""), r"PhotometricInterpretation \(0028,0004\).* got None"),
        (image(RAMP, SamplesPerPixel=3), r"SamplesPerPixel \(0028,0002\) 3 contradicts PhotometricInterpretation"),
        (image(RAMP, PixelData=RAMP.tobytes()[:-100]), r"less than expected"),
    ],
)
def test_contradictions_are_refused_with_file_and_tag(tmp_path: Path, dataset: Dataset, message: str) -> None:
    path = write(dataset, tmp_path / "bad.dcm")
    with pytest.raises(ValueError, match=rf"^[^\n]*bad\.dcm: [^\n]*{message}[^\n]*$"):
        read_image_file(path)
    with pytest.raises(ValueError, match=r"^[^\n]*bad\.dcm: [^\n]*$"):
        read_mammogram(path)


def test_values_that_are_no_numbers_are_refused_with_their_tag(tmp_path: Path) -> None:
    path = write(image(RAMP, WindowCenter="1.5", WindowWidth="900"), tmp_path / "a.dcm")
    bad = tmp_path / "bad.dcm"
    for text in (b"1,5 ", b"abc "):
        assert path.read_bytes().count(b"DS\x04\x001.5 ") == 1
        bad.write_bytes(path.read_bytes().replace(b"DS\x04\x001.5 ", b"DS\x04\x00" + text))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match=r"bad\.dcm: .*WindowCenter \(0028,1050\): expected a number, got"):
                read_image_file(bad)


def test_high_bit_of_compressed_pixels(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    dataset = encapsulated(image(RAMP, high=15), [buffer.getvalue()], JPEG2000Lossless)
    with pytest.raises(ValueError, match=r"HighBit \(0028,0102\) 11 of compressed pixels of 12 bits, got 15"):
        read_image_file(write(dataset, tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    "elements", [{"Rows": 60000, "Columns": 60000}, {"NumberOfFrames": 10**9}, {"Rows": 40000, "NumberOfFrames": 9999}]
)
def test_headers_that_claim_too_much_are_refused(tmp_path: Path, elements: dict[str, int]) -> None:
    for syntax in (None, DeflatedExplicitVRLittleEndian):
        dataset = image(RAMP, **elements)
        if syntax:
            dataset.file_meta.TransferSyntaxUID = syntax
        path = write(dataset, tmp_path / "a.dcm")
        for read in (read_image_file, read_mammogram):
            with pytest.raises(ValueError, match=r"a\.dcm: .*(at most 100,000,000 pixels, got .*max_pixels|one frame)"):
                read(path)


def test_a_deflated_file_is_not_inflated_beyond_the_limit(tmp_path: Path) -> None:
    dataset = image(RAMP)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = write(dataset, tmp_path / "a.dcm")
    content = path.read_bytes()
    start = 132 + 12 + int.from_bytes(content[140:144], "little")
    # 200 MB of zeros behind the header of an image, in 200 kB.
    plain = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    path.write_bytes(content[:start] + packer.compress(plain + bytes(200_000_000)) + packer.flush())
    for read in (read_image_file, read_mammogram):
        with pytest.raises(
            ValueError, match=r"a\.dcm: .*expected at most 67,117,\d+ bytes of content, got more; allow"
        ):
            read(path, max_pixels=RAMP.size)
    path.write_bytes(content[:-30])
    with pytest.raises(ValueError, match=r"a\.dcm: cannot be read as an image"):
        read_image_file(path)


def test_a_frame_larger_than_the_header_says_is_not_decoded(tmp_path: Path) -> None:
    for kind, syntax, options in (
        ("JPEG", JPEGBaseline8Bit, {}),
        ("JPEG2000", JPEG2000Lossless, {"no_jp2": True}),
        ("JPEG2000", JPEG2000Lossless, {}),
    ):
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((500, 700), np.uint8)).save(buffer, kind, **options)
        dataset = encapsulated(image(RAMP.astype(np.uint8), bits=8), [buffer.getvalue()], syntax)
        with pytest.raises(ValueError, match=r"16 x 64 pixels as Rows .* got 500 x 700 in the compressed frame 1"):
            read_image_file(write(dataset, tmp_path / "a.dcm"))


def test_compressed_pixels_without_a_transfer_syntax_are_refused(tmp_path: Path) -> None:
    path = write(encapsulated(image(RAMP), [b"\0\0"], JPEG2000Lossless), tmp_path / "a.dcm")
    content = path.read_bytes()
    path.write_bytes(content[132 + 12 + int.from_bytes(content[140:144], "little") :])
    with pytest.raises(ValueError, match=r"a\.dcm: .*TransferSyntaxUID \(0002,0010\), which says how, is missing"):
        read_image_file(path)


def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    """Random bytes and lengths in header and pixels: an image or a `ValueError`, whatever pydicom meets."""
    rng = np.random.default_rng(0)
    sources = [write(image(RAMP, WindowCenter="9", WindowWidth="9"), tmp_path / "a").read_bytes()]
    sources.append((Path(pydicom.__file__).parent / "data/test_files/MR_small_RLE.dcm").read_bytes())
    path = tmp_path / "damaged.dcm"
    refused = 0
    for number in range(150):
        content = bytearray(sources[number % len(sources)])
        for place in rng.integers(132, min(len(content), 1500), 3):
            content[place] = rng.integers(0, 256)
        if number % 3 == 0:
            del content[rng.integers(140, len(content)) :]
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                shown = read_image_file(path)
            except ValueError as error:
                refused += 1
                assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            else:
                assert 0 <= shown.min() <= shown.max() <= 1
    assert refused > 30


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("Rows", [8, 8], r"Rows \(0028,0010\): expected one whole number, from 1 to 65535, got \[8, 8\]; export"),
        ("Columns", 0, r"Columns \(0028,0011\): expected one whole number, from 1 to 65535, got 0"),
        (
            "BitsAllocated",
            12,
            r"BitsAllocated \(0028,0100\): expected one whole number, 1 or a multiple of 8 .* got 12",
        ),
        ("BitsStored", [12, 12], r"BitsStored \(0028,0101\): expected one whole number, from 1 to 64, got"),
        ("HighBit", [11, 11], r"HighBit \(0028,0102\): expected one whole number, from 0 to 63, got"),
        ("PixelRepresentation", 2, r"PixelRepresentation \(0028,0103\): expected one whole number, 0 or 1, got 2"),
        (
            "Rows",
            60000,
            r"PixelData \(7FE0,0010\) cannot be decoded, as 60000 x \d+ pixels \(Rows .*of 16 bits .*bytes",
        ),
    ],
)
def test_an_odd_header_is_named_by_its_tag_and_not_by_an_exception(tmp_path, name, value, message):
    dataset = image(RAMP)
    setattr(dataset, name, value)
    with pytest.raises(ValueError, match=message) as refused:
        read_image_file(write(dataset, tmp_path / "a.dcm"))
    assert str(refused.value).count("Error") == 0 and "\n" not in str(refused.value)
