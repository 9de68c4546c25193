# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ask a running server of this app what it makes of an image file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from .._optional import require
from .._text import printable
from .options import is_loopback, read_token

__all__ = ["ask_server", "describe_reply"]

SECONDS = 600  # to wait for an answer: the server stops by itself what takes longer than it allows


def ask_server(
    url: str, file: str | os.PathLike[str], *, model: str | None = None, token_file: str | None = None
) -> dict[str, Any]:
    """Classify a file by a server.

    Args:
        url: the server's address, such as ``http://127.0.0.1:8000``.
        file: the image.
        model: the model's name; None for the server's first classifier.
        token_file: file with the server's token, which others cannot read.

    Returns:
        the server's reply, see docs/monailabel.md, and the ``model``.

    Raises:
        ValueError: naming the argument, when there is no such server, model, file or token, or the server refuses.
    """
    require("requests", argument="url", purpose="asking a server", extra="monailabel")
    import requests

    path = Path(file)
    if not path.is_file():
        raise ValueError(f"file: expected an image, but there is no file {path}")
    address = _check_address(url)
    with requests.Session() as session:
        session.trust_env = not is_loopback(urlsplit(address).hostname)  # no proxy leads to this machine
        if token_file is not None:
            session.headers["Authorization"] = f"Bearer {read_token(token_file)}"
        info = _ask(session, "GET", address, "/info/")
        name = _choose_model(info, model)
        with open(path, "rb") as content:
            upload = {"file": (path.name, content)}
            reply = _ask(session, "POST", address, f"/infer/{quote(name, safe='')}?output=json", files=upload)
    if not isinstance(reply.get("label"), str) or not isinstance(reply.get("probabilities"), dict):
        raise ValueError(f"url: expected a server of monai_diffclf at {address}, but {name} gave no class")
    return {"model": name, **reply}


def describe_reply(reply: Mapping[str, Any]) -> str:
    """A reply in a few lines; all that the server says is made fit for a terminal.

    Example:
        >>> print(describe_reply({"model": "m", "label": "a", "probabilities": {"a": 0.75, "b": 0.25},
        ...                       "vote_share": {"a": 1.0, "b": 0.0}, "num_draws": 11, "calibrated": True,
        ...                       "uncertainty": {"probability_entropy": 0.562}, "prediction_set": ["a"],
        ...                       "ood_p_value": 0.004, "warnings": ["tiny"]}))
        class           a
        probability     0.750 (calibrated)
        all classes     a 0.750, b 0.250
        votes           a 100.0 %, b 0.0 % of 11 draws
        uncertainty     0.562 nats (0 is sure)
        prediction set  a
        unusual         yes, p = 0.004
        mind            tiny
        model           m
    """
    probabilities = reply["probabilities"]
    known = "calibrated" if reply.get("calibrated") else "not calibrated"
    lines = [
        ("class", reply["label"]),
        ("probability", f"{probabilities[reply['label']]:.3f} ({known})"),
        ("all classes", ", ".join(f"{name} {share:.3f}" for name, share in probabilities.items())),
    ]
    if reply.get("vote_share"):
        votes = ", ".join(f"{name} {100 * share:.1f} %" for name, share in reply["vote_share"].items())
        lines.append(("votes", f"{votes} of {reply.get('num_draws')} draws"))
    entropy = (reply.get("uncertainty") or {}).get("probability_entropy")
    if entropy is not None:
        lines.append(("uncertainty", f"{entropy:.3f} nats (0 is sure)"))
    if "prediction_set" in reply:
        lines.append(("prediction set", ", ".join(reply["prediction_set"]) or "none of the classes"))
    if reply.get("ood_p_value") is not None:
        lines.append(("unusual", f"{'yes' if reply['ood_p_value'] < 0.01 else 'no'}, p = {reply['ood_p_value']:.3f}"))
    lines += [("mind", text) for text in reply.get("warnings") or []]
    lines.append(("model", reply["model"]))
    return "\n".join(f"{name:<16}{printable(str(text))}" for name, text in lines)


def _check_address(url: str) -> str:
    address = (url if "://" in url else f"http://{url}").rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(f"url: expected the address of a server, such as http://127.0.0.1:8000, got {url!r}")
    return address


def _choose_model(info: Mapping[str, Any], model: str | None) -> str:
    models = info.get("models")
    if not isinstance(models, dict):
        raise ValueError("url: expected a MONAI Label server, but /info/ lists no models")
    known = [str(name) for name, each in models.items() if each.get("type") == "classification"]
    if model is not None and model not in known:
        raise ValueError(f"model: expected one of {known}, got {model!r}")
    if not known:
        raise ValueError("url: the server has no classifier")
    return known[0] if model is None else model


def _ask(session: Any, method: str, address: str, path: str, **options: Any) -> dict[str, Any]:
    import requests

    try:
        # A token is for this server only, wherever it would like to send us.
        response = session.request(method, address + path, timeout=SECONDS, allow_redirects=False, **options)
    except requests.RequestException as error:
        raise ValueError(f"url: no server answers at {address} ({type(error).__name__}); is it running?") from error
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.status_code == 401:
        raise ValueError(
            "token_file: the server asks for a token, and this is not it"
            if session.headers.get("Authorization")
            else "token_file: the server asks for a token; name the file that holds it"
        )
    if response.status_code != 200:
        reason = answer.get("detail") if isinstance(answer, dict) else response.reason
        raise ValueError(f"url: the server refuses with status {response.status_code}: {printable(str(reason))}")
    if not isinstance(answer, dict):
        raise ValueError(f"url: expected a MONAI Label server at {address}, got an answer that is no JSON object")
    return answer
