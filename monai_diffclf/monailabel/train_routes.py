# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI Label's routes to training, and those to the weights that it made."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException

from .parameters import Admin, ModelName, Reader, the_app

__all__ = ["train_router"]

train_router = APIRouter(prefix="/train", tags=["Train"])


@train_router.get("/")
def training_state(user: Reader, all: bool = False, check_if_running: bool = False) -> Any:
    """The last training: its progress or result."""
    state = the_app().training.state()
    if state is None or (check_if_running and state["status"] != "RUNNING"):
        raise HTTPException(404, "train: none is running" if check_if_running else "train: there was none")
    return [state] if all else state


@train_router.post("/", include_in_schema=False)
def train_all(user: Admin) -> Any:
    """MONAI Label's former way to train all models; here they are trained one by one."""
    raise HTTPException(404, f"train: name a model, such as /train/{next(iter(the_app().training.tasks))}")


@train_router.post("/{model}")
def train(user: Admin, model: ModelName, params: dict[str, Any] | None = None) -> Any:
    """Train a model on the labels of the datastore."""
    return the_app().training.start(model, params or {})


@train_router.delete("/")
def stop_training(user: Admin) -> Any:
    """Stop the training; nothing of it is kept."""
    return the_app().training.stop()


@train_router.get("/{model}/weights")
def list_weights(user: Reader, model: ModelName) -> Any:
    """The weights that there are of a model, and which are served."""
    return the_app().training.list_weights(model)


@train_router.put("/{model}/weights")
def serve_weights(user: Admin, model: ModelName, version: ModelName) -> Any:
    """Serve weights: those of a training, or "bundle" for those that came with the bundle."""
    return the_app().training.serve(model, version)
