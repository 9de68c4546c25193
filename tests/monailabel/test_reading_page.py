"""The reading page in a real browser: readers label images by keys, with a mouse, on a phone, and with a token."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.monailabel.browser import opened_page, shown_image, wait_for_image
from tests.monailabel.example_images import make_picture, write_png
from tests.monailabel.started_server import StartedServer, started
from tests.volume_fixtures import phantom, volume_bundle, write_series

TOKEN = "a-token-of-more-than-thirty-two-signs"  # noqa: S105
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Twelve pictures, one of which has a name that would be HTML."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for index in range(12):
        write_png(folder / f"image{index:02d}.png", make_picture(index, (40, 50)))
    return folder


@pytest.fixture
def server(monailabel: None, bundle: Path, studies: Path, tmp_path: Path) -> Iterator[StartedServer]:
    """A server of two models."""
    with started(str(studies), tmp_path / "home", {"bundle": f"{bundle},pneumonia_xray_score"}) as one:
        yield one


def labels(studies: Path) -> dict[str, str]:
    """What is stored of the images."""
    found = sorted((studies / "labels" / "final").glob("*.json"))
    return {file.stem: json.loads(file.read_text())["label"] for file in found}


def wait_for_answer(page: Any, image: str) -> None:
    """Wait until the page says that an answer is stored."""
    page.wait_for_selector(f"#last:has-text('{image}:')")


@pytest.mark.slow
def test_ten_images_by_keys(server: StartedServer, studies: Path) -> None:
    with opened_page() as page:
        page.goto(f"{server.url}/reader/")
        said = {}
        image = wait_for_image(page)
        for index in range(10):
            said[image] = ("normal", "pneumonia")[index % 2]
            page.keyboard.press(str(1 + index % 2))
            before, image = image, wait_for_image(page, after=image)
            wait_for_answer(page, before)
        assert labels(studies) == said and len(said) == 10
        assert page.inner_text("#progress").startswith("10 labelled · 2 left · agreement with the model")
        page.keyboard.press("u")
        image = wait_for_image(page, after=image)
        page.keyboard.press("b")
        page.wait_for_selector("#evidence:has-text('No image is left for you.')")
        page.wait_for_selector("#progress:has-text('1 unsure · 1 bad')")
        assert labels(studies) == said
        assert page.errors == []
        assert {address.split("/")[2] for address in page.asked} == {server.url.split("/")[2]}


@pytest.mark.slow
def test_evidence_map_counterfactual_and_window(server: StartedServer) -> None:
    with opened_page() as page:
        page.goto(f"{server.url}/reader/")
        image = wait_for_image(page)
        reply = server.request("POST", f"/infer/pneumonia?image={image}&output=json").json()
        text = page.inner_text("#evidence")
        assert reply["label"] in text and f"{100 * reply['probabilities'][reply['label']]:.1f} %" in text
        assert "Votes of the noise draws (3 draws)" in text
        page.wait_for_selector("#legend:has-text('speaks for')")
        page.wait_for_timeout(300)
        with_map = page.screenshot(clip=box(page))
        page.keyboard.press("m")
        without = page.screenshot(clip=box(page))
        assert with_map != without and not page.is_checked("#map")
        area = box(page)
        page.mouse.move(area["x"] + 100, area["y"] + 100)
        page.mouse.down()
        page.mouse.move(area["x"] + 40, area["y"] + 100, steps=3)
        page.mouse.up()
        assert float(page.input_value("#window")) < 1000 and page.screenshot(clip=area) != without
        page.keyboard.press("0")
        assert page.input_value("#window") == "1000"
        page.keyboard.press("+")
        assert page.screenshot(clip=area) != without
        page.keyboard.press("c")
        page.wait_for_selector("#other:not([hidden])")
        assert "As " in page.inner_text("#other-text")
        page.keyboard.press("h")
        assert page.is_hidden("#evidence") and page.is_hidden("#other")
        page.keyboard.press("h")
        page.select_option("#model", "pneumonia_xray_score")
        page.wait_for_selector("#evidence:not(:has-text('Votes')) .class-line")
        assert page.is_disabled("#counterfactual")
        assert page.errors == []


@pytest.mark.slow
def test_on_a_phone_and_without_a_mouse(server: StartedServer, studies: Path) -> None:
    with opened_page(400, 800, touch=True) as page:
        page.goto(f"{server.url}/reader/")
        image = wait_for_image(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, "nothing to scroll sideways"
        for selector in ("#canvas", "#classes button", "[data-verdict=unsure]"):
            area = page.locator(selector).first.bounding_box()
            assert area["y"] + area["height"] <= 800 and area["height"] >= 40, f"{selector} is in sight and large"
        page.locator("#classes button").first.tap()
        wait_for_image(page, after=image)
        wait_for_answer(page, image)
        assert labels(studies) == {image: "normal"}
        # Every control is reached by the tabulator, in the order of the page, and says what it is.
        page.evaluate("document.activeElement.blur()")
        seen = []
        for _ in range(40):
            page.keyboard.press("Tab")
            name = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
            if name in seen:
                break
            seen.append(name)
        order = ["canvas", "map", "fade", "reset", "hide", "counterfactual"]
        assert [name for name in seen if name in order] == order
        assert any(name.startswith("normal") for name in seen) and any(name.startswith("Bad image") for name in seen)
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate(LEAST_CONTRAST) >= 4.5
        assert page.errors == []


@pytest.mark.slow
def test_readers_get_different_images_and_token_is_asked_for(
    monailabel: None, bundle: Path, studies: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    (studies / "image00.png").rename(studies / "a&b 'c'.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 5, 3), np.uint8), np.eye(4)), studies / "volume.nii.gz")
    conf = {"bundle": str(bundle), "token_file": str(tmp_path / "token")}
    with started(str(studies), tmp_path / "home", conf) as server:
        shown = []
        for _ in range(2):
            with opened_page() as page:
                page.goto(f"{server.url}/reader/")
                page.wait_for_selector("#login[open]")
                page.fill("#token", "wrong")
                page.keyboard.press("Enter")
                page.wait_for_selector("#login[open]")
                page.fill("#token", TOKEN)
                page.keyboard.press("Enter")
                shown.append(wait_for_image(page))
                page.wait_for_selector("body[data-next]")
                shown.append(str(page.get_attribute("body", "data-next")))
        assert len(set(shown)) == 4
        assert TOKEN not in server.log.read_text()


@pytest.mark.slow
def test_names_and_warnings_are_text(monailabel: None, bundle: Path, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    write_png(studies / "a&b 'c' &lt;i&gt;.png", make_picture(1, (40, 50)))
    config = bundle.parent / "hostile"
    if not config.exists():
        config.mkdir()
        (config / "configs").mkdir()
        for file in (bundle / "configs").iterdir():
            (config / "configs" / file.name).write_text(file.read_text())
        own = json.loads((config / "configs" / "inference.json").read_text())
        own["model_description"]["classes"] = ["normal", "pneumonia"]
        own["classes"] = [HOSTILE, "pneumonia"]
        (config / "configs" / "inference.json").write_text(json.dumps(own))
    with started(str(studies), tmp_path / "home", {"bundle": str(config)}) as server, opened_page() as page:
        page.goto(f"{server.url}/reader/")
        wait_for_image(page)
        assert page.inner_text("#image-id") == "a&b 'c' &lt;i&gt;"
        assert HOSTILE in page.inner_text("#classes") and HOSTILE in page.inner_text("#evidence")
        assert page.locator("img").count() == 0 and page.errors == []


@pytest.mark.slow
def test_slices_of_a_volume(monailabel: None, bundle: Path, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    values = np.stack([make_picture(index, (30, 30)) for index in range(6)], -1)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), studies / "volume.nii.gz")
    with started(str(studies), tmp_path / "home", {"bundle": str(bundle)}) as server, opened_page() as page:
        page.goto(f"{server.url}/reader/")
        page.wait_for_selector("body[data-image=volume]")
        page.wait_for_selector("#slice-text:has-text('4 of 6')")
        page.wait_for_timeout(300)
        before = page.screenshot(clip=box(page))
        page.keyboard.press("PageUp")
        page.wait_for_selector("#slice-text:has-text('5 of 6')")
        page.wait_for_timeout(500)
        assert page.screenshot(clip=box(page)) != before
        # The model takes planes; the reader is told so, and can go on.
        page.wait_for_selector("#evidence:has-text('No answer of the model')")
        page.keyboard.press("b")
        page.wait_for_selector("#progress:has-text('1 bad')")
        assert shown_image(page) == "volume"


@pytest.mark.slow
def test_series_in_a_folder_with_the_map_of_a_model_of_volumes(monailabel: None, tmp_path: Path) -> None:
    """Scanned from the side, with voxels that are twice as long from front to back."""
    studies, values = tmp_path / "studies", phantom((16, 20, 12), (4, 14, 6), 2.0)
    stored = (values[:, ::-1, ::-1].transpose(0, 2, 1) + 1024) // 2  # slices to the right, rows down, columns back
    write_series(studies / "series", stored, axes=(0, 1, 0, 0, 0, -1), spacing=(1.0, 2.0, 1.0))
    model = volume_bundle(tmp_path / "tiny")
    with started(str(studies), tmp_path / "home", {"bundle": str(model)}) as server, opened_page() as page:
        page.goto(f"{server.url}/reader/")
        assert wait_for_image(page) == "series"
        page.wait_for_selector("#slice-text:has-text('7 of 12')")
        page.wait_for_timeout(500)
        with_map = picture(page)
        page.keyboard.press("m")
        page.wait_for_timeout(300)
        plain = picture(page)
        assert not np.array_equal(with_map, plain)
        # Axial: 20 rows of 2 mm and 16 columns of 1 mm; the blob lies in front, and to the left of the patient.
        rows, columns = np.nonzero(plain > 0)
        assert (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(40 / 16, rel=0.1)
        row, column = (float(place.mean()) for place in np.nonzero(plain == plain.max()))
        assert row < rows.mean() and column > columns.mean()
        assert page.errors == []


def picture(page: Any) -> np.ndarray:
    """The grey levels of the image's canvas, as the browser shows them."""
    shown = Image.open(io.BytesIO(page.screenshot(clip=box(page))))
    return np.asarray(shown.convert("L")).astype(int)[10:-10, 10:-10]  # less the border


def box(page: Any) -> Any:
    """Where the image is."""
    return page.locator("#canvas").bounding_box()


UNNAMED = """() => [...document.querySelectorAll("button, input, select, canvas, progress, summary")].filter((each) =>
  each.offsetParent && !each.getAttribute("aria-label") && !each.textContent.trim()
  && !(each.labels && each.labels.length)).map((each) => each.outerHTML)"""

# The smallest contrast of a text with the colour behind it (WCAG 2.1, 1.4.3).
LEAST_CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map((value) => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (parts(colour).length === 3 || parts(colour)[3] > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let least = 21;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.offsetParent || element.disabled) continue;
    const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    least = Math.min(least, (pair[0] + 0.05) / (pair[1] + 0.05));
  }
  return least;
}"""
