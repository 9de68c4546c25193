"""Volumes the way up that people look at them, whatever the order of their axes."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_diffclf.explain import mosaic_overlay, overlay, upright_volume
from tests.volume_fixtures import ALL_CODES, affine, phantom, reoriented

VALUES = phantom((5, 6, 7)).astype(np.float32)


@pytest.mark.parametrize("codes", ALL_CODES)
def test_rows_go_to_the_back_columns_to_the_left_and_slices_up(codes):
    image = reoriented(nibabel.Nifti1Image(VALUES, affine()), codes)
    found, sizes = upright_volume(image.get_fdata(dtype=np.float32)[None], image.affine)
    # From right, front, head: rows are front to back, columns right to left.
    np.testing.assert_array_equal(found[0], VALUES.transpose(1, 0, 2)[::-1, ::-1])
    np.testing.assert_allclose(sizes, (0.8, 1.0, 2.5))


def test_a_metatensor_brings_its_own_affine():
    image = reoriented(nibabel.Nifti1Image(VALUES, affine()), "SPR")
    values = np.ascontiguousarray(image.get_fdata(dtype=np.float32))
    tensor = MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(image.affine))
    np.testing.assert_array_equal(upright_volume(tensor)[0], upright_volume(VALUES, affine())[0])
    np.testing.assert_array_equal(upright_volume(VALUES)[0], VALUES)  # nothing known: upright already


def test_tiles_are_the_slices_from_the_feet_up_with_one_scale():
    volume = (VALUES[None] - VALUES.min()) / np.ptp(VALUES)
    difference = VALUES - VALUES.mean()
    found = mosaic_overlay(volume, difference, size=1)
    assert found.shape == (3 * 5, 3 * 6, 3)
    upright, values = volume, difference
    limit = np.abs(values).max()
    for place in range(7):
        row, column = divmod(place, 3)
        tile = found[row * 5 : row * 5 + 5, column * 6 : column * 6 + 6]
        scaled = values[..., place] / limit
        alone = overlay(upright[..., place], np.where(np.abs(scaled) > 0, scaled, 0), size=1)
        # A slice by itself has a scale of its own, by which the opacity differs.
        share = np.abs(scaled).max()
        assert np.allclose(tile, alone, atol=1e-6) == (share == 1)
    assert (found[10:, 6:] == found[10, 6]).all()  # no slice: one colour


def test_of_many_slices_the_strongest_is_shown_and_pixels_are_square():
    difference = np.zeros((4, 8, 150))
    difference[2, 3, 101] = 1
    found = mosaic_overlay(np.zeros((1, 4, 8, 150)), difference, np.diag([2.0, 1, 1, 1]), size=1)
    assert found.shape == (7 * 8, 8 * 8, 3)
    assert np.abs(found - found[-1, -1]).max() > 0.3


@pytest.mark.parametrize(
    ("image", "difference"), [((1, 4, 4), (4, 4)), ((1, 4, 4, 4), (4, 4, 3)), ((4, 4, 4), (4, 4, 4))]
)
def test_shapes_that_do_not_fit_are_refused(image, difference):
    with pytest.raises(ValueError, match="image: expected"):
        mosaic_overlay(np.zeros(image), np.zeros(difference))
    with pytest.raises(ValueError, match="values: expected a volume"):
        upright_volume(np.zeros((3, 3)))
