# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The app: classifiers of bundles, their scores and the datastore, in MONAI Label's terms."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from .. import __version__
from ..uncertainty import STRATEGIES
from .active_learning import MostUncertain, UncertaintyScoring
from .class_store import ClassStore
from .dicomweb_store import DicomWebImages
from .hand_out import HandOut
from .infer_task import DiffusionClassifierTask
from .inference_queue import InferenceQueue, Job
from .label_store import ClassLabelStore
from .options import ServerOptions
from .reading import ReadImages
from .scoring_job import ScoringJob
from .segment_task import segment_tasks
from .served_models import load_models
from .sessions import SafeSessions
from .strategies import ChosenImage
from .train_task import ModelTraining
from .training_job import Training

__all__ = ["DiffusionClassifierApp"]


class DiffusionClassifierApp(MONAILabelApp):
    """A MONAI Label app that classifies with this package's bundles.

    A model is called as its bundle's folder; the first one ranks the images. The scoring method is ``uncertainty``, the
    strategy ``most_uncertain``.

    Args:
        app_dir: folder of the app's code.
        studies: folder of images, or a DICOMweb address.
        conf: see `ServerOptions`.

    Raises:
        ValueError: when no bundle can be loaded, ``conf`` has an unknown key, or clients could write to where code is.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        options = ServerOptions.from_conf(conf)
        self.models = load_models(options.bundles)
        self.model = self.models.first
        self.images = ReadImages(self.models.by_name)
        self.hand_out = HandOut()
        self.queue = InferenceQueue(options.max_waiting, options.max_seconds)
        self.tasks = {name: DiffusionClassifierTask(model) for name, model in self.models.by_name.items()}
        self.task = next(iter(self.tasks.values()))
        self.uncertainty = UncertaintyScoring(self.task, self.queue)
        self.training = Training(
            self.tasks,
            None if _is_address(studies) else Path(studies),
            self.queue,
            patient_pattern=options.patient_pattern or None,
            on_served=self._weights_changed,
        )
        self.scoring_job = ScoringJob(lambda go_on: self.uncertainty({}, self.datastore(), go_on))
        if not _is_address(studies):
            bundles = {f"the bundle {name}": model.folder for name, model in self.models.by_name.items()}
            _check_apart(Path(studies), {"the app's code": Path(app_dir), **bundles})
        super().__init__(
            app_dir,
            studies,
            conf or {},
            name="MONAI Label - diffusion classifier",
            description=self.model.description,
            version=__version__,
            labels=self.models.classes,
        )

    def init_datastore(self) -> Datastore:
        """A folder and a DICOMweb server keep class names as labels; other datastores are as MONAI Label's."""
        if _is_address(self.studies):
            return super().init_datastore()
        volumes = any(model.spatial_dims == 3 for model in self.models.by_name.values())
        return ClassLabelStore(self.studies, self.models.classes, volumes=volumes)

    def _init_dicomweb_datastore(self) -> Datastore:
        made = super()._init_dicomweb_datastore()
        made._observer.stop()
        made._client.set_http_retry_params(retry=False)  # it would try for a minute
        return DicomWebImages(made._client, self.models.classes)

    def _download_dcmqi_tools(self) -> None:
        """MONAI Label downloads a program that writes DICOM segmentations; here there are none."""

    def _load_sessions(self, load: bool = False) -> SafeSessions | None:
        if not load:
            return None
        return SafeSessions(settings.MONAI_LABEL_SESSION_PATH, settings.MONAI_LABEL_SESSION_EXPIRY)

    def init_infers(self) -> dict[str, InferTask]:
        """The classifiers, and each as segmentations for viewers that list no classifiers."""
        return {**segment_tasks(self.tasks), **self.tasks}

    def init_trainers(self) -> dict[str, TrainTask]:
        """The training of each classifier."""
        return {name: ModelTraining(self.training, name) for name in self.tasks}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """The scores by which images are ranked."""
        return {"uncertainty": self.uncertainty}

    def init_strategies(self) -> dict[str, Strategy]:
        """The most uncertain image by a measure that is asked for, those of `STRATEGIES`, MONAI Label's random one."""
        chosen = {name: ChosenImage(self.uncertainty, name) for name in STRATEGIES if name != "random"}
        return {"most_uncertain": MostUncertain(self.uncertainty), **chosen, **super().init_strategies()}

    def info(self) -> dict[str, Any]:
        """MONAI Label's description of the app, and which models could not be loaded (``models_left_out``)."""
        return {**super().info(), "models_left_out": self.models.left_out}

    def infer(
        self,
        request: dict[str, Any],
        datastore: Datastore | None = None,
        job: Job | None = None,
        want_file: bool = True,
    ) -> dict[str, Any]:
        """Classify an image.

        Args:
            request: ``model``, ``image``, ``save_label``, ``label_tag`` and the task's settings. An ``image`` that is
                text is an id of the datastore, never a path; a `Path` comes from the server itself.
            datastore: where the image is; the app's own by default.
            job: what may stop the work.
            want_file: whether a map is wanted.

        Raises:
            HTTPException: when there is no such model or image, or the request is not as expected.
        """
        if request.get("model") not in self._infers:
            raise HTTPException(404, f"model: expected one of {sorted(self._infers)}, got {request.get('model')!r}")
        store, image = datastore or self.datastore(), request.get("image") or ""
        path = image if isinstance(image, Path) else store.get_image_uri(str(image))
        file, reply = self._infers[request["model"]]({**request, "image": str(path)}, job, want_file)
        tag = str(request.get("label_tag") or DefaultLabelTag.ORIGINAL.value)
        label = None
        if (
            request.get("save_label") in (True, "true")
            and not isinstance(image, Path)
            and isinstance(store, ClassStore)
        ):
            label = store.save_class(str(image), reply["label"], tag, {"model": request["model"], "params": reply})
        return {"label": label or file, "tag": tag, "file": file, "params": reply}

    def strategies(self) -> list[str]:
        """The names of the strategies that choose the next image."""
        return list(self._strategies)

    def next_sample(self, request: dict[str, Any], exclude: Collection[str] = ()) -> dict[str, Any]:
        """As MONAI Label's, but what other readers have, or have called bad, is left out.

        Args:
            request: ``strategy``, ``client_id`` (the reader, to whom the image is handed out) and the strategy's own.
            exclude: further images that are not to be chosen.

        Raises:
            HTTPException: 404 for an unknown strategy, with a reason.
        """
        strategy = self._strategies.get(str(request.get("strategy")))
        if strategy is None:
            known, came = sorted(self._strategies), request.get("strategy")
            raise HTTPException(404, f"strategy: expected one of {known}, got {came!r}")
        store, reader = self.datastore(), str(request.get("client_id") or "")
        chosen = self.hand_out.choose(reader, store, lambda images: strategy(request, images), exclude)
        if not chosen or not chosen.get("id"):
            return {}
        if self._auto_update_scoring:
            self.async_scoring(None)
        return {**chosen, "path": store.get_image_uri(chosen["id"])}

    def async_scoring(self, method: str | None, params: dict[str, Any] | None = None) -> Any:
        """Score the images that lack their score, beside the requests.

        Those of a DICOMweb server only when a method is named: every image is fetched for it.
        """
        if method not in (None, "", *self._scoring_methods):
            raise HTTPException(404, f"method: expected one of {sorted(self._scoring_methods)}, got {method!r}")
        store = self.datastore()
        if method and not isinstance(store, ClassStore):
            raise HTTPException(422, "scoring: scores are stored for a folder of images and for a DICOMweb server only")
        if not method and not (isinstance(store, ClassLabelStore) and self.uncertainty.unscored(store)):
            return {}
        return self.scoring_job.start()

    def _weights_changed(self, name: str) -> None:
        """Other weights are served: what was scored by the former ones is scored anew."""
        self.models.by_name[name] = self.tasks[name].model
        self.model = self.models.first
        self.images = ReadImages(self.models.by_name)  # what the former weights made of images goes
        if self._auto_update_scoring:
            self.async_scoring(None)

    def close(self) -> None:
        """Stop all work."""
        self.training.close()
        self.scoring_job.stop()
        self.queue.close()


def _is_address(studies: str) -> bool:
    return studies.startswith(("http://", "https://"))


def _check_apart(studies: Path, code: dict[str, Path]) -> None:
    """Clients write to the studies, so that no code must lie there."""
    for what, folder in code.items():
        if folder.resolve().is_relative_to(studies.resolve()):
            raise ValueError(f"studies: expected a folder of images, got {studies}, which holds {what} ({folder})")
