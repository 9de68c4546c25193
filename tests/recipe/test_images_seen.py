"""What is seen in a folder of images, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.data.splits import NoSplitError
from monai_diffclf.recipe import ImagesSeen, look_at
from monai_diffclf.recipe.beware import data_warnings


def draw(path: Path, size: tuple[int, int] = (20, 20), *, mode: str = "L", value: int = 90) -> Path:
    """A picture of one height and width; mode RGB with different channels, RGBgrey with equal ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), value, np.uint8)
    if mode == "RGB":
        pixels[..., 0] = 10
    Image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(path)
    return path


def draw_splits(root: Path, counts: dict[str, tuple[int, ...]], **options) -> Path:
    for split, each in counts.items():
        for name, count in zip("abcdef", each, strict=False):
            for n in range(count):
                draw(root / split / name / f"{split}{n}.png", **options)
    return root


def test_counts_every_split_and_class(tmp_path):
    draw_splits(tmp_path, {"train": (4, 2), "val": (1, 3), "test": (2, 1)})
    seen = look_at(tmp_path)
    assert seen.classes == ("a", "b")
    assert seen.images == {"train": (4, 2), "validation": (1, 3), "test": (2, 1)}
    assert seen.patients == {"train": None, "validation": None, "test": None}
    assert (seen.channels, seen.typical, seen.smallest, seen.largest) == (1, (20, 20), (20, 20), (20, 20))
    assert (seen.looked_at, seen.kinds) == (10, {".png": 13})


def test_classes_are_in_the_order_that_is_given(tmp_path):
    draw_splits(tmp_path, {"train": (4, 2), "val": (1, 3)})
    assert look_at(tmp_path, classes=["b", "a"]).images["train"] == (2, 4)


def test_test_images_are_not_opened(tmp_path):
    draw_splits(tmp_path, {"train": (2, 2), "val": (1, 1), "test": (1, 1)})
    (tmp_path / "test/a/test0.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    assert look_at(tmp_path).count("test") == 2
    (tmp_path / "val/a/val0.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with pytest.raises(ValueError, match=r"val0\.png: cannot be read as an image"):
        look_at(tmp_path)


def test_sizes_and_shapes(tmp_path):
    draw_splits(tmp_path, {"train": (3, 3), "val": (1, 1)}, size=(40, 60))
    draw(tmp_path / "train/a/small.png", (16, 64))
    draw(tmp_path / "train/b/large.png", (200, 100))
    seen = look_at(tmp_path)
    assert (seen.typical, seen.smallest, seen.largest) == ((40, 60), (16, 64), (200, 100))
    assert seen.aspects == (0.5, 4.0)
    assert seen.lines()[-1] == "40 x 60 px in the median (height x width), 16 x 64 to 200 x 100, grey"


def test_looks_at_some_of_many_images_over_all_classes(tmp_path):
    draw_splits(tmp_path, {"train": (20, 20), "val": (5, 5)})
    for path in (tmp_path / "train/b").iterdir():
        draw(path, (30, 30))
    seen = look_at(tmp_path, most=10)
    assert seen.looked_at == 10 and seen.count("train") == 40
    assert (seen.smallest, seen.largest) == ((20, 20), (30, 30))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGBgrey", 1), ("RGB", 3)])
def test_colour_with_equal_channels_is_grey(tmp_path, mode, channels):
    draw_splits(tmp_path, {"train": (2, 2), "val": (1, 1)}, mode=mode)
    assert look_at(tmp_path).channels == channels


def test_grey_stored_as_colour_among_colour_is_colour(tmp_path):
    draw_splits(tmp_path, {"train": (2, 2), "val": (1, 1)}, mode="RGB")
    draw(tmp_path / "train/a/grey.png", mode="RGBgrey")
    assert look_at(tmp_path).channels == 3


def test_grey_files_among_colour_ones_are_refused(tmp_path):
    draw_splits(tmp_path, {"train": (2, 2), "val": (1, 1)}, mode="RGB")
    draw(tmp_path / "train/a/grey.png", mode="L")
    with pytest.raises(ValueError, match=r"got 1 grey ones \(such as .*grey\.png\) and 6 in colour"):
        look_at(tmp_path)


def test_patients_are_counted(tmp_path):
    for split, count in (("train", 6), ("val", 2)):
        for name in "ab":
            for n in range(count):
                draw(tmp_path / split / name / f"{split}{name}P{n // 2}_{n}.png")
    seen = look_at(tmp_path, patient_pattern=r"([a-z]+P\d+)_")
    assert seen.patients == {"train": 6, "validation": 2, "test": None}
    assert seen.lines()[0].endswith("; of 6 patients")


def test_images_without_a_patient_are_counted_beside_those_with_one(tmp_path):
    rows = ["image,label,split,patient"]
    for number in range(12):
        draw(tmp_path / f"{number}.png")
        split = ("train", "train", "val", "test")[number % 4]
        rows.append(
            f"{number}.png,{'ab'[number // 4 % 2]},{split},{'' if number < 3 else f'P{number % 4}{number // 8}'}"
        )
    (tmp_path / "table.csv").write_text("\n".join(rows))
    seen = look_at(tmp_path / "table.csv")
    assert seen.patients == {"train": 4, "validation": 2, "test": 2}
    assert seen.without_patient == {"train": 2, "validation": 1, "test": 0}
    assert seen.lines()[0].endswith("; of 4 patients, 2 images without one")
    assert any("The patient of 3 images is not known" in line for line in data_warnings(seen))


def test_a_patient_in_two_splits_is_refused_unless_allowed(tmp_path):
    for split in ("train", "val"):
        for name in "ab":
            draw(tmp_path / split / name / "P1_1.png")
            draw(tmp_path / split / name / f"{split}_P2{split}_1.png")
    pattern = r"(P\w+?)_"
    with pytest.raises(ValueError, match="expected each patient in one split"):
        look_at(tmp_path, patient_pattern=pattern)
    seen = look_at(tmp_path, patient_pattern=pattern, allow_shared_patients=["train", "validation"])
    assert seen.count("train") == 4


def test_a_table(tmp_path):
    rows = ["file,diagnosis,split"]
    for split in ("train", "val"):
        for n in range(4):
            draw(tmp_path / f"{split}{n}.png")
            rows.append(f"{split}{n}.png,{'ill' if n % 2 else 'well'},{split}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    seen = look_at(tmp_path, label_column="diagnosis")
    assert seen.classes == ("ill", "well") and seen.images["train"] == (2, 2)


def test_a_volume_is_refused(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    draw_splits(tmp_path, {"train": (2, 2), "val": (1, 1)})
    volume = nibabel.Nifti1Image(np.arange(60, dtype=np.uint8).reshape(5, 4, 3), np.eye(4))
    nibabel.save(volume, tmp_path / "train/a/volume.nii.gz")
    with pytest.raises(ValueError, match=r"volume\.nii\.gz: expected a picture, got a volume of 3 slices"):
        look_at(tmp_path)


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        look_at(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is an empty folder"):
        look_at(tmp_path)
    draw(tmp_path / "one.png")
    with pytest.raises(ValueError, match="class folders of two or more classes"):
        look_at(tmp_path)
    (tmp_path / "pneumoniamnist.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="has a bundle of its own: pneumonia_xray_diffusion"):
        look_at(tmp_path)


def test_an_empty_training_set_is_refused(tmp_path):
    draw_splits(tmp_path, {"val": (1, 1), "test": (1, 1)})
    with pytest.raises(NoSplitError, match="has no folder 'train'"):
        look_at(tmp_path)


def test_class_names_are_never_evaluated_or_printed_raw():
    seen = ImagesSeen(("$import os", "\x1b[31mred"), {"train": (3, 4)})
    assert seen.lines()[0] == "train        7 images: 3 $import os, 4 \\x1b[31mred; patients not known"


def test_as_json(tmp_path):
    draw_splits(tmp_path, {"train": (2, 2), "val": (1, 1)})
    found = look_at(tmp_path).to_dict()
    assert found["typical"] == [20, 20] and found["images"]["validation"] == (1, 1)
