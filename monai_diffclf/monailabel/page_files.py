# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The files of the reading page, which hold no data of anyone's, and what a browser may do with them."""

from __future__ import annotations

from importlib import resources

__all__ = ["PAGE_FILES", "PAGE_PATHS", "PAGE_POLICY", "read_page_file"]

PAGE_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "reader.css": ("reader.css", "text/css; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
    "viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "evidence.js": ("evidence.js", "text/javascript; charset=utf-8"),
    "server.js": ("server.js", "text/javascript; charset=utf-8"),
    "reader.js": ("reader.js", "text/javascript; charset=utf-8"),
}
"""Name in the address -> file of the package and its kind."""

PAGE_PATHS = ("/reader", *(f"/reader/{name}" for name in PAGE_FILES))

# Nothing but these files and what they ask this server for; no inline code or style, no frame, no form that leaves.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def read_page_file(name: str) -> tuple[bytes, str]:
    """Content and kind of a file of the page; KeyError for another name."""
    file, kind = PAGE_FILES[name]
    return resources.files(__package__).joinpath(f"reading_page/{file}").read_bytes(), kind
