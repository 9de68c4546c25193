# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI Label's routes to images and labels, with names, files and parameters checked.

They are no coroutines: the server runs them in threads, where files may be read and written.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, File, Form, HTTPException, Query, UploadFile
from fastapi.responses import FileResponse
from monailabel.utils.others.generic import file_checksum, get_mime_type

from .parameters import Admin, Annotator, ImageId, LabelId, OptionalImageId, Reader, Tag, the_app
from .uploads import IMAGE_SUFFIXES, LABEL_SUFFIXES, parse_info, received

__all__ = ["router"]

router = APIRouter(prefix="/datastore", tags=["Datastore"])

Params = Annotated[str, Form()]


class Listing(str, Enum):
    """What of the datastore is listed."""

    train = "train"
    stats = "stats"
    all = "all"


@router.get("/")
def list_datastore(user: Reader, output: Listing = Listing.stats) -> Any:
    """Figures, all that is stored, or the labelled images with their labels."""
    store = the_app().datastore()
    if output == Listing.all:
        return store.json()
    return store.datalist() if output == Listing.train else store.status()


@router.put("/", include_in_schema=False)
@router.put("/image")
def add_image(
    user: Annotator, file: Annotated[UploadFile, File()], image: OptionalImageId = "", params: Params = "{}"
) -> dict[str, str]:
    """Store an image under an id, by default its file's name without suffix."""
    info = parse_info(params, "params") | {"user": user.username}
    with received(file, IMAGE_SUFFIXES, "file") as (path, stem):
        return {"image": the_app().datastore().add_image(image or stem, str(path), info)}


@router.delete("/", include_in_schema=False)
@router.delete("/image")
def remove_image(user: Admin, id: ImageId) -> dict[str, str]:
    """Remove an image with its labels."""
    _image_path(id)
    the_app().datastore().remove_image(id)
    return {}


@router.head("/image")
def check_image(user: Reader, image: ImageId, check_sum: str | None = None) -> dict[str, str]:
    """Whether there is an image, and whether it has a checksum ``ALGORITHM:DIGITS``."""
    path = _image_path(image)
    if check_sum:
        kind, _, digits = check_sum.rpartition(":")
        if (kind or "SHA256") not in ("SHA256", "SHA512", "MD5"):
            raise HTTPException(422, "check_sum: expected SHA256, SHA512 or MD5 before the colon")
        if file_checksum(path, kind or "SHA256").partition(":")[2] != digits:
            raise HTTPException(404, "image: the checksum is another")
    return {}


@router.get("/image")
def get_image(user: Reader, image: ImageId) -> FileResponse:
    """The file of an image."""
    return _file(_image_path(image))


@router.get("/image/info")
def get_image_info(user: Reader, image: ImageId) -> Any:
    """What is known of an image."""
    _check_listed(image)
    return the_app().datastore().get_image_info(image)


@router.put("/image/info")
def put_image_info(user: Annotator, image: ImageId, info: Params = "{}") -> None:
    """Add to what is known of an image."""
    added = parse_info(info, "info") | {"user": user.username}
    _check_listed(image)
    the_app().datastore().update_image_info(image, added)


@router.put("/label")
def save_label(
    user: Annotator,
    image: ImageId,
    label: Annotated[UploadFile, File()],
    params: Params = "{}",
    tag: Tag = "final",
) -> dict[str, Any]:
    """Store the class of an image."""
    info = parse_info(params, "params") | {"user": user.username}
    app = the_app()
    _check_listed(image)
    with received(label, LABEL_SUFFIXES, "label") as (path, _):
        label_id = app.datastore().save_label(image, str(path), tag or "final", info)
    return {**(app.on_save_label(image, label_id) or {}), "image": image, "label": label_id}


@router.delete("/label")
def remove_label(user: Admin, id: LabelId, tag: Tag) -> dict[str, str]:
    """Remove a label."""
    _label_path(id, tag)
    the_app().datastore().remove_label(id, tag)
    return {}


@router.head("/label")
def check_label(user: Reader, image: ImageId, tag: Tag) -> dict[str, str]:
    """Whether an image has a label."""
    _label_path(image, tag)
    return {}


@router.get("/label")
def get_label(user: Reader, label: LabelId, tag: Tag) -> FileResponse:
    """The file of a label."""
    return _file(_label_path(label, tag))


@router.get("/label/info")
def get_label_info(user: Reader, label: LabelId, tag: Tag) -> Any:
    """What is known of a label."""
    return the_app().datastore().get_label_info(label, tag)


@router.put("/label/info")
def put_label_info(user: Annotator, label: LabelId, tag: Tag, info: Params = "{}") -> None:
    """Add to what is known of a label."""
    _update_label(label, tag, parse_info(info, "info"), user.username)


@router.put("/updatelabelinfo", include_in_schema=False)
def put_label_params(user: Annotator, label: LabelId, tag: Tag, params: Params = "{}") -> None:
    """The former name of the route above."""
    _update_label(label, tag, parse_info(params, "params"), user.username)


@router.get("/dataset")
def get_dataset(
    user: Annotator, background: BackgroundTasks, limit_cases: Annotated[int | None, Query(ge=1)] = None
) -> FileResponse:
    """All labelled images with their labels as a ZIP archive."""
    store = the_app().datastore()
    if not store.datalist():
        raise HTTPException(404, "dataset: no image has its final label yet")
    if any(os.path.isdir(pair["image"]) for pair in store.datalist()):
        raise HTTPException(422, "dataset: expected images in one file each, got folders of slices; copy them by hand")
    path = store.get_dataset_archive(limit_cases)
    background.add_task(os.unlink, path)
    return FileResponse(path, media_type="application/zip", filename="dataset.zip", background=background)


def _check_listed(image: str) -> None:
    """Whether there is an image, without a look at its file, which may have to be fetched."""
    store = the_app().datastore()
    if image not in store.list_images():
        store.refresh()
    if image not in store.list_images():
        raise HTTPException(404, f"image: expected the id of an image in the datastore, got {image!r}")


def _image_path(image: str) -> str:
    path = the_app().datastore().get_image_uri(image)
    if path and os.path.isdir(path):
        raise HTTPException(422, f"image: expected an image in one file, but {image!r} is a folder of slices")
    if not path or not os.path.isfile(path):
        raise HTTPException(404, f"image: expected the id of an image in the datastore, got {image!r}")
    return str(path)


def _label_path(label: str, tag: str) -> str:
    path = the_app().datastore().get_label_uri(label, tag)
    if not path or not os.path.isfile(path):
        raise HTTPException(404, f"label: there is none of {label!r} with the tag {tag!r}")
    return str(path)


def _update_label(label: str, tag: str, info: dict[str, Any], user: str) -> None:
    if taken := sorted(info.keys() & {"label", "label_info"}):
        raise HTTPException(422, f"info: {taken} are what PUT /datastore/label stores")
    _label_path(label, tag)
    the_app().datastore().update_label_info(label, tag, info | {"user": user})


def _file(path: str) -> FileResponse:
    return FileResponse(path, media_type=get_mime_type(path), filename=Path(path).name)
