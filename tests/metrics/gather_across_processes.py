"""Evaluate seven images in one process, and in two; helper of test_cumulative.py, run as a script.

    python tests/metrics/gather_across_processes.py FOLDER [padded]

Padded, the sampler gives an image out twice, so that both processes have as many.

Each evaluation is a process of its own, forked here so that all of them share one import of MONAI.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from pathlib import Path

IMAGES, CLASSES, DRAWS = 7, 2, 6


def make_items() -> list[dict]:
    """Images that hold their own probability of class 1 and their errors."""
    import torch

    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(IMAGES, generator=generator)
    errors = 5 + torch.rand(IMAGES, CLASSES, DRAWS, generator=generator)
    return [
        {"image": torch.cat([p[None], e.flatten()])[None], "label": i % 2, "key": f"{i}"}
        for i, (p, e) in enumerate(zip(probabilities, errors, strict=True))
    ]


def fit():
    import torch

    from monai_diffclf.classification import DenoisingErrors
    from monai_diffclf.uncertainty import fit_typicality

    values = torch.rand(40, CLASSES, DRAWS, generator=torch.Generator().manual_seed(1)) + 1
    return fit_typicality(DenoisingErrors(values, torch.arange(DRAWS), torch.linspace(3, -3, DRAWS)), num_bands=2)


def unpack(item: dict) -> dict:
    """From what the network gave: probabilities, sets and errors."""
    import torch

    p = item["pred"][0]
    return {
        **item,
        "pred": torch.stack([1 - p, p]),
        "prediction_set": torch.tensor([p < 0.7, p > 0.3]),
        "errors": item["pred"][1:].reshape(CLASSES, DRAWS),
    }


def evaluate(folder: Path, rank: int, processes: int, padded: bool) -> None:
    import torch
    from monai.data import DataLoader, Dataset, DistributedSampler
    from monai.engines import SupervisedEvaluator

    from monai_diffclf.handlers import ShiftWarning, SubgroupReport, uncertainty_metrics

    dataset, sampler = Dataset(make_items()), None
    if processes > 1:
        store = f"file://{folder}/store"
        torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=processes)
        sampler = DistributedSampler(dataset, even_divisible=padded, shuffle=False)
    shift = ShiftWarning(fit())
    report = SubgroupReport(
        folder / f"subgroups_{processes}.csv", folder / "table.csv", ["site"], min_images=3, num_resamples=20
    )
    metrics = uncertainty_metrics(prediction_set="prediction_set")
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(dataset, batch_size=2, sampler=sampler),
        torch.nn.Flatten(),
        postprocessing=unpack,
        key_val_metric={"brier": metrics.pop("brier_score")},
        additional_metrics=metrics,
        val_handlers=[shift, report],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluator.run()
    content = {
        "metrics": evaluator.state.metrics,
        "shift": [shift.result.p_value, shift.result.statistic, shift.result.num_images],
        "warnings": sum("denoising errors" in str(warning.message) for warning in caught),
    }
    (folder / f"{processes}_{rank}.json").write_text(json.dumps(content))


def main() -> None:
    folder, padded = Path(sys.argv[1]), sys.argv[2:] == ["padded"]
    import torch
    from monai import engines  # noqa: F401 (what every evaluation imports, once for all)

    import monai_diffclf.handlers  # noqa: F401

    torch.set_num_threads(1)
    (folder / "table.csv").write_text("key,site\n" + "".join(f"{i},{'AB'[i % 3 == 0]}\n" for i in range(IMAGES)))
    children = []
    for processes in (1, 2):
        for rank in range(processes):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    evaluate(folder, rank, processes, padded)
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main()
