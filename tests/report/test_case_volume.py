"""Volumes in the case report: what the page keeps, and what a browser draws of it."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.report import Case, CaseVolume, write_case_report
from monai_diffclf.report.case_record import encode_case
from monai_diffclf.report.case_volume import encode_volume, strongest_voxel

RED, BLUE = "#ff0000", "#0000ff"
SHAPE, PEAK = (12, 10, 14), (3, 7, 11)  # rows, columns, slices


def pixels(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def volume(shape=SHAPE, **more):
    """Each voxel has a grey value of its own; the map is strongest at one, positive, and negative at another."""
    image = np.linspace(-1, 1, int(np.prod(shape))).reshape(1, *shape)
    grid = np.indices(shape)
    difference = 4 * np.exp(-sum((axis - place) ** 2 for axis, place in zip(grid, PEAK, strict=True)) / 8.0)
    difference[0, 0, 0] = -2
    return CaseVolume(image=image, decision_map=difference, **more)


def case(key="scan 1", **more):
    kept = volume(**more)
    return Case(
        key=key,
        image=kept.image[..., PEAK[-1]],
        decision_map=kept.decision_map[..., PEAK[-1]],
        probabilities=np.array([0.2, 0.8]),
        volume=kept,
        note="slice 12 of 14",
    )


def test_slices_lie_side_by_side_in_the_pictures():
    found, limit = encode_volume(volume(), (RED, BLUE))
    picture, map_ = pixels(found["image"]), pixels(found["map"])
    assert found["columns"] == 4 and picture.shape == map_.shape == (4 * 12, 4 * 10)
    for row, column, place in (PEAK, (0, 0, 0), (11, 9, 13)):
        y, x = place // 4 * 12 + row, place % 4 * 10 + column
        assert picture[y, x] == round(255 * (volume().image[0, row, column, place] + 1) / 2)
    assert limit == pytest.approx(np.quantile(np.abs(volume().decision_map), 0.995))
    assert map_[PEAK[2] // 4 * 12 + PEAK[0], PEAK[2] % 4 * 10 + PEAK[1]] == 255
    assert map_[0, 0] == round(128 - 127 * 2 / limit) and found["at"] == list(PEAK) and found["reducedFrom"] is None


def test_colours_and_no_map():
    image = np.zeros((3, *SHAPE))
    image[0] = 1
    found, limit = encode_volume(CaseVolume(image=image), (RED, BLUE))
    assert pixels(found["image"])[5, 5].tolist() == [255, 128, 128]
    assert found["map"] is None and limit is None and found["at"] == [6, 5, 7]


def test_long_sides_are_averaged_down_and_said():
    image = np.zeros((1, 8, 128, 70))
    image[..., 1::2, :] = 1
    difference = np.zeros(image.shape[1:])
    difference[4, 100, 69] = 1
    found, _ = encode_volume(CaseVolume(image=image, decision_map=difference, voxel_size=(1, 0.5, 2)), (RED, BLUE))
    assert found["size"] == [8, 64, 64] and found["reducedFrom"] == [8, 128, 70]
    np.testing.assert_allclose(found["voxelSize"], [1, 1, 2 * 70 / 64])
    assert (pixels(found["image"])[:8, :64] == 191).all()
    assert found["at"] == [4, 50, 63]


def test_the_place_where_a_case_opens():
    assert strongest_voxel(SHAPE, volume().decision_map) == PEAK
    assert strongest_voxel(SHAPE) == (6, 5, 7)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"image": np.zeros((2, 4, 4, 4))}, r"image: expected a volume \[1 or 3, H, W, D\], got \[2, 4, 4, 4\]"),
        ({"decision_map": np.zeros((4, 4, 3))}, r"decision_map: expected the volume's shape \[4, 4, 4\]"),
        ({"voxel_size": (1, 0, 1)}, "voxel_size: expected three positive lengths"),
        ({"image": np.full((1, 4, 4, 4), np.nan)}, "image: expected finite numbers"),
    ],
)
def test_what_does_not_fit_is_refused(more, words):
    with pytest.raises(ValueError, match=words):
        CaseVolume(**{"image": np.zeros((1, 4, 4, 4)), **more})


def test_the_volume_takes_the_place_of_the_plane():
    content = json.loads(encode_case(case()).content)
    assert content["map"] is None and content["volume"]["size"] == list(SHAPE)
    assert content["mapLimit"] == pytest.approx(np.quantile(np.abs(volume().decision_map), 0.995), rel=1e-4)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        try:
            opened = driver.chromium.launch(args=["--no-sandbox"], executable_path=chromium())
        except playwright.Error as error:
            pytest.skip(f"no Chromium to open: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


def chromium():
    import shutil

    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def page(browser, tmp_path):
    name = "<b>scan</b> & 1"
    path = write_case_report(
        tmp_path / "cases.html", [case(name, voxel_size=(0.8, 1, 2))], title="Volumes", classes=["clear", "lesion"]
    )
    found = browser.new_page(viewport={"width": 1200, "height": 900})
    faults = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    found.goto(path.as_uri())
    found.click("#list a")
    # Drawn once the pictures have been decoded.
    found.wait_for_function("document.querySelectorAll('canvas')[4].getContext('2d').getImageData(0,0,1,1).data[3] > 0")
    yield found
    assert faults == []
    found.close()


def drawn(page, number):
    """The pixels of a canvas [H, W, 4]."""
    size, data = page.evaluate(
        "n => { const c = document.querySelectorAll('canvas')[n];"
        "return [[c.height, c.width], Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]; }",
        number,
    )
    return np.array(data).reshape(*size, 4)


def grey(values):
    return np.floor(255 * (values + 1) / 2 + 0.5)


def test_three_planes_open_where_the_map_is_strongest(page):
    row, column, place = PEAK
    image, difference = volume().image[0], volume().decision_map
    assert page.locator("output").all_inner_texts() == ["12 of 14", "4 of 12", "8 of 10"]
    expected = [image[:, :, place], image[row].T[::-1], image[:, column].T[::-1]]
    peaks = [(row, column), (13 - place, column), (13 - place, row)]
    for number, (values, peak) in enumerate(zip(expected, peaks, strict=True)):
        shown = drawn(page, 2 * number)
        np.testing.assert_allclose(shown[..., 0], grey(values), atol=1)
        over = drawn(page, 2 * number + 1)
        limit = encode_volume(volume(), (RED, BLUE))[1]
        expected_map = [difference[:, :, place], difference[row].T[::-1], difference[:, column].T[::-1]][number]
        np.testing.assert_allclose(over[..., 3], np.clip(255 * expected_map / limit, 0, 255), atol=2)
        assert over[peak][3] == 255


def test_a_slider_leads_through_the_slices(page):
    slider = page.locator("input[type=range]").first
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Home")
    assert page.locator("output").first.inner_text() == "1 of 14"
    page.wait_for_timeout(50)
    np.testing.assert_allclose(drawn(page, 0)[..., 0], grey(volume().image[0][:, :, 0]), atol=1)
    assert page.locator("#case h2").inner_text() == "<b>scan</b> & 1"  # the arrow keys stayed with the slider


def test_voxels_have_their_shape_and_the_page_fits_a_phone(page):
    boxes = [box.bounding_box() for box in page.locator(".layers").all()]
    shapes = [(10 * 1) / (12 * 0.8), (10 * 1) / (14 * 2), (12 * 0.8) / (14 * 2)]
    for box, shape in zip(boxes, shapes, strict=True):
        assert box["width"] / box["height"] == pytest.approx(shape, rel=0.02)
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
