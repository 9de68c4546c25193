"""What DCMTK's dcm2pnm shows of a grey DICOM file is what is read, within 1/255."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from monai_diffclf.image_io import read_image_file
from tests.image_io.dcmtk import needs_dcmtk, render, voi_options
from tests.image_io.dicom_cases import RAMP, all_cases, image

pytestmark = [needs_dcmtk, pytest.mark.filterwarnings("ignore::UserWarning")]

PYDICOM = Path(pydicom.__file__).parent / "data"

# What DCMTK shows and we do not, or not so, and why.
REFUSED = {
    "JPEG-lossy.dcm": "JPEG of 12 bits, for which no decoder under a permissive licence is installed",
    "JPGExtended.dcm": "the same",
    "badVR.dcm": "NumberOfFrames is '1A', which DCMTK takes for 1",
}
OTHERWISE = {
    # DCMTK swaps the halves of 32-bit pixels in big endian: it shows the very same dose as noise, see the test below.
    "rtdose_expb.dcm": "rtdose.dcm",
    "rtdose_expb_1frame.dcm": "rtdose_1frame.dcm",
}


def frames_first(image: np.ndarray) -> np.ndarray:
    return image[None, ..., 0] if image.ndim == 3 else np.moveaxis(image[..., 0], 2, 0)


def write(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_generated_images_of_every_kind(tmp_path: Path, record_property: object, every: int) -> None:
    differences, wrong = {}, {}
    for number, case in enumerate(all_cases()[::every]):
        path = write(case.dataset, tmp_path / f"{number}.dcm")
        plain = path if case.like is None else write(case.like, tmp_path / f"{number}_plain.dcm")
        expected = render(plain, tmp_path / str(number), *case.options)
        assert expected is not None, case.name
        differences[case.name] = float(np.abs(frames_first(read_image_file(path)) - expected).max())
        if differences[case.name] > case.tolerance:
            wrong[case.name] = differences[case.name]
        shutil.rmtree(tmp_path / str(number))
    worst = max(differences, key=lambda name: differences[name])
    record_property("largest difference", f"{differences[worst]:.2g} of {len(differences)} ({worst})")
    assert wrong == {}
    assert len(differences) > 200 // every


def pydicom_files() -> list[Path]:
    folders = (PYDICOM / "test_files", PYDICOM / "charset_files")
    skipped = {".txt", ".json", ".dump", ".icc", ".gz"}
    return sorted(
        path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix not in skipped
    )


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_the_test_files_of_pydicom(tmp_path: Path, every: int) -> None:
    shown = 0
    for number, path in enumerate(pydicom_files()[::every]):
        dataset = pydicom.dcmread(path, force=True)
        try:
            expected = render(path, tmp_path / str(number), *voi_options(dataset))
        except ValueError:
            expected = render(path, tmp_path / str(number))  # a header that pydicom cannot read
        if expected is None:
            continue
        try:
            ours = frames_first(read_image_file(path))
        except ValueError as error:
            assert path.name in REFUSED, error
            continue
        if path.name in OTHERWISE:
            continue
        np.testing.assert_allclose(ours, expected, atol=1 / 255, err_msg=path.name)
        shown += 1
    assert shown >= 60 // (2 * every - 1)


def test_where_dcmtk_is_otherwise(tmp_path: Path) -> None:
    """The same dose is stored in both byte orders, and must look the same; DCMTK's pictures differ."""
    for big, little in OTHERWISE.items():
        files = [PYDICOM / "test_files" / name for name in (big, little)]
        np.testing.assert_array_equal(*(read_image_file(file) for file in files))
        ours, theirs = (render(file, tmp_path / file.name) for file in files)
        assert np.abs(ours - theirs).max() > 0.9


def test_fractions_of_the_modality_lut_are_kept(tmp_path: Path) -> None:
    """DCMTK cuts them: of values from 0 to 4.095 it shows five. PS3.3, C.11.1.1.2."""
    window = {"RescaleSlope": "0.001", "RescaleIntercept": "0", "WindowCenter": "2", "WindowWidth": "3"}
    path = write(image(RAMP, **window), tmp_path / "a.dcm")
    expected = np.clip((RAMP * 0.001 - 1.5) / 2 + 0.5, 0, 1)
    np.testing.assert_allclose(read_image_file(path)[..., 0], expected, atol=1e-6)
    assert len(np.unique(render(path, tmp_path / "dcmtk", "+Wi", "1"))) <= 5


def test_linear_exact_is_the_standard_s(tmp_path: Path) -> None:
    """DCMTK 3.6.7 does not know the function LINEAR_EXACT, and takes LINEAR. PS3.3, C.11.2.1.3.2."""
    window = {"WindowCenter": "2048", "WindowWidth": "100", "VOILUTFunction": "LINEAR_EXACT"}
    path = write(image(RAMP, **window), tmp_path / "a.dcm")
    expected = np.clip((RAMP - 2048.0) / 100 + 0.5, 0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(read_image_file(path)[..., 0], expected, atol=1e-6)
