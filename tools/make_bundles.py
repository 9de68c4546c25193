"""Make the shipped bundles from their settings and the template.

    python -m tools.make_bundles [--check]

Writes the configurations, ``metadata.json``, ``LICENSE`` and the copies of the patient table of each bundle that has a
``settings.json``; its documents, weights and what was fitted to these are left alone. With ``--check`` nothing is
written, and the exit code is 1 where a file differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.bundles import BUNDLES
from monai_diffclf.bundle import bundle_files, read_settings

# The one that tools.match_pneumonia_patients makes; other bundles have copies.
PATIENTS = BUNDLES / "pneumonia_xray_diffusion" / "configs" / "patients.csv"
KEPT = {"uncertainty.json", "decision.json", "patients.csv"}
WRITTEN_BY_HAND = {"docs/README.md"}


def made_files(bundle: Path) -> dict[str, bytes]:
    """What a bundle's settings make, by paths in the bundle."""
    settings = read_settings(bundle)
    files = {name: content for name, content in bundle_files(settings).items() if name not in WRITTEN_BY_HAND}
    if "known_patients" in settings.parts:
        files["configs/patients.csv"] = PATIENTS.read_bytes()
    return files


def differing(bundle: Path) -> dict[str, bytes | None]:
    """What differs from what a bundle's settings make; None for a configuration that they do not make."""
    files = made_files(bundle)
    found: dict[str, bytes | None] = {
        name: content
        for name, content in files.items()
        if not (bundle / name).is_file() or (bundle / name).read_bytes() != content
    }
    present = {f"configs/{path.name}" for path in (bundle / "configs").iterdir() if path.name not in KEPT}
    return found | dict.fromkeys(present - set(files))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a file differs")
    check = parser.parse_args().check
    count = 0
    for path in sorted(BUNDLES.glob("*/settings.json")):
        for name, content in sorted(differing(path.parent).items()):
            count += 1
            print(path.parent.relative_to(BUNDLES.parent) / name)
            if not check and content is None:
                (path.parent / name).unlink()
            elif not check and content is not None:
                (path.parent / name).write_bytes(content)
    return 1 if check and count else 0


if __name__ == "__main__":
    sys.exit(main())
