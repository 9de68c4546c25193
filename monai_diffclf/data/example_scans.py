# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
r"""Six easy classes of synthetic grey "scans", to try training on one's own images: of nobody, drawn from ellipses.

    python -m monai_diffclf.data.example_scans FOLDER [--images 1800] [--size 64] [--seed 0]

A section of an abdomen, a breast, a chest film, a section of a chest, a hand and a head, each with an anatomy, place,
size, turn, exposure, blur and noise of its own. Files are called ``CLASS/P0001_1.png``: patient 1, image 1, so that
``--patient-pattern '(P\d+)_'`` finds the patients, who have one to three images each. The classes are easy on purpose:
logistic regression on 16 px tells them apart. Results on them say that a pipeline works, and nothing about patients.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from .._text_path import text_path
from .file_tree import check_new_folder
from .shapes import Array, Ellipse, pixel_grid, stroke

__all__ = ["EXAMPLE_CLASSES", "make_example_scan", "write_example_scans"]

Grid = tuple[Array, Array]
# Separate random streams, so that the images of a patient share the anatomy and nothing else.
_ANATOMY, _IMAGE, _COUNT = range(3)


def _body(rng: np.random.Generator, grid: Grid, flat: float) -> tuple[Array, Array]:
    """A section through a trunk with skin, fat and spine [H, W], and its inside [H, W]."""
    outline = Ellipse(0, 0, rng.uniform(0.76, 0.9), flat * rng.uniform(0.9, 1.1), 0, rng.uniform(2.0, 2.5))
    fat = rng.uniform(0.78, 0.9)
    inner = Ellipse(0, 0.02, outline.radius_x * fat, outline.radius_y * fat, 0, 2.2)
    film = rng.uniform(0.24, 0.34) * outline.fill(grid) + rng.uniform(0.16, 0.26) * inner.fill(grid)
    back = outline.radius_y * rng.uniform(0.5, 0.62)
    film += rng.uniform(0.3, 0.45) * Ellipse(0, back, 0.12, 0.11).fill(grid, 0.15)
    film += rng.uniform(0.15, 0.3) * stroke(grid, (0, back), (0, back + 0.2), 0.04)
    return film, inner.fill(grid)


def _abdomen(rng: np.random.Generator, grid: Grid) -> Array:
    """A section with liver, spleen, kidneys and bowel gas."""
    film, inside = _body(rng, grid, 0.62)
    liver = Ellipse(-0.36, -0.08, rng.uniform(0.28, 0.38), rng.uniform(0.3, 0.38), rng.uniform(-0.5, 0.1))
    film += rng.uniform(0.12, 0.22) * liver.fill(grid, 0.1) * inside
    spleen = Ellipse(rng.uniform(0.5, 0.58), 0.1, 0.12, rng.uniform(0.18, 0.26), -0.4)
    film += rng.uniform(0.1, 0.2) * spleen.fill(grid, 0.12) * inside
    for side in (-1, 1):
        kidney = Ellipse(side * rng.uniform(0.27, 0.36), rng.uniform(0.22, 0.32), 0.11, 0.14, side * 0.4)
        film += rng.uniform(0.2, 0.35) * kidney.fill(grid, 0.12) * inside
    middle = Ellipse(0.12, -0.18, 0.4, 0.22)
    for _ in range(rng.integers(2, 6)):
        loop = Ellipse(*middle.point(rng, 1.0), rng.uniform(0.05, 0.11), rng.uniform(0.04, 0.09), rng.uniform(0, 3))
        film += rng.choice((-0.35, -0.25, 0.15)) * loop.fill(grid, 0.2) * inside
    return film


def _breast(rng: np.random.Generator, grid: Grid) -> Array:
    """A half ellipse at the edge of the film, with strands and knots of tissue that point to its tip."""
    height, depth = rng.uniform(0.6, 0.85), rng.uniform(0.95, 1.4)
    outline = Ellipse(-1.1, rng.uniform(-0.1, 0.1), depth, height, rng.uniform(-0.12, 0.12))
    inside = outline.fill(grid, 0.04)
    film = inside * (rng.uniform(0.25, 0.4) + 0.1 * outline.distance(grid))
    tip = (-1.1 + 0.85 * depth, outline.y)
    density = rng.uniform(0.4, 1.0)
    for _ in range(rng.integers(6, 16)):
        start = (-1.0 + rng.uniform(0, 0.5) * depth, outline.y + rng.uniform(-0.6, 0.6) * height)
        reach = rng.uniform(0.3, 0.9)
        end = (start[0] + reach * (tip[0] - start[0]), start[1] + reach * (tip[1] - start[1]))
        film += density * rng.uniform(0.05, 0.2) * stroke(grid, start, end, rng.uniform(0.02, 0.07)) * inside
    gland = Ellipse(-1.1 + 0.55 * depth, outline.y, 0.3 * depth, 0.5 * height)
    for _ in range(rng.integers(3, 9)):
        knot = Ellipse(*gland.point(rng, 1.0), rng.uniform(0.05, 0.15), rng.uniform(0.05, 0.15))
        film += density * rng.uniform(0.05, 0.2) * knot.fill(grid, 0.3) * inside
    return film


def _chest_film(rng: np.random.Generator, grid: Grid) -> Array:
    """A film from the front: two tall dark lungs, heart, ribs and collar bones."""
    x, y = grid
    film = 0.1 + rng.uniform(0.5, 0.62) * Ellipse(0, 0.25, rng.uniform(0.84, 0.95), 1.2, 0, 3.0).fill(grid)
    gap, height = rng.uniform(0.38, 0.46), rng.uniform(0.52, 0.68)
    for side in (-1, 1):
        lung = Ellipse(side * gap, rng.uniform(-0.1, 0.02), rng.uniform(0.24, 0.32), height, -side * 0.1, 2.4)
        film -= rng.uniform(0.28, 0.4) * lung.fill(grid)
        film += rng.uniform(0.08, 0.15) * stroke(grid, (side * 0.08, -0.6), (side * 0.75, -0.72), 0.045)
    heart = Ellipse(rng.uniform(0.08, 0.16), rng.uniform(0.2, 0.34), rng.uniform(0.24, 0.36), 0.27, 0.4)
    film += rng.uniform(0.15, 0.26) * heart.fill(grid, 0.12)
    film += rng.uniform(0.08, 0.18) * np.exp(-((x / 0.1) ** 2) / 2)
    ribs = np.cos(2 * np.pi * (y - rng.uniform(0, 1) - 0.35 * np.abs(x) ** 1.5) / rng.uniform(0.2, 0.27))
    return film + rng.uniform(0.02, 0.05) * ribs * (np.abs(x) < 0.85)


def _chest_section(rng: np.random.Generator, grid: Grid) -> Array:
    """A section with two black lungs, their vessels, heart and aorta."""
    film, inside = _body(rng, grid, 0.64)
    for side in (-1, 1):
        lung = Ellipse(side * rng.uniform(0.38, 0.44), -0.02, rng.uniform(0.24, 0.31), rng.uniform(0.36, 0.44))
        area = lung.fill(grid)
        film -= rng.uniform(0.8, 0.95) * film * area
        for _ in range(rng.integers(2, 6)):
            film += rng.uniform(0.1, 0.3) * stroke(grid, (side * 0.2, 0), lung.point(rng, 0.8), 0.025) * area
    heart = Ellipse(rng.uniform(0.04, 0.14), rng.uniform(-0.22, -0.1), rng.uniform(0.2, 0.27), 0.2, 0.4)
    film += rng.uniform(0.15, 0.28) * heart.fill(grid, 0.12) * inside
    return film + rng.uniform(0.1, 0.25) * Ellipse(0.12, 0.2, 0.07, 0.07).fill(grid, 0.15)


def _hand(rng: np.random.Generator, grid: Grid) -> Array:
    """A film of a hand: bones of five spread fingers, palm and wrist within soft tissue."""
    tissue, bone = np.zeros_like(grid[0]), np.zeros_like(grid[0])
    palm = Ellipse(0, 0.3, rng.uniform(0.32, 0.4), rng.uniform(0.34, 0.42), 0, 2.6)
    tissue = np.maximum(palm.fill(grid), stroke(grid, (0, 0.5), (0, 1.3), 0.17))
    spread = rng.uniform(0.14, 0.24)
    for finger, length in enumerate((0.62, 0.82, 0.9, 0.84, 0.66)):
        angle = spread * (finger - 2) * rng.uniform(0.9, 1.1) - (0.45 if finger == 0 else 0)
        base = np.array([0.16 * (finger - 2), 0.5 if finger == 0 else 0.28])
        length *= rng.uniform(0.92, 1.08)
        direction = length * np.array([np.sin(angle), -np.cos(angle)])
        tissue = np.maximum(tissue, stroke(grid, tuple(base), tuple(base + direction), 0.075))
        for near, far in ((0.0, 0.32), (0.4, 0.64), (0.71, 0.96)):
            ends = (tuple(base + near * direction), tuple(base + far * direction))
            bone = np.maximum(bone, stroke(grid, *ends, rng.uniform(0.03, 0.042)))
        bone = np.maximum(bone, stroke(grid, (0.07 * (finger - 2), 0.56), (base[0], base[1] - 0.04), 0.035))
    for side in (-1, 1):
        bone = np.maximum(bone, stroke(grid, (side * 0.08, 0.75), (side * 0.09, 1.3), 0.06))
    for _ in range(7):
        knuckle = Ellipse(rng.uniform(-0.15, 0.15), rng.uniform(0.55, 0.7), 0.06, 0.06)
        bone = np.maximum(bone, 0.9 * knuckle.fill(grid, 0.2))
    return 0.05 + rng.uniform(0.22, 0.34) * tissue + rng.uniform(0.35, 0.5) * bone


def _head(rng: np.random.Generator, grid: Grid) -> Array:
    """A section with a bright skull, folds of the brain, the middle line and two dark ventricles."""
    width = rng.uniform(0.58, 0.68)
    skull = Ellipse(0, 0, width, width * rng.uniform(1.18, 1.35))
    thick = rng.uniform(0.86, 0.91)
    brain = Ellipse(0, 0, skull.radius_x * thick, skull.radius_y * thick)
    inside = brain.fill(grid, 0.04)
    film = rng.uniform(0.65, 0.85) * (skull.fill(grid, 0.03) - inside) + rng.uniform(0.34, 0.44) * inside
    angle, distance = np.arctan2(grid[1], grid[0]), brain.distance(grid)
    folds = np.cos(rng.integers(14, 24) * angle + rng.uniform(2, 5) * np.sin(3 * angle + rng.uniform(0, 6)))
    film += rng.uniform(0.03, 0.07) * folds * (distance > 0.65) * inside
    film -= rng.uniform(0.08, 0.16) * stroke(grid, (0, -0.8 * skull.radius_y), (0, 0.8 * skull.radius_y), 0.02) * inside
    for side in (-1, 1):
        horn = (rng.uniform(0.05, 0.08), rng.uniform(0.16, 0.26))
        for y in (-1, 1):
            ventricle = Ellipse(side * 0.11, y * horn[1] * 0.8, *horn, side * y * rng.uniform(0.2, 0.45))
            film -= rng.uniform(0.2, 0.3) * ventricle.fill(grid, 0.2)
    return film


_DRAWERS: dict[str, Callable[[np.random.Generator, Grid], Array]] = {
    "abdomen": _abdomen,
    "breast": _breast,
    "chest_film": _chest_film,
    "chest_section": _chest_section,
    "hand": _hand,
    "head": _head,
}
EXAMPLE_CLASSES = tuple(_DRAWERS)


def _place(rng: np.random.Generator, size: int) -> Grid:
    """The coordinates of the pixels in a body that is shifted, scaled, turned and perhaps mirrored."""
    x, y = pixel_grid(size)
    x, y = (x - rng.normal(0, 0.07)) / rng.uniform(0.82, 1.12), (y - rng.normal(0, 0.07)) / rng.uniform(0.82, 1.12)
    turn = rng.normal(0, 0.12)
    mirror = rng.choice((-1, 1))
    return mirror * (np.cos(turn) * x + np.sin(turn) * y), np.cos(turn) * y - np.sin(turn) * x


def _expose(rng: np.random.Generator, film: Array, grid: Grid) -> Array:
    """Texture, an uneven field, contrast, brightness, blur and noise; the result is in [0, 1]."""
    size = len(film)
    texture = gaussian_filter(rng.standard_normal(film.shape), 0.04 * size)
    film = film * (1 + rng.uniform(0.02, 0.1) * texture / texture.std())
    angle = rng.uniform(0, 2 * np.pi)
    film = film + rng.uniform(0, 0.08) * (np.cos(angle) * grid[0] + np.sin(angle) * grid[1])
    film = rng.uniform(0.7, 1.25) * np.clip(film, 0, None) ** rng.uniform(0.75, 1.35) + rng.uniform(0, 0.15)
    film = gaussian_filter(film, rng.uniform(0.005, 0.02) * size)
    return np.asarray(np.clip(film + rng.uniform(0.01, 0.06) * rng.standard_normal(film.shape), 0, 1))


def make_example_scan(label: int, patient: int, image: int = 1, *, seed: int = 0, size: int = 64) -> Array:
    """Draw one image; the same arguments give the same image, and a patient's images share the anatomy.

    Args:
        label: place of the class in `EXAMPLE_CLASSES`.
        patient: number of the patient, 0 or more.
        image: number of the image of this patient, 0 or more.
        seed: 0 or more; different seeds give unrelated patients.
        size: height and width in pixels, 16 or more.

    Returns:
        Grey values [size, size] in [0, 1].

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> scan = make_example_scan(EXAMPLE_CLASSES.index("head"), patient=7)
        >>> scan.shape, bool((scan >= 0).all() and (scan <= 1).all())
        ((64, 64), True)
    """
    if not 0 <= label < len(EXAMPLE_CLASSES):
        raise ValueError(f"label: expected 0 to {len(EXAMPLE_CLASSES) - 1}, a place in EXAMPLE_CLASSES, got {label}")
    if patient < 0 or image < 0 or seed < 0:
        raise ValueError(f"patient, image, seed: expected integers of 0 or more, got {patient}, {image} and {seed}")
    if size < 16:
        raise ValueError(f"size: expected 16 pixels or more, or the classes look alike, got {size}")
    exposure = np.random.default_rng([seed, patient, _IMAGE, image])
    grid = _place(exposure, size)
    film = _DRAWERS[EXAMPLE_CLASSES[label]](np.random.default_rng([seed, patient, _ANATOMY]), grid)
    return _expose(exposure, film, grid)


def write_example_scans(
    folder: str | os.PathLike[str], images: int = 1800, size: int = 64, seed: int = 0, *, progress: bool = False
) -> Path:
    r"""Write PNG files ``CLASS/P0001_1.png`` of six classes, as many of each (one more of the first ones at most).

    Patients have one to three images of one class; more images are more patients, and the first stay as they are.

    Args:
        folder: where to; a new or an empty folder.
        images: how many in all, 6 or more.
        size: height and width in pixels, 16 or more.
        seed: 0 or more; different seeds give unrelated patients.
        progress: whether to show a progress bar on stderr.

    Returns:
        The folder.

    Raises:
        TypeError: if `folder` is no text or path.
        ValueError: if an argument is out of its range, or the folder holds something.
    """
    folder = text_path(folder, "folder")
    kinds = len(EXAMPLE_CLASSES)
    if images < kinds:
        raise ValueError(f"images: expected {kinds} or more, one of each class, got {images}")
    make_example_scan(0, 0, seed=seed, size=size)  # refuses what it cannot draw before anything is written
    check_new_folder(folder)
    with tqdm(total=images, unit="image", disable=not progress) as bar:
        for label, name in enumerate(EXAMPLE_CLASSES):
            (folder / name).mkdir(parents=True)
            left, patient = images // kinds + (label < images % kinds), label + 1
            while left:
                count = min(left, int(np.random.default_rng([seed, patient, _COUNT]).integers(1, 4)))
                for image in range(1, count + 1):
                    scan = make_example_scan(label, patient, image, seed=seed, size=size)
                    grey = Image.fromarray(np.rint(255 * scan).astype(np.uint8))
                    grey.save(folder / name / f"P{patient:04d}_{image}.png")
                bar.update(count)
                left, patient = left - count, patient + kinds
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the images and print the folder; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m monai_diffclf.data.example_scans",
        description="Six easy classes of synthetic grey scans, of nobody, as PNG files CLASS/P0001_1.png.",
    )
    parser.add_argument("folder", help="where to: a new or an empty folder")
    parser.add_argument("--images", type=int, default=1800, help="how many in all (1800)")
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels, 16 or more (64)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other patients (0)")
    options = parser.parse_args(arguments)
    try:
        folder = write_example_scans(
            options.folder, options.images, options.size, options.seed, progress=sys.stderr.isatty()
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
