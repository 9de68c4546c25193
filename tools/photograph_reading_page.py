"""Make the picture of the reading page in the documents, ``docs/images/reading-page.png``.

    python -m tools.photograph_reading_page

A server of the bundle phantom_xray_diffusion with phantoms, and a headless Chromium: the most uncertain image with its
map and counterfactual. Needs playwright and Debian's chromium.
"""

from __future__ import annotations

import shutil

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.bundles import ROOT
from benchmarks.serving.served import served
from monai_diffclf.data import make_phantoms

PICTURE = ROOT / "docs" / "images" / "reading-page.png"


def main() -> None:
    phantoms = [np.rint(255 * np.asarray(one["image"]).squeeze()) for one in make_phantoms(8, seed=9)]
    pictures = [Image.fromarray(one.clip(0, 255).astype(np.uint8)) for one in phantoms]
    with served(pictures, "phantom_xray_diffusion") as server, sync_playwright() as playwright:
        server.wait_until_scored()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        page.set_default_timeout(120_000)
        page.goto(f"{server.url}/reader/")
        page.wait_for_selector("#evidence .class-line")
        page.fill("#reader", "reader-1")
        page.click("#evidence")
        page.keyboard.press("c")
        page.wait_for_selector("#other:not([hidden])")
        page.wait_for_timeout(1500)
        page.screenshot(path=PICTURE)
        browser.close()
    print(PICTURE)


if __name__ == "__main__":
    main()
