"""The memory of an evaluation does not grow with the data set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def peak(images: int) -> int:
    """Highest resident memory of an evaluation, in bytes; a process of its own, as the peak is that of its life."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.peak_memory", f"--images={images}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)["peak_bytes"]


@pytest.mark.slow  # minutes
def test_ten_thousand_images_need_no_more_memory_than_five_thousand():
    half, whole = peak(5_000), peak(10_000)
    assert whole < 2e9
    # An image of 64 x 64 float32 has 16 kB: keeping 5,000 of them would take 82 MB.
    assert whole - half < 40e6
