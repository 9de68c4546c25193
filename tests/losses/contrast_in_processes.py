"""One step of the contrastive loss in one of some processes, each with its own images: FOLDER RANK PROCESSES.

With ``overflow`` behind them, a batch comes first in which the second process has an infinite error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.losses.test_class_contrastive import make, make_prediction, make_targets


def main(folder: Path, rank: int, processes: int, overflow: bool = False) -> None:
    if processes > 1:
        store = f"file://{folder}/store"
        torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=processes)
    loss = make()
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    parts = [make_targets(12, seed=seed) for seed in ([rank] if processes > 1 else [0, 1])]
    seeds = [rank] if processes > 1 else [0, 1]
    prediction = torch.cat([make_prediction(part, seed=seed + 5) for part, seed in zip(parts, seeds, strict=True)])
    rows = len(parts[0]["target"])
    targets = {
        name: torch.cat(
            [part[name] + (n * rows if name in ("own", "contrasted") else 0) for n, part in enumerate(parts)]
        )
        for name in parts[0]
    }
    if overflow:
        loss(prediction.detach() * (torch.inf if rank else 1.0), targets)
    loss(prediction, targets).backward()
    gradient = loss.log_scale.grad.clone()
    optimizer.step()
    torch.save({"state": loss.state_dict(), "gradient": gradient}, folder / f"rank_{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "overflow" in sys.argv)
