# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which images: files and folders as they were typed, each image once and with a name of its own."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .._text_path import text_path
from ..data import find_images
from ..data.whole_series import warn_of_parts
from .series import Slice, find_series

__all__ = ["ArchiveImage", "find_archive"]


@dataclass(frozen=True)
class ArchiveImage:
    """One image of an archive.

    Args:
        path: its file, or the folder of its slices, from the root of the file system.
        key: its name: the path below the folder that all images are in.
        size: bytes of the file, or of all slices.
        modified: when it was written, nanoseconds; of a folder a number that is another one when any slice in it is
            renamed, replaced or written anew.
        series: which slice of which DICOM series it is, None for a picture.
    """

    path: str
    key: str
    size: int
    modified: int
    series: Slice | None = None


def find_archive(
    sources: Sequence[str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str] | None = None,
    volumes: bool = False,
    dicom_output: str | os.PathLike[str] | None = None,
) -> list[ArchiveImage]:
    """The images of some files and folders, each once, in an order that depends on nothing but their names.

    They come in the order of the sources, those of a folder sorted by path, but the slices of a DICOM series together,
    by their positions, where its first file would be. A file that is met twice stands where it was met first.

    Args:
        sources: files and folders, which are searched with all that is in them.
        output: a folder whose files are left out: what an earlier run wrote.
        volumes: whether images are volumes: then the slices that lie in one folder are one image, whose name is that
            of the folder, see `find_images`.
        dicom_output: another output folder.

    Raises:
        ValueError: when a source does not exist, is no image, or holds none.

    Warns:
        UserWarning: naming what is left out of a folder, how many files were met twice, and folders, of one source or
            several, that hold parts of one series.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a", "b"):
        ...         Path(folder, name).mkdir()
        ...         Image.new("L", (8, 8)).save(Path(folder, name, "scan.png"))
        ...     [image.key for image in find_archive([folder + "/b", folder + "/a"])]
        ['b/scan.png', 'a/scan.png']
    """
    if not sources:
        raise ValueError("images: expected at least one file or folder, got none")
    roots = [_absolute(text_path(source, "images")) for source in sources]
    for root, source in zip(roots, sources, strict=True):
        if not os.path.lexists(root):
            raise ValueError(f"images: expected files and folders, but {source} does not exist")
    skipped = [Path(os.path.realpath(folder)) for folder in (output, dicom_output) if folder is not None]
    found: dict[str, str] = {}
    met = 0
    for root in dict.fromkeys(roots):
        for item in find_images(root, volumes=volumes):
            if any(Path(os.path.realpath(item["image"])).is_relative_to(folder) for folder in skipped):
                continue
            met += 1
            found.setdefault(_real(item["image"]), item["image"])
    if not found:
        folders = " and ".join(str(folder) for folder in (output, dicom_output) if folder is not None)
        raise ValueError(f"images: expected some outside {folders}, where results go, got none")
    if met > len(found) or len(set(roots)) < len(roots):
        twice = met - len(found) + len(roots) - len(set(roots))
        warnings.warn(f"images: {twice} file(s) or folder(s) are given more than once, and taken once", stacklevel=2)
    base = _base(roots)
    paths = list(found.values())
    if volumes and len(set(roots)) > 1:  # of each source by itself `find_images` says so
        warn_of_parts(map(Path, paths))
    slices = {} if volumes else find_series(paths)
    images = [_image(path, base, slices.get(path)) for path in paths]
    return _series_together(images)


def _image(path: str, base: str, place: Slice | None) -> ArchiveImage:
    # The folder that all are in has a name of its own.
    key = Path(os.path.relpath(path, base)).as_posix() if path != base else os.path.basename(path)
    return ArchiveImage(path, key, *_state(path), place)


def _state(path: str) -> tuple[int, int]:
    """Size and time of a file; of the slices in a folder the sum, and a hash of their names, sizes and times."""
    if not os.path.isdir(path):
        found = os.stat(path)
        return found.st_size, found.st_mtime_ns
    with os.scandir(path) as entries:
        slices = sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries if e.is_file())
    digest = hashlib.blake2b(repr(slices).encode(errors="surrogateescape"), digest_size=7)
    return sum(size for _, size, _ in slices), int.from_bytes(digest.digest(), "big")


def _absolute(path: Path) -> str:
    return os.path.abspath(path.expanduser())


def _real(path: str) -> str:
    """What tells files apart: linked folders are followed, a linked file has a name of its own."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _base(roots: Sequence[str]) -> str:
    """The folder below which images are named: the one given, or the one that all given ones are in."""
    if len(set(roots)) == 1:
        return roots[0] if os.path.isdir(roots[0]) else os.path.dirname(roots[0])
    return os.path.commonpath([os.path.dirname(root) for root in roots])


def _series_together(images: list[ArchiveImage]) -> list[ArchiveImage]:
    """The slices of a series in their order, where the first one is met."""
    slices: dict[str, list[ArchiveImage]] = {}
    for image in images:
        if image.series is not None:
            slices.setdefault(image.series.series, []).append(image)
    ordered: list[ArchiveImage] = []
    for image in images:
        if image.series is None:
            ordered.append(image)
        else:
            ordered += sorted(slices.pop(image.series.series, ()), key=_number)
    return ordered


def _number(image: ArchiveImage) -> int:
    return 0 if image.series is None else image.series.number
