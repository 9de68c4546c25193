# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``python -m monai_diffclf.deploy.package FOLDER --bundle NAME``: what MONAI Deploy makes a container of."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from .. import __version__
from .._text_path import text_path
from ..bundle import find_bundle
from ..data.file_tree import check_new_folder
from ..storage.atomic_file import replace_text

__all__ = ["package_command", "write_package"]

_PACKAGE = Path(__file__).resolve().parents[1]
_LEFT_OUT = ("__pycache__", "_shipped")
_OF_BUNDLE = ("configs", "models", "docs")

_MAIN = '''"""The application; started by the container."""

from monai_diffclf.deploy.application import application_class

if __name__ == "__main__":
    application_class()().run()
'''

_CONFIG = """# Application configuration of the packager (MONAI Application Package).
application:
  title: {title}
  version: {version}
  input-formats: ["file"]
  output-formats: ["file"]

resources:
  cpu: 1
  gpu: {gpus}
  memory: 4Gi
  gpuMemory: {gpu_memory}
"""


def write_package(folder: Path, bundle: str, *, gpu: bool = True) -> Path:
    """Write a folder that holds all of an application but the packages that are installed from an index.

    - ``app``: ``__main__.py``, ``requirements.txt``, and this package itself, as it is on no index.
    - ``app.yaml``: the packager's configuration.
    - ``models/NAME``: the bundle's configuration, weights and documents.

    Args:
        folder: a new folder.
        bundle: folder or name of the bundle.
        gpu: whether the container asks for a GPU.

    Returns:
        the folder.

    Raises:
        ValueError: when the folder is not new, or the bundle has no weights.
    """
    source = find_bundle(bundle)
    if not (source / "models" / "model.pt").is_file():
        raise ValueError(f"bundle: expected one with weights, models/model.pt, got {source.name}; train it first")
    check_new_folder(folder)
    config = {"gpus": int(gpu), "gpu_memory": "4Gi" if gpu else "0Gi"}
    title = json.dumps(f"{source.name}, a diffusion classifier; not a medical device")
    replace_text(folder / "app" / "__main__.py", _MAIN)
    replace_text(folder / "app" / "requirements.txt", "\n".join(_requirements()) + "\n")
    replace_text(folder / "app.yaml", _CONFIG.format(title=title, version=__version__, **config))
    shutil.copytree(_PACKAGE, folder / "app" / _PACKAGE.name, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    for name in _OF_BUNDLE:
        if (source / name).is_dir():
            ignored = shutil.ignore_patterns("evaluation", "training")  # stored errors: many times as large as the rest
            shutil.copytree(source / name, folder / "models" / source.name / name, ignore=ignored)
    return folder


def package_command(folder: Path) -> str:
    """The packager's command for a folder of `write_package`; it needs Docker."""
    (model,) = (folder / "models").iterdir()
    words = ["holoscan", "package", str(folder / "app"), "--config", str(folder / "app.yaml")]
    words += ["--models", str(folder / "models"), "--sdk", "monai-deploy", "--platform", "x86_64"]
    return shlex.join([*words, "--tag", f"{model.name}:{__version__}"])


def _requirements() -> list[str]:
    """What this package needs, and what writes DICOM; the SDK itself is installed by the packager."""
    needed = metadata.requires("monai-diffclf") or []
    return [*(one for one in needed if "extra ==" not in one), "highdicom>=0.27"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder and print the packager's command."""
    parser = argparse.ArgumentParser(prog="python -m monai_diffclf.deploy.package", description=__doc__)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--bundle", required=True, help="folder or name of the bundle")
    parser.add_argument("--no-gpu", action="store_true", help="the container asks for no GPU")
    args = parser.parse_args(arguments)
    try:
        folder = write_package(text_path(args.folder, "folder"), args.bundle, gpu=not args.no_gpu)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(package_command(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
