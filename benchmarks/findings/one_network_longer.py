"""One network of findings beside a network for each, both trained as long as the shipped bundle.

    python -m benchmarks.findings.one_network_longer --work FOLDER [--output benchmarks/results/one_network_longer.json]

Written before any of its networks was trained and before its test phantoms were drawn. In 600 steps
(`benchmarks.findings.one_network`) one network is behind separate ones; here each has 6,000 steps:

- ``one``: the weights of the bundle phantom_findings_diffusion after 6,000 steps (48 epochs) on its 8,000 training
  phantoms, known by their hash (`ONE`); the bundle was trained on after that, so they are in the project's history.
- ``separate``: a network for each finding on those of the same phantoms of which it is known, 6,000 steps each, by
  `benchmarks.findings.one_network.train`, whose recipe is the bundle's (batches of 64, mirrored at random, AdamW at
  1e-3 with warm-up and cosine, contrastive term, average of the weights). So twice the training of ``one`` in all.

Test: 2,000 phantoms of seed 24, correlation .4, drawn after the last training. All by the mean error of 25 draws,
weighting min_snr, seed 0. AUC of each finding, and its difference to ``one`` with a 95 % interval of 2,000 paired
resamples of the images. To reach: ``one`` not below ``separate`` by more than .01 for each finding (the difference
itself; the interval says how sure it is), at half the steps. With a result file the program refuses to run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.bundles import BUNDLES, RESULTS
from benchmarks.findings.one_network import CORRELATION, UNKNOWN, judge, load, log_odds, make_network, train
from benchmarks.schedule import make_scheduler
from monai_diffclf.bundle import open_bundle
from monai_diffclf.data.phantom_findings import FINDINGS
from monai_diffclf.inferers import DiffusionClassifierInferer, MultiLabelClassifierInferer
from monai_diffclf.networks import load_weights, network_hash
from monai_diffclf.storage.atomic_file import replace_text, replaced

BUNDLE = BUNDLES / "phantom_findings_diffusion"
TRAIN, TEST, STEPS, DRAWS, WITHIN = (8000, 10), (2000, 24), 6000, 25, 0.01
ONE = "49e7f907e2d145fa"


def separate_network(number: int, work: Path) -> tuple[torch.nn.Module, float]:
    """The network of one finding, trained or read from FOLDER, and the seconds of processor time it took."""
    kept = work / f"separate_{number}.pt"
    if not kept.exists():
        images, labels = load(*TRAIN, UNKNOWN)
        known = labels[:, number] != 2
        network, seconds = train(images[known], labels[known, number], STEPS, FINDINGS[number], num_classes=2)
        with replaced(kept) as partial:
            torch.save({"network": network.state_dict(), "seconds": seconds}, partial)
    stored = torch.load(kept, weights_only=True)
    network = make_network(2)
    network.load_state_dict(stored["network"])
    return network.eval(), float(stored["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="keeps the trained networks")
    parser.add_argument("--weights", type=Path, default=BUNDLE / "models" / "model.pt", help="of one network")
    parser.add_argument("--output", type=Path, default=RESULTS / "one_network_longer.json")
    args = parser.parse_args()
    if args.output.exists():
        raise SystemExit(f"{args.output} is there: the test phantoms were opened already")
    args.work.mkdir(parents=True, exist_ok=True)
    trained = [separate_network(number, args.work) for number in range(len(FINDINGS))]
    bundle = open_bundle(BUNDLE, "train.json", progress=False)
    one = load_weights(bundle.get("denoiser"), args.weights).eval()
    if network_hash(one) != ONE:
        raise SystemExit(f"weights: expected the network {ONE}, got {network_hash(one)}; name its file")

    settings: dict[str, Any] = {"num_draws": DRAWS, "rule": "mean", "weighting": "min_snr", "batch_size": 256}
    together = MultiLabelClassifierInferer(make_scheduler(), num_findings=len(FINDINGS), **settings)
    apart = DiffusionClassifierInferer(make_scheduler(), 2, **settings)
    images, labels = load(*TEST, 0.0)
    scores: dict[str, list[torch.Tensor]] = {"one": [], "separate": []}
    for part in tqdm(images.split(50), "test", mininterval=5):
        each = log_odds(together.classify(part, one).mean_error)
        scores["one"].append(each[..., 1] - each[..., 0])
        each = torch.stack([log_odds(apart.classify(part, network).mean_error) for network, _ in trained], 1)
        scores["separate"].append(each[..., 1] - each[..., 0])
    result = judge(labels.numpy(), {way: torch.cat(parts).numpy() for way, parts in scores.items()})
    result["one"] |= {"steps": STEPS}
    result["separate"] |= {"steps": STEPS * len(FINDINGS), "training_cpu_seconds": [round(s, 1) for _, s in trained]}
    result["within"] = {name: result["separate"][name]["less_one"]["value"] <= WITHIN for name in FINDINGS}
    about = {"train": TRAIN, "test": TEST, "correlation": CORRELATION, "unknown": UNKNOWN, "draws": DRAWS}
    about |= {"seed": 0, "one": network_hash(one)}
    replace_text(args.output, json.dumps({"about": about, **result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
