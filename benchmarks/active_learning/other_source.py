"""The chest X-rays of Kermany et al. as another source would give them, and which of them a trial may use.

No test image is read. What the served model was trained on is left out, too: its images are the official training set
less the patients held out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.evidence.data import Images
from monai_diffclf.data.kermany_cxr import patient_of
from monai_diffclf.data.pneumonia_mnist import is_held_out
from monai_diffclf.data.table_rows import read_rows

HELD_OUT = 0.1  # of the patients, as in the bundle pneumonia_xray_diffusion


def parts(root: Path) -> dict[str, Images]:
    """Images 224 x 224 of patients of whom the model has seen something (``development``), and of others (``final``).

    - ``development``: images of the official validation set whose patients have other images in the training.
    - ``final``: the other images of the official validation set, and the training images of the patients held out.
      These have chosen the epoch of the served weights, so that its AUC before may be a little too good.

    Args:
        root: folder with ``labels.csv`` and the images.
    """
    rows = read_rows(root / "labels.csv", ("file", "label", "split"))
    known = [(row["file"], int(row["label"]), patient_of(Path(row["file"]).stem), row["split"]) for row in rows]
    known = [each for each in known if each[3] in ("train", "val")]
    trained = {patient for _, _, patient, split in known if split == "train" and not is_held_out(patient, HELD_OUT)}
    chosen = {
        "development": [each for each in known if each[3] == "val" and each[2] in trained],
        "final": [each for each in known if each[2] not in trained],
    }
    return {name: _read(root, sorted(found)) for name, found in chosen.items()}


def as_other_source(pixels: NDArray[np.uint8], *, radius: float, share: float, gain: float) -> NDArray[np.uint8]:
    """An X-ray as a console with unsharp masking would show it.

    A share of what is broad is taken away, x - share (gaussian(x) - 1/2), and the contrast about 1/2 raised by gain.

    Args:
        pixels: [H, W], 0 to 255.
        radius: standard deviation of the Gaussian, in pixels.
        share: how much of the broad part goes, 0 to 1.
        gain: of the contrast.

    Example:
        >>> flat = np.full((8, 8), 204, np.uint8)
        >>> int(as_other_source(flat, radius=2, share=0.5, gain=1)[0, 0])  # 0.8 - 0.5 (0.8 - 0.5) of 255
        166
    """
    image = pixels / 255
    broad = gaussian_filter(image, radius, mode="nearest")
    changed = 0.5 + gain * (image - share * (broad - 0.5) - 0.5)
    found: NDArray[np.uint8] = np.rint(255 * np.clip(changed, 0, 1)).astype(np.uint8)
    return found


def _read(root: Path, rows: list[tuple[str, int, str, str]]) -> Images:
    pixels = []
    for name, *_ in rows:
        with Image.open(root / name) as image:
            pixels.append(np.asarray(image.convert("L")))
    return Images(
        np.stack(pixels)[..., None],
        np.asarray([label for _, label, _, _ in rows], dtype=np.int64),
        np.asarray([name for name, *_ in rows]),
        np.asarray([patient for _, _, patient, _ in rows]),
    )
