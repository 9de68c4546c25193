# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf label-client``: ask a running MONAI Label server what it makes of an image."""

from __future__ import annotations

import click

from ..monailabel.label_client import ask_server, describe_reply
from .results import command_options, finish

__all__ = ["command"]


@click.command("label-client")
@click.argument("url")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--model", metavar="NAME", help="The model to ask; default: the server's first classifier.")
@click.option("--token-file", metavar="FILE", help="File with the server's token, which only you can read.")
@command_options
def command(url: str, file: str, model: str | None, token_file: str | None, progress: bool, debug: bool) -> None:
    """Ask a running MONAI Label server what it makes of an image.

    URL is the address of a server that python -m monai_diffclf.monailabel started, such as http://127.0.0.1:8000.
    Printed are the class, its probability, and how sure that is; with --json the whole reply.
    """
    reply = ask_server(url, file, model=model, token_file=token_file)
    finish(reply, describe_reply(reply))
