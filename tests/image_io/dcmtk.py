"""DCMTK's rendering of DICOM files, the oracle of the grey-scale pipeline."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# dcmj2pnm also decodes JPEG, dcml2pnm JPEG-LS; none of them JPEG 2000.
PROGRAMS = ("dcm2pnm", "dcmj2pnm", "dcml2pnm")

needs_dcmtk = pytest.mark.skipif(
    any(shutil.which(program) is None for program in PROGRAMS),
    reason="DCMTK's dcm2pnm, dcmj2pnm and dcml2pnm are not installed (Debian: apt-get install dcmtk)",
)


def render(path: Path, folder: Path, *options: str) -> np.ndarray | None:
    """What DCMTK shows of all frames [frames, rows, columns] in [0, 1], 16 bits; None where it renders no grey image.

    `-O`: no overlays over the image. Which window is used is up to the options: `+Wi 1` the first window, `+Wl 1` the
    first VOI LUT, none of them the range of the stored bits.
    """
    for program in PROGRAMS:
        target = folder / program
        target.mkdir(parents=True, exist_ok=True)
        command = [program, "-q", "-O", *options, "+Fa", "+on2", str(path), str(target / "frame")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        files = sorted(target.iterdir(), key=lambda file: int(file.suffixes[-2][1:]) if len(file.suffixes) > 1 else 0)
        if done.returncode == 0 and files:
            frames = [np.asarray(Image.open(file)) for file in files]
            if frames[0].ndim == 2 and frames[0].dtype != np.uint8:
                return np.stack(frames).astype(np.float64) / 65535
            return None
    return None


def window_over(low: float, high: float) -> tuple[str, ...]:
    """The options that show `low` black and `high` white: a LINEAR window (PS3.3, C.11.2.1.2.1)."""
    return ("+Ww", repr((low + high) / 2 + 0.5), repr(high - low + 1))


def voi_options(dataset: object) -> tuple[str, ...]:
    """The options by which dcm2pnm takes the file's first VOI LUT, else its first window, else all stored bits.

    Left to itself (-W) dcm2pnm shows the largest value of b bits as 1 - 2^-b, grey for images of 1 bit.
    """
    if dataset.get("VOILUTSequence"):
        return ("+Wl", "1")
    if dataset.get("WindowCenter") not in (None, "") and dataset.get("WindowWidth") not in (None, ""):
        return ("+Wi", "1")
    if dataset.get("ModalityLUTSequence") or not dataset.get("BitsStored"):
        return ()
    bits, signed = dataset.BitsStored, dataset.get("PixelRepresentation") == 1
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if dataset.get("RescaleSlope") is not None and dataset.get("RescaleIntercept") is not None:
        ends = sorted(end * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept) for end in ends)
    return window_over(*ends)
