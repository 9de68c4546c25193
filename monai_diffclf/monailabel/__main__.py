# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``python -m monai_diffclf.monailabel start_server --studies FOLDER``: MONAI Label's command with this app."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance
from monailabel.main import Main
from monailabel.utils.others.generic import init_log_config

from .options import ServerOptions

SERVER = "monai_diffclf.monailabel.server:app"
GRACE = 5  # seconds that requests have to end when the server is stopped


class LocalMain(Main):
    """MONAI Label's command line with other defaults: this app, and a server that only this machine can reach.

    MONAI Label listens on all interfaces by default, and runs code from the folder that it also writes to. Here the
    app's code stays in the package, and what is written goes elsewhere.

    Args:
        work_dir: folder for the log and all temporary files.
    """

    def __init__(self, work_dir: str) -> None:
        super().__init__(actions="start_server")
        self.work_dir = work_dir

    def args_start_server(self, parser: Any) -> None:
        """Add the options of ``start_server``."""
        super().args_start_server(parser)
        parser.set_defaults(app=str(Path(__file__).parent), host="127.0.0.1", uvicorn_app=SERVER)

    def action_start_server(self, args: Any) -> None:
        """Start the server.

        Raises:
            ValueError: when an option is not as expected, or others could reach the server without a token.
        """
        conf = dict(args.conf or [])
        ServerOptions.from_conf(conf).check_host(args.host, login=settings.MONAI_LABEL_AUTH_ENABLE)
        _check_args(args)
        self.start_server_validate_args(args)
        settings.MONAI_LABEL_SERVER_PORT, settings.MONAI_LABEL_APP_CONF = args.port, conf
        settings.MONAI_LABEL_APP_DIR, settings.MONAI_LABEL_STUDIES = args.app, args.studies
        log_config = init_log_config(args.log_config, self.work_dir, "app.log", args.verbose)
        app_instance()  # what is wrong with bundle or studies is said before anything listens
        if args.dryrun:
            return
        uvicorn.run(
            args.uvicorn_app,
            host=args.host,
            port=args.port,
            root_path=args.root_path,
            log_level=args.log_level,
            log_config=log_config,
            access_log=args.access_log,
            ssl_keyfile=args.ssl_keyfile,
            ssl_certfile=args.ssl_certfile,
            ssl_keyfile_password=args.ssl_keyfile_password,
            ssl_ca_certs=args.ssl_ca_certs,
            limit_concurrency=args.limit_concurrency,
            timeout_graceful_shutdown=GRACE,
        )


def main() -> None:
    """Run the command line of `sys.argv`."""
    # Without this the temporary folder would outlive a server that is stopped by a signal.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="monai_diffclf_monailabel_") as folder:
        tempfile.tempdir = folder  # uploads and maps of this process
        try:
            LocalMain(folder).run()
        except (ValueError, TypeError, RuntimeError) as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            sys.exit(2)
        finally:
            tempfile.tempdir = None


def _check_args(args: Any) -> None:
    if args.uvicorn_app != SERVER:
        raise ValueError(f"uvicorn_app: expected {SERVER}, which checks what clients send, got {args.uvicorn_app!r}")
    if (args.workers or 1) > 1:
        raise ValueError(f"workers: expected 1, as the model is loaded once, got {args.workers}")
    if not args.studies:
        raise ValueError("studies: expected a folder of images; add --studies FOLDER")
    if not args.studies.startswith(("http://", "https://")) and not os.path.isdir(args.studies):
        raise ValueError(f"studies: expected a folder of images, but there is none at {args.studies!r}")


if __name__ == "__main__":
    main()
