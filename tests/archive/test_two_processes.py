"""Two processes on one folder: the files of an undisturbed run, or a refusal; see `tests.archive.two_processes`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_processes_killed_at_random():
    # In a process without threads, which forks.
    command = [sys.executable, "-m", "tests.archive.two_processes", "--trials", "5", "--seed", "100"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert '"as_undisturbed_or_refused": 5' in done.stdout
