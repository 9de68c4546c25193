"""The bundle phantom_findings_diffusion on its test phantoms, opened once.

    python -m benchmarks.findings.bundle_test

Written before the test phantoms (seed 15, 1,000 of them, correlation .4) are drawn: the shipped weights and settings,
the temperature among them, which the validation phantoms alone have set, classify them as they are, by the mean error
of 25 draws under the weighting of the bundle. AUC of each finding with a 95 % interval from 2,000 resamples of the
images. On the first 200 that show exactly one finding: the share whose strongest point of the finding's map lies on its
mask, widened by two pixels (`pointing`), and how strong the map of the absent finding is there, as a share of that
(`at_the_other`, median). With a result file the program refuses to run.

Two sets were opened before: seed 13 by weights of 16 epochs (``findings_bundle_16_epochs.json``), seed 14 by weights
of 48 (``findings_bundle_48_epochs.json``). As their figures led to longer trainings, each is judged on others.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from benchmarks.bundles import RESULTS
from monai_diffclf.bundle import open_bundle
from monai_diffclf.data import make_findings_phantoms
from monai_diffclf.metrics import bootstrap_interval, roc_auc
from monai_diffclf.storage.atomic_file import replace_text

Rows = list[dict[str, Any]]

NAME, SEED, COUNT, MAPS, NEAR = "phantom_findings_diffusion", 15, 1000, 200, 2
OUTPUT = RESULTS / "findings_bundle.json"


def main() -> None:
    if OUTPUT.exists():
        raise SystemExit(f"{OUTPUT} is there: the test phantoms were opened already")
    bundle = open_bundle(NAME, device="cpu")
    phantoms = make_findings_phantoms(COUNT, seed=SEED, correlation=0.4)
    images = torch.stack([torch.as_tensor(each["image"]) for each in phantoms]) * 2 - 1
    truth = np.stack([each["truth"] for each in phantoms])
    found = torch.cat([bundle.classify(part).probabilities for part in images.split(100)]).double().numpy()
    findings: dict[str, Any] = {}
    for number, name in enumerate(bundle.classes):
        interval = bootstrap_interval(roc_auc, truth[:, number], found[:, number])
        findings[name] = {"auc": {"value": interval.value, "low": interval.low, "high": interval.high}}
        findings[name]["images_with_it"] = int(truth[:, number].sum())
    for number, pair in enumerate(pointing(bundle, phantoms, images, truth)):
        findings[bundle.classes[number]] |= pair
    about = {"seed": SEED, "images": COUNT, "draws": bundle.inferer.num_draws, "maps_of": MAPS, "pixels_beside": NEAR}
    replace_text(OUTPUT, json.dumps({"about": about, "findings": findings}, indent=1) + "\n")
    print(OUTPUT)


def pointing(bundle: Any, phantoms: Rows, images: torch.Tensor, truth: NDArray[np.int64]) -> Rows:
    """Of each finding: whether its map points at it, and what the other finding's map says there."""
    alone = np.flatnonzero(truth.sum(1) == 1)[:MAPS]
    result = bundle.classify(images[torch.as_tensor(alone)], error_maps=True)
    maps = result.finding_maps.numpy()
    measured = []
    for number in range(truth.shape[1]):
        hits, leaks = [], []
        for row, place in enumerate(alone):
            if not truth[place, number]:
                continue
            mask = binary_dilation(phantoms[place]["mask"][number] > 0, iterations=NEAR)
            own, other = maps[row, number], maps[row, 1 - number]
            hits.append(bool(mask.flat[own.argmax()]))
            leaks.append(float(other[mask].mean() / max(own[mask].mean(), 1e-12)))
        measured.append({"pointing": float(np.mean(hits)), "at_the_other": float(np.median(leaks)), "maps": len(hits)})
    return measured


if __name__ == "__main__":
    main()
