"""Write a bundle's predictions and results anew from its stored errors, without a network evaluation.

    python tools/recompute_results.py --bundle bundles/pneumonia_xray_diffusion

Uses the weighting and temperature of the bundle's ``configs/evaluate.json`` and its decision: the most probable class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from monai.bundle import ConfigParser

import monai_diffclf.networks.schedulers  # noqa: F401  (registers the noise schedule)
from monai_diffclf.data import load_errors
from monai_diffclf.handlers import ErrorsSaver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    bundle = parser.parse_args().bundle
    config = ConfigParser()
    config.read_config([str(bundle / "configs" / name) for name in ("train.json", "evaluate.json")])
    config["bundle_root"] = str(bundle)
    folder = Path(config.get_parsed_content("evaluation_dir"))
    for split in ("validation", "test"):
        for path in sorted(folder.glob(f"errors_{split}_seed_*.npz")):
            stored = load_errors(path)
            config["num_draws"] = stored.errors.num_draws
            saver = ErrorsSaver(
                folder,
                config.get_parsed_content("evaluate#inferer"),
                config.get_parsed_content("results_path"),
                split=split,
                data=config.get_parsed_content("data_name"),
                seed=int(path.stem.rsplit("_", 1)[1]),
                threshold=0.5,
                commit_root=bundle,
            )
            saver.save(stored.errors, stored.labels, stored.keys, stored.patients)
            print(f"{split} seed {saver.seed}: {len(stored.keys)} images, {stored.errors.num_draws} draws")


if __name__ == "__main__":
    main()
