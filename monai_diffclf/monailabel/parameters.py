# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Parameters that several routes take, checked by their types."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from pydantic import AfterValidator

from .app import DiffusionClassifierApp
from .names import check_name

__all__ = [
    "Admin",
    "Annotator",
    "ImageId",
    "LabelId",
    "ModelName",
    "OptionalImageId",
    "Reader",
    "SessionId",
    "Tag",
    "the_app",
]


def _named(what: str, *, may_be_empty: bool = False) -> Any:
    return AfterValidator(lambda name: name if may_be_empty and not name else check_name(name, what))


ImageId = Annotated[str, _named("image")]
LabelId = Annotated[str, _named("label")]
SessionId = Annotated[str, _named("session_id", may_be_empty=True)]
OptionalImageId = Annotated[str, _named("image", may_be_empty=True)]
Tag = Annotated[str, _named("tag", may_be_empty=True)]
ModelName = Annotated[str, _named("name")]

# MONAI Label's roles, which count where its login is switched on.
Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Annotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
Admin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]


def the_app() -> DiffusionClassifierApp:
    """The app that MONAI Label made of its settings."""
    app: DiffusionClassifierApp = app_instance()
    return app
