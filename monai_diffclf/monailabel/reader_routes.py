# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The routes of the reading page: its files, and what it asks for. See docs/reading-page.md."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import AfterValidator, BaseModel, Field

from .hand_out import BAD, UNSURE
from .inference_queue import Job
from .judgements import Judgement, progress, store_judgement
from .names import check_name
from .page_files import PAGE_FILES, PAGE_POLICY, read_page_file
from .parameters import Annotator, ImageId, ModelName, Reader, the_app

__all__ = ["page_router", "router"]

page_router = APIRouter(prefix="/reader", include_in_schema=False)
router = APIRouter(prefix="/reader", tags=["Reader"])

ReaderName = Annotated[str, Field(max_length=64), AfterValidator(lambda name: check_name(name, "reader"))]
Index = Annotated[int | None, Query(alias="slice", ge=0)]


class Asked(BaseModel):
    """A reader asks for an image."""

    reader: ReaderName
    strategy: Annotated[str, Field(max_length=64)] = "most_uncertain"
    exclude: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=200)] = []


class Said(BaseModel):
    """A reader says what an image is."""

    reader: ReaderName
    image: ImageId
    verdict: Literal["label", "unsure", "skip", "bad image"]
    label: Annotated[str, Field(max_length=300)] | None = None
    model: Annotated[str, Field(max_length=240)] | None = None
    shown: bool = True
    seconds: Annotated[float, Field(ge=0, le=1e6)] | None = None


@page_router.get("")
def to_page() -> RedirectResponse:
    """The page's address ends with a slash, as its files are beside it."""
    return RedirectResponse("/reader/")


@router.get("/state")
def state(user: Reader) -> dict[str, Any]:
    """The models with their classes, the strategies, and how far the readers are."""
    app = the_app()
    models = {
        name: {"classes": model.classes, "description": model.description, "spatial_dims": model.spatial_dims}
        for name, model in app.models.by_name.items()
    }
    return {
        "models": models,
        "models_left_out": sorted(app.models.left_out),
        "strategies": sorted(app.strategies()),
        "progress": progress(app.datastore()),
    }


@router.post("/next")
def next_image(user: Annotator, asked: Asked) -> dict[str, Any]:
    """Hand an image out: the one that a strategy chooses among those that no other reader has."""
    request = {"strategy": asked.strategy, "client_id": asked.reader}
    chosen = the_app().next_sample(request, exclude=asked.exclude)
    kept = ("id", "measure", "uncertainty", "unscored")
    return {name: chosen[name] for name in kept if name in chosen} if chosen else {"id": None}


@router.post("/prediction")
async def prediction(user: Reader, request: Request, image: ImageId, model: ModelName) -> dict[str, Any]:
    """What a model makes of an image."""
    app, path = the_app(), _path(image, model)
    known = app.images.known(path, model)
    return known or await _run(request, functools.partial(app.images.predict, path, model), path)


@router.post("/counterfactual")
async def counterfactual(user: Reader, request: Request, image: ImageId, model: ModelName) -> dict[str, Any]:
    """Paint the image as the rival of its class; a client that goes away stops it."""
    path = _path(image, model)
    return await _run(request, functools.partial(the_app().images.paint, path, model), path)


@router.get("/pixels")
def pixels(
    user: Reader,
    image: ImageId,
    model: ModelName,
    of: Literal["image", "map", "counterfactual"] = "image",
    index: Index = None,
) -> Response:
    """A plane, 16 bits in little-endian order: values 0 to 65535, or of a map -32767 to 32767."""
    path = _path(image, model)
    try:
        plane = the_app().images.plane(path, of, model, index)
    except ValueError as error:
        raise HTTPException(422, _plain(error, path, image)) from error
    if plane is None:
        raise HTTPException(409, f"of: expected the {of} to be asked for before its pixels")
    values = plane.values.astype(plane.values.dtype.newbyteorder("<"))
    about = {"size": values.shape, "slices": [plane.slices], "spacing": plane.spacing, "window": plane.window}
    headers = {f"x-{name}": ",".join(map(str, numbers)) for name, numbers in about.items()}
    return Response(values.tobytes(), media_type="application/octet-stream", headers=headers)


@router.post("/label")
def judge(user: Annotator, said: Said) -> dict[str, Any]:
    """Store what a reader said, and take the image back."""
    app = the_app()
    known = None
    if said.model is not None:
        known = app.images.known(_path(said.image, said.model), said.model)
    if (said.label is None) == (said.verdict == "label"):
        raise HTTPException(422, f"label: expected a class with the verdict 'label' only, got {said.label!r}")
    judgement = Judgement(
        image=said.image,
        reader=said.reader,
        verdict=said.verdict,
        label=said.label,
        model=said.model if known else None,
        predicted=known["label"] if known else None,
        probability=known["probabilities"][known["label"]] if known else None,
        shown=said.shown and known is not None,
        seconds=said.seconds,
    )
    store = app.datastore()
    label = store_judgement(store, judgement, user.username)
    if label:
        app.on_save_label(said.image, label)
    if said.verdict in (UNSURE, BAD) or label:
        app.hand_out.release(said.reader, said.image)
    else:
        app.hand_out.skip(said.reader, said.image)
    return {"image": said.image, "progress": progress(store)}


@page_router.get("/")
@page_router.get("/{name}")
def page(name: str = "") -> Response:
    """A file of the page."""
    if name not in PAGE_FILES:
        raise HTTPException(404, f"reader: expected one of {sorted(PAGE_FILES)}, got {name!r}")
    content, kind = read_page_file(name)
    return Response(content, media_type=kind, headers={"content-security-policy": PAGE_POLICY})


async def _run(request: Request, work: Any, path: str) -> dict[str, Any]:
    def do(job: Job) -> dict[str, Any]:
        try:
            made: dict[str, Any] = work(job)
            return made
        except (ValueError, TypeError) as error:
            raise HTTPException(422, _plain(error, path, request.query_params["image"])) from error

    return await the_app().queue.run(do, request.is_disconnected)


def _path(image: str, model: str) -> str:
    app = the_app()
    if model not in app.models.by_name:
        raise HTTPException(404, f"model: expected one of {sorted(app.models.by_name)}, got {model!r}")
    path = app.datastore().get_image_uri(image)
    if not path:
        raise HTTPException(404, f"image: expected the id of an image in the datastore, got {image!r}")
    return str(path)


def _plain(error: Exception, path: str, image: str) -> str:
    """What is wrong, without the server's folders."""
    return str(error).replace(path, image)
