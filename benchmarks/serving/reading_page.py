"""How long a reader waits for the first image of the reading page, and for the next one after a key.

    python -m benchmarks.serving.reading_page [--pages N] [--images N] [--look SECONDS]

A server of the pneumonia bundle on two cores and a headless Chromium beside it. First: from the start of the
navigation until an image is drawn, and until the model's answer stands beside it, on new pages. Next: from the key to
the next image drawn; between answer and key the page fetches ahead for as long as a reader looks, ``--look`` seconds.
Times are those of the browser's clock, so that other work on the machine counts (``load_average``); beside the first
image stand the processor seconds of browser and server together. Writes ``benchmarks/results/reading_page.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from typing import Any

import psutil
from playwright.sync_api import sync_playwright

from benchmarks.bundles import RESULTS
from benchmarks.serving.label_server import summary
from benchmarks.serving.served import PNEUMONIA, Served, circumstances, picture, served

# Times on the page's own clock, which begins with the navigation.
WATCH = """
  window.seen = {};
  addEventListener("keydown", () => { window.seen.key = performance.now(); }, { capture: true });
  new MutationObserver(() => {
    const image = document.body && document.body.dataset.image;
    if (image && image !== window.seen.image) Object.assign(window.seen, { image, drawn: performance.now() });
    const answered = document.querySelector("#evidence .class-line");
    if (answered && !window.seen.answered) window.seen.answered = performance.now();
  }).observe(document, { subtree: true, childList: true, attributes: true });
"""


def wait(page: Any, after: str = "") -> dict[str, Any]:
    """Wait for another image and the answer beside it."""
    page.wait_for_selector(f'body[data-image]:not([data-image="{after}"])')
    page.wait_for_selector("#evidence .class-line")
    return dict(page.evaluate("window.seen"))


def processor_seconds() -> float:
    """Of the browser and the server, which are this process's children, until now."""
    spent = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(child.cpu_times()[:2])
    return spent


def first_images(browser: Any, server: Served, pages: int) -> dict[str, Any]:
    drawn, answered, processor = [], [], []
    for _ in range(pages):
        page = browser.new_page()
        page.add_init_script(WATCH)
        before = processor_seconds()
        page.goto(f"{server.url}/reader/")
        page.wait_for_selector("body[data-image]")
        processor.append(processor_seconds() - before)
        seen = wait(page)
        drawn.append(seen["drawn"] / 1000)
        answered.append(seen["answered"] / 1000)
        page.close()
    return {
        "image": summary(drawn),
        "answer": summary(answered),
        "processor_seconds_until_image": summary(processor),
    }


def next_images(browser: Any, server: Served, images: int, look: float) -> dict[str, Any]:
    page = browser.new_page()
    page.add_init_script(WATCH)
    page.goto(f"{server.url}/reader/")
    seen, waited, ready = wait(page), [], 0
    for index in range(images):
        page.wait_for_timeout(1000 * look)
        ready += page.get_attribute("body", "data-next") not in (None, "")
        page.keyboard.press(str(1 + index % 2))
        seen = wait(page, seen["image"])
        waited.append((seen["drawn"] - seen["key"]) / 1000)
    page.close()
    return {"image": summary(waited), "fetched_ahead": ready / images, "seconds_of_looking": look}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=5)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--look", type=float, default=2.0)
    options = parser.parse_args()
    found: dict[str, Any] = {"circumstances": circumstances()}
    pictures = [picture(28, seed) for seed in range(options.images + 2 * options.pages + 5)]
    with served(pictures, PNEUMONIA) as server, sync_playwright() as playwright:
        server.wait_until_scored()
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found["first"] = first_images(browser, server, options.pages)
        found["next"] = next_images(browser, server, options.images, options.look)
        browser.close()
    found["circumstances"]["load_average_at_the_end"] = circumstances()["load_average"]
    (RESULTS / "reading_page.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
