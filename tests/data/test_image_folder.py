"""Class folders of a user's own images: split, labelled, and nothing left out in silence."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_diffclf.data import find_images, load_datalist, load_image_folder
from monai_diffclf.data.find_classes import find_classes
from monai_diffclf.data.splits import SPLITS, split_by_hash


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(path)
    return path


CLASSES = ("healthy", "ill")


def keys(items):
    return [item["key"] for item in items]


def test_split_folders(tmp_path):
    for name in ("train/ill/1.png", "train/healthy/2.jpg", "val/ill/3.png", "test/healthy/P7/scan/4.png"):
        draw(tmp_path / name)
    (tmp_path / "train/ill/notes.txt").write_text("not an image")
    items = load_image_folder(tmp_path, "train")
    assert [(item["key"], item["label"]) for item in items] == [("train/healthy/2.jpg", 0), ("train/ill/1.png", 1)]
    assert Path(items[0]["image"]).is_file()
    assert [item["label"] for item in load_image_folder(tmp_path, "train", classes=["ill", "healthy"])] == [1, 0]
    assert [item["key"] for item in load_image_folder(tmp_path, "validation")] == ["val/ill/3.png"]
    assert [item["patient"] for item in load_image_folder(tmp_path, "test")] == ["P7"]


def test_class_folders_are_split_by_a_hash_that_keeps_patients_together(tmp_path):
    for n in range(100):
        draw(tmp_path / f"healthy/{n}.png")
        draw(tmp_path / f"ill/P{n // 4}/{n}.png")
    splits = {name: load_image_folder(tmp_path, name, classes=CLASSES) for name in SPLITS}
    assert sum(len(items) for items in splits.values()) == 200
    assert len(splits["train"]) > 120
    patients = {name: {item["patient"] for item in items} - {""} for name, items in splits.items()}
    assert not patients["train"] & patients["validation"]
    assert not patients["train"] & patients["test"]
    assert not patients["validation"] & patients["test"]
    before = {item["key"] for item in splits["test"]}
    draw(tmp_path / "healthy/another.png")
    after = {item["key"] for item in load_image_folder(tmp_path, "test", classes=CLASSES)}
    assert before == after - {"healthy/another.png"}
    assert {split_by_hash(str(n)) for n in range(100)} == set(SPLITS)


def test_wrong_folders(tmp_path):
    with pytest.raises(ValueError, match=r"root: expected a folder .*none does not exist"):
        load_image_folder(tmp_path / "none", "train")
    with pytest.raises(ValueError, match=r"classes: expected class folders \['a', 'b'\] in .*, got \[\]"):
        load_image_folder(tmp_path, "train", classes=["a", "b"])
    draw(tmp_path / "train/ill/1.png")
    (tmp_path / "train/healthy").mkdir()
    (tmp_path / "test/healthy").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has no folder 'validation', only \['test', 'train'\]"):
        load_image_folder(tmp_path, "validation")
    with pytest.raises(
        ValueError, match=r"split: no image for 'test' in .*expected PNG, JPEG, TIFF, BMP, DICOM or NIfTI"
    ):
        load_image_folder(tmp_path, "test")
    with pytest.raises(ValueError, match=r"class folders \['healthy', 'sick'\] in .*got \['healthy', 'ill'\]; rename"):
        load_image_folder(tmp_path, "train", classes=["healthy", "sick"])
    with pytest.raises(ValueError, match="split: expected one of train, validation, test, got 'dev'"):
        load_image_folder(tmp_path, "dev")


def test_names_of_folders_match_in_other_case(tmp_path):
    for name in ("Train/HEALTHY/1.png", "Train/Ill/2.png", "DEV/ill/3.png"):
        draw(tmp_path / name)
    items = load_image_folder(tmp_path, "train", classes=["ill", "healthy"])
    assert [(item["key"], item["label"]) for item in items] == [("Train/HEALTHY/1.png", 1), ("Train/Ill/2.png", 0)]
    assert keys(load_image_folder(tmp_path, "validation", classes=CLASSES)) == ["DEV/ill/3.png"]
    draw(tmp_path / "Train/ILL/4.png")
    with pytest.raises(ValueError, match=r"Train has two folders for one class, 'ILL' and 'Ill'; rename one"):
        load_image_folder(tmp_path, "train", classes=CLASSES)


@pytest.mark.parametrize("names", [("val", "validation"), ("Train", "train"), ("test", "testing"), ("valid", "dev")])
def test_two_folders_of_one_split(tmp_path, names):
    for split in {"train", *names}:
        for name in CLASSES:
            draw(tmp_path / split / name / f"{split}.png")
    with pytest.raises(
        ValueError, match=rf"has two folders for the split '\w+', '{min(names)}' and '{max(names)}'; rename"
    ):
        load_image_folder(tmp_path, "train", classes=CLASSES)


def test_a_class_may_be_called_like_a_split(tmp_path):
    for n in range(40):
        draw(tmp_path / "valid" / f"{n}.png")
        draw(tmp_path / "invalid" / f"{n}.png")
    assert len(load_image_folder(tmp_path, "train", classes=["invalid", "valid"])) > 50


@pytest.mark.parametrize(
    "name",
    [
        "ill/masks/1.png",
        "ill/Mask/1.png",
        "ill/images_segmentation/1.png",
        "ill/x/GroundTruth/1.png",
        "ill/leftMask/1.png",
    ],
)
def test_folders_of_masks_are_refused(tmp_path, name):
    draw(tmp_path / "healthy/images/1.png")
    draw(tmp_path / "ill/images/1.png")
    draw(tmp_path / name)
    message = (
        r"looks like a folder of masks .*; move it out of .*, rename it if its files are images, or list the images"
    )
    with pytest.raises(ValueError, match=message):
        for split in SPLITS:
            load_image_folder(tmp_path, split, classes=CLASSES)
    with pytest.raises(ValueError, match=message):
        find_images(tmp_path)


def test_masks_beside_images_are_refused(tmp_path):
    for name in ("ill/a (1).png", "ill/a (1)_mask.png"):
        draw(tmp_path / name)
    with pytest.raises(ValueError, match=r"a \(1\)_mask\.png: looks like the mask of the image 'a \(1\)' beside it"):
        find_images(tmp_path)
    (tmp_path / "ill/a (1).png").unlink()
    assert keys(find_images(tmp_path)) == ["ill/a (1)_mask.png"]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.nii.gz", "a_mask.nii.gz"),
        ("a.nii", "A-label.nii.gz"),
        ("a.v2.nii.gz", "a.v2_seg.nii"),
        ("a.nii.gz", "a.seg.nrrd"),
        ("BraTS19_2013_0_1_flair.nii.gz", "BraTS19_2013_0_1_seg.nii.gz"),
        ("BraTS-GLI-00000-000-t1c.nii.gz", "BraTS-GLI-00000-000-seg.nii.gz"),
        ("UPENN-GBM-00001_11_T1GD.nii.gz", "UPENN-GBM-00001_11_segm.nii.gz"),
        ("patient001_frame01.nii.gz", "patient001_frame01_gt.nii.gz"),
    ],
)
def test_masks_beside_volumes_are_refused(tmp_path, image, mask):
    for name in (image, mask):
        if name.endswith(".nrrd"):
            (tmp_path / name).write_bytes(b"NRRD0004\n")
        else:
            nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / name)
    with pytest.raises(ValueError, match=f"{re.escape(mask)}: looks like the mask of the image"):
        find_images(tmp_path, volumes=True)


def test_names_like_those_of_masks_are_images_without_an_image_beside(tmp_path):
    names = ["P1_seg.png", "P2_t1.png", "P3_flair.png", "labelsTr.png", "t1_label.png", "P4_front.png", "P4_seg.png"]
    for name in names:
        draw(tmp_path / name)
    draw(tmp_path / "labelsTr" / "1.png")
    draw(tmp_path / "labels" / "imagesTr" / "1.png")
    assert len(find_images(tmp_path)) == 9
    assert len(find_images(tmp_path / "labelsTr")) == 1


@pytest.mark.parametrize(
    ("images", "masks"), [("imagesTr", "labelsTr"), ("imagesTr", "labelsTs"), ("images", "labels"), ("img", "Labels")]
)
def test_folders_of_labels_beside_those_of_images_are_refused(tmp_path, images, masks):
    for n in range(60):
        draw(tmp_path / images / f"{n}_0000.png")
        draw(tmp_path / masks / "x" / f"{n}.png")
    with pytest.raises(ValueError, match=f"x: looks like a folder of masks \\('{masks}'\\) among images"):
        find_images(tmp_path)
    assert len(find_images(tmp_path / images)) == 60
    with pytest.raises(ValueError, match=f"classes: .*{masks} looks like a folder of masks beside the folder of their"):
        load_image_folder(tmp_path, "train")
    with pytest.raises(ValueError, match="which are no two classes; put the images into a folder for each class"):
        find_classes(tmp_path)
    assert load_image_folder(tmp_path, "train", classes=[images, masks])


def test_a_class_may_be_called_mask(tmp_path):
    for name in ("train/mask/1.png", "train/no mask/2.png"):
        draw(tmp_path / name)
    assert len(load_image_folder(tmp_path, "train", classes=["mask", "no mask"])) == 2


def test_a_folder_of_images_is_no_patient(tmp_path):
    for n in range(60):
        draw(tmp_path / f"ill/images/{n}.png")
        draw(tmp_path / f"healthy/PNG/P{n // 3}/{n}.png")
    splits = {split: load_image_folder(tmp_path, split, classes=CLASSES) for split in SPLITS}
    assert {item["patient"] for items in splits.values() for item in items if item["label"] == 1} == {""}
    assert {split_by_hash(item["patient"]) for item in splits["test"] if item["label"] == 0} <= {"test"}
    assert all(any(item["label"] == 1 for item in items) for items in splits.values())


def test_a_patient_in_two_folders_of_splits(tmp_path):
    for name in ("train/ill/P1/1.png", "train/healthy/P2/1.png", "test/healthy/P1/1.png"):
        draw(tmp_path / name)
    for split in ("train", "test"):
        with pytest.raises(
            ValueError, match=r"in both 'train' and 'test': 'P1' \(train/ill/P1/1\.png; test/healthy/P1"
        ):
            load_image_folder(tmp_path, split, classes=CLASSES)
        assert load_image_folder(tmp_path, split, classes=CLASSES, allow_shared_patients=["train", "test"])


def test_patients_from_names_of_files(tmp_path):
    for n in range(60):
        draw(tmp_path / f"ill/P{n // 3}_{n}.png")
    found = {s: load_image_folder(tmp_path, s, classes=CLASSES, patient_pattern=r"(P\d+)_") for s in SPLITS}
    for split, items in found.items():
        assert {split_by_hash(item["patient"]) for item in items} == {split}
    draw(tmp_path / "train/ill/P1_1.png")
    (tmp_path / "ill").rename(tmp_path / "test")
    (tmp_path / "test").mkdir(exist_ok=True)
    draw(tmp_path / "x/test/ill/P1_a.png")
    draw(tmp_path / "x/train/healthy/P1_b.png")
    with pytest.raises(ValueError, match=r"in both 'train' and 'test': 'P1'"):
        load_image_folder(tmp_path / "x", "train", classes=CLASSES, patient_pattern=r"(P\d+)_")
    with pytest.raises(ValueError, match="patient_pattern: .*finds none in 't"):
        load_image_folder(tmp_path / "x", "train", classes=CLASSES, patient_pattern=r"(Q\d+)_")


def test_what_is_left_out_is_counted_and_named_once(tmp_path):
    draw(tmp_path / "train/ill/1.png")
    draw(tmp_path / "train/healthy/1.png")
    draw(tmp_path / "train/healthy/.hidden/1.png")
    draw(tmp_path / "extra/1.png")
    for name in ("train/ill/notes.txt", "train/loose.txt", "README"):
        (tmp_path / name).write_text("text")
    (tmp_path / "train/ill/gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.warns(UserWarning) as caught:
        assert len(load_image_folder(tmp_path, "train", classes=CLASSES)) == 2
    (message,) = {str(warning.message) for warning in caught}
    assert message.startswith(f"{tmp_path}: 6 left out beside 2 images: ")
    for name, reason in {
        "README": "not in a folder of a split",
        "extra": "not in a folder of a split",
        "train/healthy/.hidden": "hidden folder",
        "train/ill/gone.png": "a link to nothing",
        "train/ill/notes.txt": "no image that can be read",
        "train/loose.txt": "not in a class folder",
    }.items():
        assert message.count(f"{name} ({reason})") == 1


def test_the_same_is_said_once_for_all_splits(tmp_path):
    for n in range(60):
        draw(tmp_path / f"ill/{n}.png")
    (tmp_path / "ill/notes.txt").write_text("text")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for split in SPLITS:
            load_image_folder(tmp_path, split, classes=CLASSES)
    assert len(caught) == 1


def test_many_files_are_counted_by_suffix(tmp_path):
    draw(tmp_path / "a.png")
    for n in range(30):
        (tmp_path / f"n{n:02}.txt").write_text("text")
    with pytest.warns(
        UserWarning, match=r"30 left out beside 1 images: n00\.txt .*n19\.txt \(.*\); 10 more with \.txt$"
    ):
        find_images(tmp_path)


def test_linked_folders_are_followed_each_once(tmp_path):
    draw(tmp_path / "elsewhere/1.png")
    draw(tmp_path / "root/ill/2.png")
    (tmp_path / "root/linked").symlink_to(tmp_path / "elsewhere")
    assert keys(find_images(tmp_path / "root")) == ["ill/2.png", "linked/1.png"]
    (tmp_path / "root/ill/loop").symlink_to(tmp_path / "root")
    (tmp_path / "root/up").symlink_to(tmp_path)
    (tmp_path / "root/twice").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match=r"3 left out beside 2 images: ill/loop .*; twice \(the same folder .*; up \("):
        assert keys(find_images(tmp_path / "root")) == ["ill/2.png", "linked/1.png"]


def test_pipes_do_not_block(tmp_path):
    draw(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.warns(UserWarning, match=r"pipe\.png \(no plain file\)"):
        assert keys(find_images(tmp_path)) == ["a.png"]


def test_one_class_in_training_or_validation(tmp_path):
    for name in ("train/ill/1.png", "train/ill/2.png", "validation/healthy/1.png", "test/ill/1.png"):
        draw(tmp_path / name)
    for split, found, missing in (("train", "ill", "healthy"), ("validation", "healthy", "ill")):
        with pytest.raises(
            ValueError, match=rf"every class in '{split}', got one class only: \d of '{found}', none of '{missing}'"
        ):
            load_datalist(tmp_path, split, classes=CLASSES)
    assert len(load_datalist(tmp_path, "test", classes=CLASSES)) == 1


def test_no_image(tmp_path):
    with pytest.raises(ValueError, match=r"none does not exist"):
        find_images(tmp_path / "none")
    (tmp_path / "a.txt").write_text("text")
    for source in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(
            ValueError, match=r"holds 1 files, none of them an image \(a\.txt: no image that can be read\)"
        ):
            find_images(source)
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError, match="gone is a link to nothing"):
        find_images(tmp_path / "gone")
