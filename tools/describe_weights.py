"""Write what a bundle's shipped weights are into ``models/model.json`` beside them, as a training does for its own.

    python -m tools.describe_weights bundles/pneumonia_xray_diffusion [--dataset_dir DATA]

Classes, images, network and schedule come from the bundle's ``train.json``, metric and epoch from
``docs/training/seed_0.json``, the name of the data from ``docs/results.json``. With DATA, the bundle's data set, the
images of each class are counted too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from monai_diffclf import __version__
from monai_diffclf.bundle import open_bundle
from monai_diffclf.handlers import read_results
from monai_diffclf.networks import load_weights, network_hash
from monai_diffclf.networks.weights_content import read_tensors
from monai_diffclf.storage.atomic_file import replace_text

LEFT_OUT = ("data",)


def describe(bundle: Path, dataset_dir: str | None, seed: int) -> dict[str, Any]:
    """What the JSON file says."""
    settings = {"dataset_dir": dataset_dir} if dataset_dir else {}
    config = open_bundle(bundle, "train.json", seed=seed, progress=False, **settings)
    description = config.get("model_description")
    network = config.get(description_target(config))
    network.load_state_dict(read_tensors(bundle / "models" / "model.pt"))
    trained = json.loads((bundle / "docs" / "training" / f"seed_{seed}.json").read_text())
    results = read_results(bundle / "docs" / "results.json")
    models = results["test"].values()
    training: dict[str, Any] = {
        name: config.get(f"training#{name}") for name in config.parser["training"] if name not in LEFT_OUT
    }
    training["data"] = {"name": next(iter(models))["data"]}
    if dataset_dir or "phantom" in bundle.name:
        training["data"] = config.get("images_read") | training["data"]
    return {
        **trained,
        "weights": network_hash(network),
        "package": f"monai-diffclf {__version__}",
        "model": description,
        "training": training,
    }


def description_target(config: Any) -> str:
    """Id of the network in a configuration."""
    return str(config.parser["model_description"]["network"]).removeprefix("@")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--dataset_dir", help="the bundle's data set, to count its images")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training whose weights the bundle ships")
    args = parser.parse_args()
    note = describe(args.bundle, args.dataset_dir, args.seed)
    path = args.bundle / "models" / "model.json"
    replace_text(path, json.dumps(note, indent=1) + "\n")
    config = open_bundle(args.bundle, "train.json")
    network = config.get(description_target(config))
    load_weights(network, args.bundle / "models" / "model.pt", note["model"])
    print(f"{path}: {note['weights']}, {note['metric']} {note['value']:.4f} after epoch {note['epoch']}")


if __name__ == "__main__":
    main()
