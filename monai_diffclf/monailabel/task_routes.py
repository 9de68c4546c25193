# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI Label's routes to the app's description, the next image, scoring and the log; and those that are not served."""

from __future__ import annotations

import hmac
import logging
import time
from collections import deque
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query
from fastapi.responses import PlainTextResponse

from .class_store import ClassStore
from .options import ServerOptions
from .parameters import Admin, Annotator, ModelName, Reader, the_app

__all__ = ["login_router", "router"]

router = APIRouter()

NOT_SERVED = {
    "batch": "there is no batch inference here; run the bundle's inference.json on the folder",
    "model": "the bundle's weights are not given or taken here",
    "infer/wsi": "there is no inference on whole slides here",
    "infer/wsi_v2": "there is no inference on whole slides here",
    "proxy": "there is no proxy here; ask the DICOMweb server itself",
    "ohif": "OHIF is not served here",
    "reload": "start the server anew to reload the app",
}


@router.get("/", include_in_schema=False)
def root() -> PlainTextResponse:
    """Where to go on."""
    return PlainTextResponse("MONAI Label server of monai_diffclf. The app: /info/, its routes: /openapi.json\n")


@router.get("/info/", tags=["App"])
def info(user: Reader) -> Any:
    """What the app offers."""
    return the_app().info()


@router.post("/activelearning/{strategy}", tags=["ActiveLearning"])
def next_sample(user: Reader, strategy: ModelName, params: dict[str, Any] | None = None) -> Any:
    """The image to label next."""
    asked = {key: value for key, value in (params or {}).items() if key in ("measure", "client_id")}
    if any(value is not None and not (isinstance(value, str) and len(value) <= 200) for value in asked.values()):
        raise HTTPException(422, "params: expected short texts for measure and client_id")
    app = the_app()
    chosen = app.next_sample({"strategy": strategy, **asked})
    if not chosen:
        return {}
    store, image = app.datastore(), chosen["id"]
    info = store.get_image_info(image)
    asked_by = {"ts": int(time.time()), "client_id": asked.get("client_id", user.username)}
    by_strategy = {"strategy": {**info.get("strategy", {}), strategy: asked_by}}  # as MONAI Label does
    store.update_image_info(image, by_strategy)
    return {**chosen, **info, **by_strategy}


@router.get("/scoring/", tags=["Scoring"])
def scoring_state(user: Reader, all: bool = False, check_if_running: bool = False) -> Any:
    """The last scoring."""
    state = the_app().scoring_job.state()
    if state is None or (check_if_running and state["status"] != "RUNNING"):
        raise HTTPException(404, "scoring: none is running" if check_if_running else "scoring: there was none")
    return [state] if all else state


@router.post("/scoring/", include_in_schema=False)
def score_all(user: Annotator, run_sync: bool = False) -> Any:
    """Score by all methods, of which there is one."""
    return {"uncertainty": {"result": _score("uncertainty", run_sync), "detail": None}}


@router.post("/scoring/{method}", tags=["Scoring"])
def score(user: Annotator, method: ModelName, run_sync: bool = False) -> Any:
    """Score the images that have no label and no score."""
    return _score(method, run_sync)


@router.delete("/scoring/", tags=["Scoring"])
def stop_scoring(user: Annotator) -> Any:
    """Stop scoring after the present image."""
    return the_app().scoring_job.stop()


@router.get("/logs/", tags=["Others"])
def log(user: Admin, lines: Annotated[int, Query(ge=1, le=100_000)] = 300) -> PlainTextResponse:
    """The end of the server's log, as plain text."""
    files = [one.baseFilename for one in logging.getLogger().handlers if isinstance(one, logging.FileHandler)]
    if not files:
        raise HTTPException(404, "logs: this server keeps none")
    with open(files[0], errors="replace") as file:
        return PlainTextResponse("".join(deque(file, lines)))


def _score(method: str, run_sync: bool) -> Any:
    app = the_app()
    if run_sync and method == "uncertainty" and isinstance(app.datastore(), ClassStore):
        return app.uncertainty({}, app.datastore())
    return app.async_scoring(method)


def _not_served(reason: str) -> Any:
    def answer() -> None:
        raise HTTPException(404, reason)

    return answer


for _prefix, _reason in NOT_SERVED.items():
    for _path in (f"/{_prefix}", f"/{_prefix}/{{rest:path}}"):
        methods = ["GET", "POST", "PUT", "DELETE", "HEAD"]
        router.add_api_route(_path, _not_served(_reason), methods=methods, include_in_schema=False)


def login_router(options: ServerOptions) -> APIRouter:
    """The routes by which MONAI Label's clients log in, where the password is the server's token.

    3D Slicer asks for a name and a password when the first route says so, and shows what it gets from the second.
    """
    login = APIRouter(prefix="/auth", tags=["Auth"])

    @login.get("/")
    def enabled() -> dict[str, Any]:
        return {"enabled": bool(options.token), "client_id": "", "realm": ""}

    @login.post("/token")
    def token(username: Annotated[str, Form()], password: Annotated[str, Form()]) -> dict[str, str]:
        if not options.token or not hmac.compare_digest(password.encode(), options.token.encode()):
            raise HTTPException(401, "password: expected the server's token")
        return {"access_token": options.token, "token_type": "Bearer"}

    @login.get("/token/valid")
    def valid(user: Reader) -> Any:
        return user.model_dump()

    return login
