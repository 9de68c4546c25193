# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Training from the readers' labels: started, followed, stopped; its weights kept, and served where better."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import logging
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from ..storage.atomic_file import replace_text
from .bundle_model import BundleModel
from .infer_task import DiffusionClassifierTask
from .inference_queue import InferenceQueue
from .labelled_images import LabelledImage, read_labels
from .train_process import LOG, PROGRESS, RESULT, RUN, TrainPlan, settings_of, start_process, why_failed
from .train_request import TrainRequest, divide_labels, parse_train_request
from .trained_weights import BUNDLE, TrainedWeights, file_hash

__all__ = ["Training"]

logger = logging.getLogger(__name__)

TABLE = "labels.csv"
GRACE = 10  # seconds for a process to end after it was told to


class Training:
    """Trains the server's models on the labels of its folder, one at a time, each in a process of its own.

    A model of a folder is trained by one server at a time, see `TrainedWeights.begin`.

    Args:
        tasks: the models by name; a task's model is replaced when other weights are served.
        studies: the folder of images; None where they are on another server, from which nothing is trained.
        queue: where inferences run: weights change between two of them.
        patient_pattern: finds the patient in a file's name, see `read_labels`.
        on_served: called with a model's name when its weights have changed.
    """

    def __init__(
        self,
        tasks: Mapping[str, DiffusionClassifierTask],
        studies: Path | None,
        queue: InferenceQueue,
        *,
        patient_pattern: str | None = None,
        on_served: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.tasks, self.studies, self.queue, self.on_served = dict(tasks), studies, queue, on_served
        self.patient_pattern = patient_pattern
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._task: dict[str, Any] | None = None
        self._folder: Path | None = None
        self._stopped = False
        if studies is not None:
            for name in self.tasks:
                if (served := self.weights(name).served()) != BUNDLE:
                    self._take(name, served)

    def weights(self, name: str) -> TrainedWeights:
        """The weights of a model that were trained here.

        Raises:
            HTTPException: when there is no such model, or no folder.
        """
        if name not in self.tasks:
            raise HTTPException(404, f"model: expected one of {sorted(self.tasks)}, got {name!r}")
        if self.studies is None:
            raise HTTPException(422, "train: labels and weights are stored with a folder of images only")
        return TrainedWeights(self.studies, name)

    def start(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Start a training.

        Args:
            name: the model.
            params: see `TrainRequest`.

        Returns:
            its state, as `state`.

        Raises:
            HTTPException: when one runs already, here or in another server, or the labels are too few.
        """
        weights, task = self.weights(name), self.tasks[name]
        with self._lock, ExitStack() as undo:
            if self._task and self._task["status"] == "RUNNING":
                running = self._task["request"]["model"]
                raise HTTPException(409, f"train: {running} is being trained; wait for it, or stop it: DELETE /train/")
            try:
                request = parse_train_request(params)
                plan, note, table = self._prepare(name, task.model, request, weights)
            except ValueError as error:
                raise HTTPException(422, str(error)) from error
            try:
                undo.callback(weights.end)
                folder = weights.begin()
            except ValueError as error:
                raise HTTPException(409, str(error)) from error
            state = {
                "id": str(uuid.uuid4()),
                "status": "RUNNING",
                "request": {"model": name, **asdict(request)},
                "labels": {part: len(note["labels"][part]) for part in ("train", "held_back")}
                | {"left_out": note["labels"]["left_out"]},
                "start_ts": _now(),
            }
            replace_text(folder / TABLE, table)
            process = start_process(plan, folder, weights.lock.fileno())
            self._process, self._folder, self._task, self._stopped = process, folder, state, False
            undo.pop_all()
        follow = threading.Thread(
            target=self._follow, args=(name, weights, process, state, note, request), name="training", daemon=True
        )
        follow.start()
        return self.state() or {}

    def stop(self) -> dict[str, Any] | None:
        """Stop the training that runs; nothing of it is kept."""
        with self._lock:
            process = self._process
            if process is None or not self._task or self._task["status"] != "RUNNING":
                return dict(self._task) if self._task else None
            self._stopped = True
            process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return self.state()

    def state(self) -> dict[str, Any] | None:
        """The last training, with its ``progress`` (step, epoch, max_epochs, loss) or ``result``; None if none was."""
        with self._lock:
            if self._task is None:
                return None
            state = dict(self._task)
            if state["status"] == "RUNNING" and self._folder is not None:
                state["progress"] = _read(self._folder / PROGRESS) or {"step": "starting"}
            return state

    def serve(self, name: str, version: str) -> dict[str, Any]:
        """Serve other weights from now on.

        Raises:
            HTTPException: when there are none of that name, or they are not whole.
        """
        weights = self.weights(name)
        try:
            self._take(name, version)
            weights.select(version)
        except (ValueError, RuntimeError, TypeError) as error:
            raise HTTPException(422, str(error)) from error
        self.on_served(name)
        return self.list_weights(name)

    def list_weights(self, name: str) -> dict[str, Any]:
        """Which weights of a model there are, what each was trained on in short, and which are served."""
        weights = self.weights(name)
        try:
            found = [_in_short(weights.note(version)) for version in weights.versions()]
            return {"model": name, "served": weights.served(), "weights": [{"version": BUNDLE}, *found]}
        except ValueError as error:
            raise HTTPException(422, str(error)) from error

    def close(self) -> None:
        """End the training that runs."""
        self.stop()

    def _prepare(
        self, name: str, model: BundleModel, request: TrainRequest, weights: TrainedWeights
    ) -> tuple[TrainPlan, dict[str, Any], str]:
        """What the process needs, what it will be trained on, and the table of these images."""
        if self.studies is None:
            raise ValueError("studies: expected a folder of images")
        labels = read_labels(
            self.studies,
            classes=model.classes,
            tags=request.tags,
            patient_pattern=self.patient_pattern,
            volumes=model.spatial_dims == 3,
        )
        train, judge = divide_labels(labels.items, model.classes)
        served = weights.served()
        run = weights.run_of(served)
        folder = weights.running
        plan = TrainPlan(
            bundle=str(model.folder),
            served="" if run is None else str(run),
            table=str(folder / TABLE),
            num_train=len(train),
            held_back=[(str(item.path), model.classes.index(item.label), item.group) for item in judge],
            pretrained=request.pretrained,
            settings={key: getattr(request, key) for key in ("max_epochs", "learning_rate", "seed", "device")},
            parent=os.getpid(),
        )
        settings = settings_of(plan, folder / RUN)
        hidden = ("dataset_dir", "output_dir", "initial_weights")
        note = {
            "model": name,
            "classes": model.classes,
            "begins_with": served if request.pretrained else None,
            "compared_with": served,
            "compared_with_made_by": model.made_by(),
            "settings": {key: value for key, value in settings.items() if key not in hidden},
            "margin": request.margin,
            "serve": request.serve,
            "labels": {
                "train": [_describe(item) for item in train],
                "held_back": [_describe(item) for item in judge],
                "left_out": labels.left_out,
            },
            "start_ts": _now(),
        }
        return plan, note, _table({"train": train, "validation": judge})

    def _follow(
        self,
        name: str,
        weights: TrainedWeights,
        process: subprocess.Popen[bytes],
        state: dict[str, Any],
        note: dict[str, Any],
        request: TrainRequest,
    ) -> None:
        """Wait for the process, keep what it made, and serve it where that is wanted."""
        code = process.wait()
        ended: dict[str, Any]
        try:
            if self._stopped:
                ended = {"status": "STOPPED"}
            elif code:
                ended = {"status": "ERROR", "error": why_failed(weights.running, code)}
            else:
                ended = {"status": "DONE", "result": self._keep(name, weights, note, request)}
        except Exception as error:
            logger.exception("the training of %s ended, but its weights could not be kept", name)
            ended = {"status": "ERROR", "error": f"{type(error).__name__}: {error}"}
        if ended["status"] == "ERROR":
            logger.warning("the training of %s failed: %s", name, ended["error"])
        weights.end()
        with self._lock:
            state.update(ended, end_ts=_now())

    def _keep(self, name: str, weights: TrainedWeights, note: dict[str, Any], request: TrainRequest) -> dict[str, Any]:
        folder = weights.running
        result = _read(folder / RESULT)
        if result is None:
            raise RuntimeError("the training left no result")
        better = result["difference"]["value"] > 0 and result["difference"]["value"] >= request.margin
        serve = request.serve == "always" or (request.serve == "better" and better)
        result |= {"margin": request.margin, "better": better}
        run = folder / RUN
        (run / "checkpoint.pt").unlink(missing_ok=True)  # for a training that goes on; none does
        for file in (TABLE, LOG):
            os.replace(folder / file, run / file)
        note = {**note, "result": result, "weights": {"network": result.pop("network")}, "end_ts": _now()}
        version = weights.add(run, note)
        if serve:
            self._take(name, version)
            weights.select(version)
            self.on_served(name)
        logger.info("trained %s %s: %s", name, version, "served" if serve else "kept, not served")
        return {**result, "before": result.get("served"), "version": version, "served": weights.served()}

    def _take(self, name: str, version: str) -> None:
        """Load weights into a model's task, between two inferences."""
        task = self.tasks[name]
        model = BundleModel(task.model.folder, self.weights(name).run_of(version))
        self.queue.submit(functools.partial(_replace, task, model))[1].result()


def _replace(task: DiffusionClassifierTask, model: BundleModel, job: Any) -> None:
    task.model = model


def _table(parts: Mapping[str, list[LabelledImage]]) -> str:
    """The table that the bundle's reader takes; a patient stands there as a hash."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "split", "patient"])
    for split, items in parts.items():
        writer.writerows([str(item.path), item.label, split, _hidden(item.patient)] for item in items)
    return text.getvalue()


def _describe(item: LabelledImage) -> dict[str, Any]:
    """A label as it is recorded: which image, by its hash, which class, whose tags."""
    found = {"image": item.id, "sha256": file_hash(item.path), "label": item.label, "tags": list(item.tags)}
    return found | ({"patient": _hidden(item.patient)} if item.patient else {})


def _hidden(patient: str) -> str:
    return hashlib.sha256(patient.encode()).hexdigest()[:16] if patient else ""


def _in_short(note: dict[str, Any]) -> dict[str, Any]:
    labels = note.get("labels", {})
    counts = {part: len(labels.get(part, [])) for part in ("train", "held_back")}
    keys = ("version", "begins_with", "compared_with", "result", "settings", "start_ts", "end_ts", "weights")
    return {key: note[key] for key in keys if key in note} | {"labels": counts}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
