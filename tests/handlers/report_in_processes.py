"""Write a report of five images in one process and in two; helper of test_case_report.py, run as a script.

python tests/handlers/report_in_processes.py OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import ignite.distributed as idist
import torch
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.handlers import CaseReport
from monai_diffclf.inferers import DiffusionClassifierInferer


class Denoiser(torch.nn.Module):
    """Takes the images of class k for constant, k / 2."""

    def forward(self, x, timesteps, context=None, class_labels=None):
        return class_labels.reshape(-1, 1, 1, 1) / 2 + 0.01 * x


def evaluate(rank: int, path: str) -> None:
    noise = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    values = torch.tensor([0.0, 0.2, 0.24, 0.27, 0.5])
    items = [
        {"image": value + 0.05 * noise[i], "label": int(i > 2), "key": f"film {i}"} for i, value in enumerate(values)
    ]
    data = Dataset(items)
    sampler = DistributedSampler(data, shuffle=False) if idist.get_world_size() > 1 else None
    report = CaseReport(path, ["no", "yes"], max_cases=3, order_by="probability")
    DiffusionClassifierEvaluator(
        torch.device("cpu"),
        DataLoader(data, batch_size=2, sampler=sampler),
        Denoiser().eval(),
        inferer=DiffusionClassifierInferer(DDPMScheduler(100, prediction_type="sample"), num_draws=9),
        val_handlers=[report],
    ).run()


def main() -> None:
    folder = Path(sys.argv[1])
    evaluate(0, str(folder / "one.html"))
    with idist.Parallel(backend="gloo", nproc_per_node=2, start_method="fork") as parallel:
        parallel.run(evaluate, str(folder / "two.html"))


if __name__ == "__main__":
    main()
