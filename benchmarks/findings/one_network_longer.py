"""One network of findings beside a network for each, both trained as long as the shipped bundle.

    python -m benchmarks.findings.one_network_longer --work FOLDER [--output benchmarks/results/one_network_longer.json]

Written before its network of all findings was trained and before its test phantoms were drawn. In 600 steps
(`benchmarks.findings.one_network`) one network is behind separate ones; here each has 6,000 steps on 8,000 phantoms
(seed 10), of whose labels a tenth is unknown, by `benchmarks.findings.one_network.train`:

- ``one``: one network, states of both findings, each hidden in three quarters of the images.
- ``separate``: a network for each finding on those of the same phantoms of which it is known. So twice the training of
  ``one`` in all.

It was run before with the bundle's weights after as many steps as ``one``, for which each finding was hidden in half of
the images and hidden ones were not asked about (test seed 24, ``one_network_longer_dropped_not_asked.json``). That was
changed by what 1,000 phantoms of seed 30 said after 1,000 steps, which test nothing. The separate networks are the same
as then, so the earlier result is known; the test phantoms are new.

After it, it was run once more with a scale of the contrastive term for each finding in place of one for both (test seed
27, ``one_network_longer_own_scales.json``): the nodule as before, the effusion farther behind. On 2,000 phantoms of
seed 31, which test nothing, the effusion was worse by that, too; it was taken out again.

Test: 2,000 phantoms of seed 25, correlation .4, drawn after the last training. All by the mean error of 25 draws,
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

from benchmarks.bundles import RESULTS
from benchmarks.findings.one_network import CORRELATION, UNKNOWN, judge, load, log_odds, make_network, train
from benchmarks.schedule import make_scheduler
from monai_diffclf.data.phantom_findings import FINDINGS
from monai_diffclf.inferers import DiffusionClassifierInferer, MultiLabelClassifierInferer
from monai_diffclf.storage.atomic_file import replace_text, replaced

TRAIN, TEST, STEPS, DRAWS, WITHIN = (8000, 10), (2000, 25), 6000, 25, 0.01


def trained_network(name: str, work: Path) -> tuple[torch.nn.Module, float]:
    """The network ``one`` or that of a finding, trained or read from a folder, and the CPU time it took in seconds."""
    number = None if name == "one" else FINDINGS.index(name)
    kept = work / ("one.pt" if number is None else f"separate_{number}.pt")
    if not kept.exists():
        images, labels = load(*TRAIN, UNKNOWN)
        if number is None:
            network, seconds = train(images, labels, STEPS, name, num_findings=len(FINDINGS))
        else:
            known = labels[:, number] != 2
            network, seconds = train(images[known], labels[known, number], STEPS, name, num_classes=2)
        with replaced(kept) as partial:
            torch.save({"network": network.state_dict(), "seconds": seconds}, partial)
    stored = torch.load(kept, weights_only=True)
    network = make_network(None if number is None else 2)
    network.load_state_dict(stored["network"])
    return network.eval(), float(stored["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="keeps the trained networks")
    parser.add_argument("--output", type=Path, default=RESULTS / "one_network_longer.json")
    args = parser.parse_args()
    if args.output.exists():
        raise SystemExit(f"{args.output} is there: the test phantoms were opened already")
    args.work.mkdir(parents=True, exist_ok=True)
    one, seconds = trained_network("one", args.work)
    trained = [trained_network(name, args.work) for name in FINDINGS]

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
    result["one"] |= {"steps": STEPS, "training_cpu_seconds": round(seconds, 1)}
    result["separate"] |= {
        "steps": STEPS * len(FINDINGS),
        "training_cpu_seconds": [round(each, 1) for _, each in trained],
    }
    result["within"] = {name: result["separate"][name]["less_one"]["value"] <= WITHIN for name in FINDINGS}
    about = {"train": TRAIN, "test": TEST, "correlation": CORRELATION, "unknown": UNKNOWN, "draws": DRAWS, "seed": 0}
    replace_text(args.output, json.dumps({"about": about, **result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
