# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A file from its public address, whole and with the right checksum, or not at all."""

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path

from tqdm import tqdm

from ..storage.atomic_file import replaced

__all__ = ["download_by_hand", "download_file"]


def download_by_hand(url: str, md5: str, path: Path) -> str:
    """What a user can do where a download is not possible.

    Example:
        >>> download_by_hand("https://example.org/a.npz", "d41d", Path("data/a.npz"))
        'download https://example.org/a.npz (MD5 d41d) and save it as data/a.npz'
    """
    return f"download {url} (MD5 {md5}) and save it as {path}"


def download_file(url: str, md5: str, path: Path, *, name: str, progress: bool = True) -> None:
    """Fetch a file; its folder must exist.

    Args:
        url: its address.
        md5: what its MD5 must be.
        path: where to.
        name: what messages call it.
        progress: whether to show a progress bar.

    Raises:
        RuntimeError: when the download fails or its MD5 is wrong; nothing is left behind.
    """
    digest = hashlib.md5(usedforsecurity=False)
    try:
        # The processes of a distributed run may all find that it is missing.
        with replaced(path, shared=True) as temporary:
            with open(temporary, "wb") as target, urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310
                total = int(response.headers.get("Content-Length") or 0) or None
                with tqdm(total=total, unit="B", unit_scale=True, desc=path.name, disable=not progress) as bar:
                    while chunk := response.read(1 << 16):
                        target.write(chunk)
                        digest.update(chunk)
                        bar.update(len(chunk))
            if digest.hexdigest() != md5:
                raise RuntimeError(
                    f"{name}: the download from {url} has MD5 {digest.hexdigest()}, expected {md5}; it was removed. "
                    "Try again"
                )
    except OSError as error:
        raise RuntimeError(f"{name}: the download failed ({error}); {download_by_hand(url, md5, path)}") from error
