# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI Label's routes to inference and sessions."""

from __future__ import annotations

import json
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Query, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from monailabel.utils.others.generic import get_mime_type
from requests_toolbelt import MultipartEncoder  # type: ignore[import-untyped]

from .inference_queue import Job
from .names import check_name
from .parameters import ModelName, OptionalImageId, Reader, SessionId, the_app
from .sessions import SafeSessions
from .uploads import IMAGE_SUFFIXES, SCAN_SUFFIXES, parse_params, received

__all__ = ["infer_router", "session_router"]

infer_router = APIRouter(prefix="/infer", tags=["Infer"])
session_router = APIRouter(prefix="/session", tags=["Session"])

# A path in one of these would be opened; the id of an image is a parameter of the address.
NOT_IN_PARAMS = ("image", "images", "session", "session_id", "model", "label_file", "file", "path", "datastore")


class Output(str, Enum):
    """What of an inference is answered."""

    image = "image"
    json = "json"
    all = "all"


@infer_router.post("/{model}")
async def infer(
    user: Reader,
    request: Request,
    model: ModelName,
    image: OptionalImageId = "",
    session_id: SessionId = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: Output = Output.all,
) -> Response:
    """Classify an image of the datastore, of a session, or one that is sent along."""
    asked = _check_params(parse_params(params, "params"))
    app = the_app()
    with ExitStack() as stack:
        source: str | Path = image
        if file is not None:
            # Large files are copied in a thread. Whatever happens then, the copy goes with the stack.
            source, _ = await run_in_threadpool(stack.enter_context, received(file, SCAN_SUFFIXES, "file"))
        elif session_id:
            source = Path(_session(session_id).image)
        elif not image:
            raise HTTPException(422, "image: expected the id of an image, a session_id, or a file")
        asked |= {"model": model, "image": source}
        if label is not None:
            asked["label file"] = True  # a classifier has no use for it, and says so

        def work(job: Job) -> Response:
            result = app.infer(asked, job=job, want_file=output != Output.json)
            try:
                return _respond(result, output)
            finally:
                if result["file"]:
                    Path(result["file"]).unlink(missing_ok=True)

        return await app.queue.run(work, request.is_disconnected)


@session_router.put("/")
def create_session(
    user: Reader,
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Lend the server an image."""
    sessions = _sessions()
    if uncompress or len(files) != 1:
        raise HTTPException(422, f"files: expected one image, not an archive, got {len(files)} files")
    with received(files[0], IMAGE_SUFFIXES, "files") as (path, _):
        session_id, session = sessions.add_session(str(path), expiry)
    return {"session_id": session_id, "session_info": session.to_json()}


@session_router.get("/{session_id}")
def get_session(user: Reader, session_id: str, update_ts: bool = False, image: bool = False) -> Any:
    """What is known of a session, or its image."""
    session = _session(session_id, update_ts)
    if image:
        return FileResponse(session.image, media_type=get_mime_type(session.image), filename=Path(session.image).name)
    return session.to_json()


@session_router.delete("/{session_id}")
def remove_session(user: Reader, session_id: str) -> Any:
    """End a session."""
    session = _session(session_id)
    _sessions().remove_session(session_id)
    return session.to_json()


def _sessions() -> SafeSessions:
    sessions: SafeSessions | None = the_app().sessions()
    if sessions is None:
        raise HTTPException(406, "session: switched off on this server (MONAI_LABEL_SESSIONS)")
    return sessions


def _session(session_id: str, update_ts: bool = True) -> Any:
    session = _sessions().get_session(session_id, update_ts=update_ts)
    if session is None or not Path(session.image).is_file():
        raise HTTPException(404, "session: there is none of this id")
    return session


def _check_params(params: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(params.keys() & set(NOT_IN_PARAMS)):
        raise HTTPException(422, f"params: {taken} are no parameters; name the image in the address: ?image=ID")
    try:
        if params.get("label_tag"):
            check_name(str(params["label_tag"]), "label_tag")
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    return params


def _respond(result: dict[str, Any], output: Output) -> Response:
    reply = json.dumps(result["params"], allow_nan=False)
    if output == Output.json:
        return Response(reply, media_type="application/json")
    file = Path(result["file"])
    kind = get_mime_type(file.name)
    if output == Output.image:
        disposition = {"content-disposition": f'attachment; filename="{file.name}"'}
        return Response(file.read_bytes(), media_type=kind, headers=disposition)
    fields = {"params": (None, reply, "application/json"), "image": (file.name, file.read_bytes(), kind)}
    body = MultipartEncoder(fields=fields)
    return Response(body.to_string(), media_type=body.content_type)
