"""A server of its own for a benchmark, on two cores, with images that were made for the occasion."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.bundles import BUNDLES, ROOT

CORES = 2
PNEUMONIA, SKIN = "pneumonia_xray_diffusion", "skin_lesion_diffusion"


@dataclass(frozen=True)
class Served:
    """A running server.

    Args:
        url: its address.
        process: its process.
        temporary: where it puts temporary files.
        studies: the folder of its images.
    """

    url: str
    process: psutil.Process
    temporary: Path
    studies: Path

    def temporary_files(self) -> int:
        """How many files it has there, but for its log."""
        return sum(path.is_file() and path.suffix != ".log" for path in self.temporary.rglob("*"))

    def wait_until_scored(self) -> None:
        """Wait until nothing runs beside the requests."""
        while httpx.get(f"{self.url}/scoring/?check_if_running=true", timeout=60).status_code == 200:
            time.sleep(0.5)


def picture(size: int, seed: int, *, colour: bool = False) -> Image.Image:
    """A smooth random picture."""
    noise = np.random.default_rng(seed).normal(size=(size, size, 3 if colour else 1))
    smooth = gaussian_filter(noise, (size / 14, size / 14, 0))
    values = np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    return Image.fromarray(values if colour else values[..., 0])


@contextmanager
def served(
    pictures: Sequence[Image.Image] | Mapping[str, Image.Image],
    *bundles: str,
    cores: int = CORES,
    conf: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """Start a server of some pictures and bundles on the first cores of this process, and stop it at the end.

    Args:
        pictures: the images, by their ids where these matter.
        bundles: names of shipped bundles.
        cores: how many cores it gets.
        conf: further ``--conf`` options.
        settings: environment variables, such as MONAI Label's.
    """
    pinned = sorted(psutil.Process().cpu_affinity())[:cores]
    named = pictures if isinstance(pictures, Mapping) else {f"image{i:03d}": one for i, one in enumerate(pictures)}
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        root = Path(folder)
        (root / "studies").mkdir()
        (root / "temporary").mkdir()
        for name, one in named.items():
            one.save(root / "studies" / f"{name}.png")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        given = {"bundle": ",".join(str(BUNDLES / name) for name in bundles), **(conf or {})}
        words = [word for key, value in given.items() for word in ("--conf", key, value)]
        command = [sys.executable, "-m", "monai_diffclf.monailabel", "start_server", "--port", str(port)]
        own = {"TMPDIR": str(root / "temporary"), "OMP_NUM_THREADS": str(cores)}
        environment = {**os.environ, **own, **(settings or {})}
        with (
            open(root / "log", "wb") as log,
            subprocess.Popen(
                [*command, "--studies", str(root / "studies"), *words],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            ) as process,
        ):
            server = Served(
                f"http://127.0.0.1:{port}", psutil.Process(process.pid), root / "temporary", root / "studies"
            )
            try:
                server.process.cpu_affinity(pinned)
                _wait(server, root / "log")
                yield server
            finally:
                process.terminate()


def circumstances() -> dict[str, Any]:
    """What else the machine did, which times of the clock depend on."""
    return {
        "cores": CORES,
        "cores_of_the_machine": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "niceness": os.nice(0),
    }


def _wait(one: Served, log: Path) -> None:
    for _ in range(1200):
        try:
            httpx.get(f"{one.url}/info/", timeout=60)
            return
        except httpx.RequestError:
            if not one.process.is_running() or one.process.status() == psutil.STATUS_ZOMBIE:
                break
            time.sleep(0.2)
    raise RuntimeError(f"the server does not answer: {log.read_text()[-2000:]}")
