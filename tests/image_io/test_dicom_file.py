"""DICOM files of every transfer syntax and kind of pixels."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from monai_diffclf.image_io import is_image_file, read_image_file, read_mammogram
from tests.image_io.dicom_cases import RAMP, SIGNED, encapsulated, image, lut, write

EXPECTED = RAMP / np.float32(4095)


def read_quietly(path: Path, **options: object) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_image_file(path, **options)


def test_transfer_syntaxes_and_missing_headers(tmp_path: Path) -> None:
    plain = write(image(RAMP), tmp_path / "plain.dcm")
    files = [plain]
    for name, syntax in (("implicit", ImplicitVRLittleEndian), ("deflated", DeflatedExplicitVRLittleEndian)):
        dataset = image(RAMP)
        dataset.file_meta.TransferSyntaxUID = syntax
        files.append(write(dataset, tmp_path / f"{name}.dcm"))
    big = image(RAMP)
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    big.PixelData = RAMP.astype(">u2").tobytes()
    files.append(write(big, tmp_path / "big"))
    run_length = image(RAMP)
    run_length.compress(RLELossless, RAMP)
    files.append(write(run_length, tmp_path / "rle.dcm"))
    buffer = io.BytesIO()
    Image.fromarray(RAMP << 4).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    files.append(write(encapsulated(image(RAMP, bits=16), [buffer.getvalue()], JPEG2000Lossless), tmp_path / "j2k.dcm"))
    for file in files[:4]:
        content = file.read_bytes()
        (tmp_path / f"{file.stem}_no_preamble").write_bytes(content[132:])
        files.append(tmp_path / f"{file.stem}_no_preamble")
    for file in (plain, tmp_path / "implicit.dcm", tmp_path / "big"):
        content = file.read_bytes()
        after_meta = 132 + 12 + int.from_bytes(content[140:144], "little")
        files.append(tmp_path / f"{file.stem}_no_meta")
        files[-1].write_bytes(content[after_meta:])
    for file in files:
        expected = (RAMP << 4) / np.float32(65535) if file.name == "j2k.dcm" else EXPECTED
        assert is_image_file(file), file.name
        np.testing.assert_allclose(read_quietly(file)[..., 0], expected, atol=1e-6, err_msg=file.name)
        np.testing.assert_allclose(read_mammogram(file), expected, atol=1e-6, err_msg=file.name)
    (tmp_path / "DICOMDIR").write_bytes(plain.read_bytes())
    assert not is_image_file(tmp_path / "DICOMDIR")


def test_big_endian_tables(tmp_path: Path) -> None:
    for entries, bits in ((np.arange(4096), 12), (np.arange(4096) // 16, 8)):
        words = entries.astype(">u2").tobytes()
        for data in (words, np.frombuffer(entries.astype("u1").tobytes(), "<u2").astype(">u2").tobytes()):
            if bits == 12 and data is not words:
                continue
            dataset = image(RAMP, VOILUTSequence=lut((4096, 0, bits), data))
            dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            dataset.PixelData = RAMP.astype(">u2").tobytes()
            shown = read_quietly(write(dataset, tmp_path / "a.dcm"))[..., 0]
            np.testing.assert_allclose(shown, entries[RAMP] / (2**bits - 1), atol=1e-6)


def test_pixels_of_one_bit(tmp_path: Path) -> None:
    bits = (RAMP > 2000).astype(np.uint8)
    dataset = image(bits, bits=1, BitsAllocated=1, PixelData=np.packbits(bits, bitorder="little").tobytes())
    np.testing.assert_array_equal(read_quietly(write(dataset, tmp_path / "a.dcm"))[..., 0], bits)


@pytest.mark.parametrize(("kind", "name"), [("f4", "FloatPixelData"), ("f8", "DoubleFloatPixelData")])
def test_pixels_stored_as_floats(tmp_path: Path, kind: str, name: str) -> None:
    values = SIGNED * 0.37 - 5
    dataset = image(RAMP, BitsAllocated=8 * int(kind[1]))
    for element in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        del dataset[element]
    setattr(dataset, name, values.astype(kind).tobytes())
    expected = (values - values.min()) / np.ptp(values)
    np.testing.assert_allclose(read_quietly(write(dataset, tmp_path / "a.dcm"))[..., 0], expected, atol=1e-5)
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = "0", "100", "LINEAR_EXACT"
    expected = np.clip(values / 100 + 0.5, 0, 1)
    np.testing.assert_allclose(read_quietly(write(dataset, tmp_path / "b.dcm"))[..., 0], expected, atol=1e-5)
    values[3, 3] = np.nan
    setattr(dataset, name, values.astype(kind).tobytes())
    with pytest.raises(ValueError, match=r"c\.dcm: expected finite pixels, got 1 NaN"):
        read_image_file(write(dataset, tmp_path / "c.dcm"))


def test_colour(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    for planar, stored in ((0, rgb), (1, np.moveaxis(rgb, -1, 0))):
        elements = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": planar}
        dataset = image(rgb[..., 0], bits=8, **elements, PixelData=stored.tobytes())
        np.testing.assert_allclose(read_quietly(write(dataset, tmp_path / "a.dcm")), rgb / 255, atol=1e-6)
    deep = rgb.astype(np.uint16) << 4
    dataset = image(deep[..., 0], bits=12, **{**elements, "PlanarConfiguration": 0}, PixelData=deep.tobytes())
    np.testing.assert_allclose(read_quietly(write(dataset, tmp_path / "b.dcm")), deep / 4095, atol=1e-6)
    buffer = io.BytesIO()
    smooth = np.dstack([np.add.outer(np.arange(40), np.arange(40)).astype(np.uint8)] * 3) * [1, 2, 3] // 2
    Image.fromarray(smooth.astype(np.uint8)).save(buffer, "JPEG", quality=98, subsampling=0)
    elements |= {"PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": 0}
    dataset = encapsulated(
        image(smooth[..., 0].astype(np.uint8), bits=8, **elements), [buffer.getvalue()], JPEGBaseline8Bit
    )
    np.testing.assert_allclose(read_quietly(write(dataset, tmp_path / "c.dcm")), smooth / 255, atol=0.03)


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(tmp_path: Path, bits: int) -> None:
    indices = np.random.default_rng(0).integers(0, 256, (10, 12), dtype=np.uint8)
    colours = np.random.default_rng(1).integers(0, 2**bits, (256, 3))
    dataset = image(indices, bits=8, PhotometricInterpretation="PALETTE COLOR")
    for number, name in enumerate(("Red", "Green", "Blue")):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        data = colours[:, number].astype("<u2" if bits == 16 else "u1").tobytes()
        setattr(dataset, f"{name}PaletteColorLookupTableData", data)
    shown = read_quietly(write(dataset, tmp_path / "a.dcm"))
    np.testing.assert_allclose(shown, colours[indices] / (2**bits - 1), atol=1e-6)


def test_each_frame_has_its_window_and_all_share_a_scale(tmp_path: Path) -> None:
    frames = np.stack([RAMP, RAMP, RAMP])
    groups = []
    for center, width in ((2048, 4096), (1000, 500), (3000, 100)):
        voi, group = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = str(center), str(width)
        group.FrameVOILUTSequence = [voi]
        groups.append(group)
    path = write(image(frames, PerFrameFunctionalGroupsSequence=groups), tmp_path / "a.dcm")
    shown = read_quietly(path)
    assert shown.shape == (16, 64, 3, 1)
    for number, (center, width) in enumerate(((2048, 4096), (1000, 500), (3000, 100))):
        expected = np.clip((RAMP - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
        np.testing.assert_allclose(shown[:, :, number, 0], expected, atol=1e-6)
    # PET: each frame has a slope of its own, and what is brighter must stay brighter.
    for group, slope in zip(groups, (1, 2, 4), strict=True):
        scale = Dataset()
        scale.RescaleSlope, scale.RescaleIntercept = str(slope), "0"
        group.PixelValueTransformationSequence = [scale]
        del group.FrameVOILUTSequence
    shown = read_quietly(write(image(frames, PerFrameFunctionalGroupsSequence=groups), tmp_path / "b.dcm"))
    np.testing.assert_allclose(shown[:, :, 0, 0] * 4, shown[:, :, 2, 0], atol=1e-6)
    np.testing.assert_allclose(shown[:, :, 2, 0], EXPECTED, atol=1e-6)


def test_tables_in_implicit_vr(tmp_path: Path) -> None:
    """Where the kinds of descriptor and data are not written down, they follow from the pixels."""
    for name in ("VOILUTSequence", "ModalityLUTSequence"):
        for pixels, first in ((RAMP, 0), (SIGNED, -2048)):
            dataset = image(pixels, **{name: lut((4096, first, 12), np.arange(4096)[::-1])})
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            shown = read_quietly(write(dataset, tmp_path / "a.dcm"))[..., 0]
            np.testing.assert_allclose(shown, 1 - EXPECTED, atol=1e-6)
