# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The app: a bundle's classifier, its scores and its datastore, in MONAI Label's terms."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from .. import __version__
from .active_learning import MostUncertain, UncertaintyScoring
from .bundle_model import BundleModel, find_default_bundle
from .infer_task import DiffusionClassifierTask
from .label_store import ClassLabelStore

__all__ = ["DiffusionClassifierApp"]


class DiffusionClassifierApp(MONAILabelApp):
    """A MONAI Label app that classifies with one of this package's bundles.

    The model is called as the bundle's folder; the scoring method is ``uncertainty``, the strategy ``most_uncertain``.

    Args:
        app_dir: the app's folder.
        studies: folder of images, or a DICOMweb address.
        conf: ``bundle``: the bundle's folder; by default the pneumonia bundle, where it is found.

    Raises:
        ValueError: when there is no such bundle, or ``conf`` has an unknown key.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        # server_mode is MONAI Label's own.
        if unknown := sorted((conf or {}).keys() - {"bundle", "server_mode"}):
            raise ValueError(f"conf: expected --conf bundle FOLDER, got {unknown}")
        self.model = BundleModel((conf or {}).get("bundle") or find_default_bundle())
        self.task = DiffusionClassifierTask(self.model)
        self.uncertainty = UncertaintyScoring(self.task)
        super().__init__(
            app_dir,
            studies,
            conf,
            name="MONAI Label - diffusion classifier",
            description=self.model.description,
            version=__version__,
            labels=self.model.classes,
        )

    def init_datastore(self) -> Datastore:
        """A folder keeps class names as labels; other datastores are as MONAI Label makes them."""
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        return ClassLabelStore(self.studies, self.model.classes)

    def init_infers(self) -> dict[str, InferTask]:
        """The classifier."""
        return {self.model.folder.name: self.task}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """The scores by which images are ranked."""
        return {"uncertainty": self.uncertainty}

    def init_strategies(self) -> dict[str, Strategy]:
        """The most uncertain image, or MONAI Label's random one."""
        return {"most_uncertain": MostUncertain(self.uncertainty), **super().init_strategies()}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """As MONAI Label's, but an unknown model is answered with status 404 and a reason."""
        if request.get("model") not in self._infers:
            raise HTTPException(404, f"model: expected one of {sorted(self._infers)}, got {request.get('model')!r}")
        return super().infer(request, datastore)  # type: ignore[no-any-return]

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """As MONAI Label's, but an unknown strategy is answered with status 404 and a reason."""
        if request.get("strategy") not in self._strategies:
            known, came = sorted(self._strategies), request.get("strategy")
            raise HTTPException(404, f"strategy: expected one of {known}, got {came!r}")
        return super().next_sample(request)  # type: ignore[no-any-return]

    def async_scoring(self, method: str | None, params: dict[str, Any] | None = None) -> Any:
        """As MONAI Label's, which starts a process at every request for an image; here only if one lacks its score."""
        if not method and not self.uncertainty.unscored(self.datastore()):
            return {}
        return super().async_scoring(method, params)
