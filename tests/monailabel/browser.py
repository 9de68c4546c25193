"""A headless browser for the reading page."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def opened_page(width: int = 1200, height: int = 900, *, touch: bool = False) -> Iterator[Any]:
    """A page in Debian's Chromium; ``page.errors`` and ``page.asked`` list errors and addresses that it asked for."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed; pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium in the PATH; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": width, "height": height}, has_touch=touch)
            page.set_default_timeout(60_000)
            page.errors, page.asked = [], []
            page.on("pageerror", lambda error: page.errors.append(str(error)))
            page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
            page.on("request", lambda request: page.asked.append(request.url))
            yield page
        finally:
            browser.close()


def shown_image(page: Any) -> str:
    """The id of the image on the page."""
    return str(page.get_attribute("body", "data-image") or "")


def wait_for_image(page: Any, after: str = "") -> str:
    """Wait until another image is shown, with what the model says of it."""
    # By selectors: the page's policy forbids what wait_for_function does.
    page.wait_for_selector(f'body[data-image]:not([data-image=""]):not([data-image="{after}"])')
    page.wait_for_selector("#evidence .class-line")
    return shown_image(page)
