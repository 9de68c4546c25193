"""Volume phantoms: reproducible, with a truthful mask, no two sides alike, and no class that brightness gives away."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from monai_diffclf.data.example_volumes import main, write_example_volumes
from monai_diffclf.data.volume_phantoms import make_volume_phantom, make_volume_phantoms


@pytest.fixture(scope="module")
def many() -> list[dict]:
    return make_volume_phantoms(360, seed=5, size=16)


def test_items_have_the_documented_form():
    for phantom in make_volume_phantoms(6, seed=3):
        assert phantom["image"].shape == phantom["mask"].shape == (1, 32, 32, 32)
        assert phantom["image"].dtype == np.float32
        assert phantom["mask"].dtype == np.uint8
        assert 0 <= phantom["image"].min() < phantom["image"].max() <= 1
        assert phantom["mask"].any() == (phantom["label"] == 1)


def test_phantom_depends_on_seed_and_index_only():
    short, long = make_volume_phantoms(2, seed=1), make_volume_phantoms(4, seed=1)
    for a, b in zip(short, long[:2], strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert (a["label"], a["key"]) == (b["label"], b["key"])
    alone = make_volume_phantom(3, seed=1)
    np.testing.assert_array_equal(alone["image"], long[3]["image"])
    assert not np.array_equal(alone["image"], make_volume_phantom(3, seed=2, label=alone["label"])["image"])


def test_lesion_is_where_the_mask_is():
    brighter = []
    for index in range(20):
        clear, lesion = (make_volume_phantom(index, seed=5, label=label) for label in (0, 1))
        added = gaussian_filter(lesion["image"][0] - clear["image"][0], 0.5)
        mask = lesion["mask"][0] > 0
        brighter.append(added[mask].mean() - added[~mask].mean())
        assert mask.sum() >= 20
    assert np.mean(np.array(brighter) > 0.03) > 0.95


def test_no_axis_looks_the_same_backwards():
    """The mean volume says which way is right, front and up: heart and liver, spine, lungs."""
    mean = np.mean([phantom["image"][0] for phantom in make_volume_phantoms(30, seed=6, size=16)], axis=0)
    for axis in range(3):
        assert np.abs(mean - np.flip(mean, axis)).max() > 0.1
    left, right = mean[:8, 8:, :8].mean(), mean[8:, 8:, :8].mean()
    assert abs(left - right) > 0.005


def test_brightness_does_not_give_the_class_away(many):
    brightness = np.array([phantom["image"].mean() for phantom in many])
    assert abs(roc_auc_score([phantom["label"] for phantom in many], brightness) - 0.5) < 0.12


def test_linear_model_on_voxels_is_far_from_perfect(many):
    """At half the resolution, which is kinder to a linear model; the benchmark measures it on full volumes."""
    voxels, labels = np.stack([p["image"].ravel() for p in many]), np.array([p["label"] for p in many])
    model = LogisticRegression(C=0.01, max_iter=100).fit(voxels[:240], labels[:240])
    assert roc_auc_score(labels[240:], model.decision_function(voxels[240:])) < 0.85


def test_size_changes_resolution_but_not_the_scene():
    small, large = (make_volume_phantom(2, seed=4, size=size, label=1) for size in (16, 32))
    coarse = zoom(large["mask"][0].astype(float), 0.5, order=1) >= 0.5
    mask = small["mask"][0] > 0
    assert (coarse & mask).sum() / (coarse | mask).sum() > 0.4


def test_prevalence_is_kept():
    assert not any(phantom["label"] for phantom in make_volume_phantoms(4, prevalence=0.0, size=16))
    assert all(phantom["label"] for phantom in make_volume_phantoms(4, prevalence=1.0, size=16))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"index": -1}, r"index, seed: expected integers of 0 or more, got -1 and 0"),
        ({"index": 0, "size": 8}, r"size: expected 16 voxels or more.*got 8"),
        ({"index": 0, "label": 2}, r"label: expected 0 \(clear\), 1 \(lesion\) or None.*got 2"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_volume_phantom(**arguments)
    with pytest.raises(ValueError, match="count: expected 0 or more, got -1"):
        make_volume_phantoms(-1)
    with pytest.raises(ValueError, match=r"prevalence: expected a probability in \[0, 1\], got 1.5"):
        make_volume_phantoms(1, prevalence=1.5)


def test_files_hold_the_phantoms_in_their_axes(tmp_path, capsys):
    assert main([str(tmp_path / "volumes"), "--volumes", "4", "--size", "16", "--seed", "7", "--masks"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "volumes")
    for phantom in make_volume_phantoms(4, seed=7, size=16):
        name = f"{phantom['key']}.nii.gz"
        image = nib.load(tmp_path / "volumes" / ("clear", "lesion")[phantom["label"]] / name)
        np.testing.assert_array_equal(np.asarray(image.dataobj), phantom["image"][0])
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        np.testing.assert_allclose(image.header.get_zooms(), 20.0)
        np.testing.assert_allclose(image.affine @ [7.5, 7.5, 7.5, 1], [0, 0, 0, 1], atol=1e-9)
        mask = tmp_path / "volumes-masks" / name
        assert mask.is_file() == (phantom["label"] == 1)
        if mask.is_file():
            np.testing.assert_array_equal(np.asarray(nib.load(mask).dataobj), phantom["mask"][0])


def test_a_folder_that_holds_something_is_refused(tmp_path, capsys):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="folder: expected a new or an empty folder"):
        write_example_volumes(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert main([str(tmp_path / "new"), "--size", "8"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    assert "size: expected 16 voxels or more" in capsys.readouterr().err
    with pytest.raises(ValueError, match="volumes: expected 2 or more, got 1"):
        write_example_volumes(tmp_path / "new", 1)
