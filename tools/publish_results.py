"""Make the figures of a run a bundle's own: tables, errors and results go from the run's folder to ``docs``.

    python -m tools.publish_results bundles/pneumonia_xray_diffusion --run bundles/pneumonia_xray_diffusion/runs/seed_0

An evaluation writes into the run's folder only. This takes what it wrote there (``evaluation`` or ``predictions`` and
``results.json``), merges it into the bundle's ``docs/results.json``, whose other seeds stay, and copies the tables, the
stored errors and, as ``docs/training/seed_N.json``, what the weights say of themselves. Results on other images than
those that ``docs`` holds are refused without ``--replace``, as they would take their place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from monai_diffclf.handlers.publish import publish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, which holds results.json")
    parser.add_argument("--replace", action="store_true", help="drop results of other images or draws")
    args = parser.parse_args()
    try:
        print("\n".join(publish(args.bundle, args.run, replace=args.replace)))
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
