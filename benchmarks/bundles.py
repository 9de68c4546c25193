"""Where the bundles and the results lie, and how benchmarks and tools read a bundle's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

import monai_diffclf.networks.schedulers  # noqa: F401  (registers the noise schedules that configurations name)

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ROOT / "bundles"
RESULTS = ROOT / "benchmarks" / "results"


def read_config(bundle: Path, *names: str, **settings: Any) -> ConfigParser:
    """The configuration of a bundle, set as ``python -m monai.bundle run`` sets it from anywhere.

    Args:
        bundle: folder of the bundle.
        names: files of its folder ``configs``; what a later one says holds. By default ``train.json``.
        settings: what is to be set otherwise, such as ``dataset_dir``.
    """
    config = ConfigParser()
    config.read_config([str(bundle / "configs" / name) for name in names or ("train.json",)])
    config.update({"bundle_root": str(bundle), **settings})
    return config
