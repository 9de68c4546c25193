# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``python -m monai_diffclf.monailabel start_server --studies FOLDER``: MONAI Label's command with this app."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from monailabel.main import Main
from monailabel.utils.async_tasks.utils import background_executors, stop_background_task


class LocalMain(Main):
    """MONAI Label's command line with other defaults: this app, and a server that only this machine can reach.

    MONAI Label listens on all interfaces by default, allows requests from any web page, and opens any path of the
    server that a request names.

    Args:
        app_dir: folder with ``main.py``.
    """

    def __init__(self, app_dir: str) -> None:
        super().__init__(actions="start_server")
        self.app_dir = app_dir

    def args_start_server(self, parser: Any) -> None:
        """Add the options of ``start_server``."""
        super().args_start_server(parser)
        parser.set_defaults(app=self.app_dir, host="127.0.0.1", uvicorn_app="monai_diffclf.monailabel.server:app")


def main() -> None:
    """Run the command line of `sys.argv`."""
    # Without this the temporary folder would outlive a server that is stopped by a signal.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # MONAI Label makes folders for models and logs in the app's folder, which must not be that of the package.
    with tempfile.TemporaryDirectory(prefix="monai_diffclf_monailabel_") as folder:
        shutil.copy(Path(__file__).with_name("main.py"), folder)
        try:
            LocalMain(folder).run()
        finally:
            _stop_scoring()


def _stop_scoring() -> None:
    """End the process that scores images, which the server would wait for."""
    if executor := background_executors.get("scoring"):
        executor.shutdown(wait=False, cancel_futures=True)
    with contextlib.suppress(psutil.NoSuchProcess):  # it may end by itself in this moment
        stop_background_task("scoring")


if __name__ == "__main__":
    main()
