"""How much memory the evaluation of a large data set takes: images made one by one, journal kept, all files written.

    python -m benchmarks.speed.peak_memory [--images 10000] [--draws 2] [--size 64]

Printed is one JSON object with the highest resident memory of the process, in bytes. The network is tiny and the draws
are few: what is measured is what grows with the number of images. ``--draws 1000`` shows the errors' own share, 8 bytes
an image and draw for two classes (80 MB for 10,000 images), which are held twice while the files are written.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch
from monai.data import DataLoader
from monai.networks.schedulers import DDPMScheduler
from torch.utils.data import Dataset

from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.handlers import ErrorsSaver
from monai_diffclf.inferers import DiffusionClassifierInferer


class Images(Dataset[dict[str, object]]):
    """Random images, made when they are asked for."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, object]:
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(1, self.size, self.size, generator=generator) * 2 - 1
        return {"image": image, "label": index % 2, "key": f"image_{index:07d}"}


class Denoiser(torch.nn.Module):
    """One convolution and a level for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 1, 3, padding=1)
        self.level = torch.nn.Embedding(3, 1)

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, class_labels: torch.Tensor) -> torch.Tensor:
        """Predict the noise."""
        noise: torch.Tensor = self.convolution(x) + self.level(class_labels)[:, :, None, None]
        return noise


def evaluate(folder: Path, images: int, draws: int, size: int) -> None:
    """Evaluate and write everything into a folder."""
    torch.manual_seed(0)
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000), num_draws=draws)
    saver = ErrorsSaver(folder, inferer, folder / "results.json", split="test", data="random", num_resamples=20)
    DiffusionClassifierEvaluator(
        torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        DataLoader(Images(images, size), batch_size=16),
        Denoiser().eval(),
        inferer=inferer,
        explain=False,
        journal_dir=folder / "journal",
        val_handlers=[saver],
    ).run()


def peak_bytes() -> int:
    """Highest resident memory of this program: Linux says it of the program, not of what had started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 10_000), ("draws", 2), ("size", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        evaluate(Path(folder), args.images, args.draws, args.size)
    peak = peak_bytes()
    print(json.dumps({**vars(args), "peak_bytes": peak, "seconds": round(time.perf_counter() - start, 1)}))


if __name__ == "__main__":
    main()
