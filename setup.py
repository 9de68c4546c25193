"""Build step beside pyproject.toml: bundles with weights travel in the wheel, as ``monai_diffclf/_shipped/NAME``."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = Path("monai_diffclf") / "_shipped"
# Not docs/evaluation and docs/training: stored errors and tables are many times as large as the rest.
_PATTERNS = ("LICENSE", "*.json", "configs/*", "models/*", "docs/*.md")


def shipped_files(root: Path = ROOT) -> dict[Path, Path]:
    """Files that travel: place in the wheel -> file of the project; of bundles that have weights."""
    files = {}
    for bundle in sorted((root / "bundles").iterdir()):
        if (bundle / "models" / "model.pt").is_file() and (bundle / "configs" / "metadata.json").is_file():
            found = sorted({path for pattern in _PATTERNS for path in bundle.glob(pattern) if path.is_file()})
            files.update({SHIPPED / path.relative_to(root / "bundles"): path for path in found})
    return files


class BuildWithBundles(build_py):
    """Copies the bundles beside the package's modules; an editable installation finds them in the checkout."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            for place, path in shipped_files().items():
                target = Path(self.build_lib) / place
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files that are built."""
        more = [] if self.editable_mode else [str(Path(self.build_lib) / place) for place in shipped_files()]
        return [*super().get_outputs(include_bytecode), *more]


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithBundles})
