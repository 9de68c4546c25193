# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The FastAPI application, for ``--uvicorn_app monai_diffclf.monailabel.server:app``.

It has MONAI Label's routes as far as this app needs them, with what comes from clients checked, behind a `Guard`. What
is not named here is not served.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import requests
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.config import settings
from monailabel.endpoints import login
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from .datastore_routes import router as datastore_router
from .guard import Guard
from .infer_routes import infer_router, session_router
from .options import ServerOptions
from .parameters import the_app
from .reader_routes import page_router
from .reader_routes import router as reader_router
from .task_routes import login_router
from .task_routes import router as task_router
from .train_routes import train_router

__all__ = ["app", "build_app"]

# The fields of forms that bring a file.
_FILES = {
    "file": "a file",
    "files": "a file",
    "label": "a file, JSON such as {} where params names the class",
}


def build_app(options: ServerOptions) -> FastAPI:
    """The application.

    Args:
        options: who may call, and how much may come.
    """
    own_login = bool(settings.MONAI_LABEL_AUTH_ENABLE)
    if own_login and options.token:
        raise ValueError("token_file: MONAI Label's login is on (MONAI_LABEL_AUTH_ENABLE); use one of the two")
    origins = [str(origin).rstrip("/") for origin in settings.MONAI_LABEL_CORS_ORIGINS]
    middleware = [Middleware(Guard, options=options, origins=origins, login=own_login)]
    if origins:
        # Before the guard, which would refuse the browser's question whether it may ask: it has no token.
        cors = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["authorization"])
        middleware.insert(0, cors)
    made = FastAPI(
        title=settings.MONAI_LABEL_PROJECT_NAME,
        docs_url=None,  # these pages load programs from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        middleware=middleware,
    )
    made.add_exception_handler(RequestValidationError, _invalid)
    for kind in (ImageNotFoundException, LabelNotFoundException):
        made.add_exception_handler(kind, _not_found)
    made.add_exception_handler(MONAILabelException, _not_possible)
    made.add_exception_handler(requests.RequestException, _no_answer)
    made.add_exception_handler(Exception, _unexpected)
    prefix = settings.MONAI_LABEL_API_STR
    made.include_router(login.router if own_login else login_router(options), prefix=prefix)
    routers = (train_router, task_router, datastore_router, session_router, infer_router, reader_router, page_router)
    for router in routers:
        made.include_router(router, prefix=prefix)
    return made


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    instance = the_app()
    instance.server_mode(True)
    instance.on_init_complete()
    yield
    instance.close()


def _invalid(_: Request, error: Any) -> JSONResponse:
    """A request's parameters are not as expected: one line for each."""
    lines = []
    for one in error.errors():
        name = next((str(part) for part in reversed(one["loc"]) if isinstance(part, str)), "request")
        text = _plain(one)
        lines.append(text if text.startswith(f"{name}:") or "expected a plain name" in text else f"{name}: {text}")
    return JSONResponse({"detail": "; ".join(lines)}, 422)


def _plain(error: Mapping[str, Any]) -> str:
    """What is wrong with one parameter; of one that is missing, what was expected and where."""
    text = str(error["msg"]).removeprefix("Value error, ")
    where, *names = error["loc"]
    name = next((each for each in names if isinstance(each, str)), "")
    missing = error["type"] == "missing"
    if where == "body" and name in _FILES and (missing or text.startswith("Expected UploadFile")):
        return f"expected {_FILES[name]}; send it as multipart/form-data, as curl -F {name}=@FILE does"
    if not missing:
        return text
    return (
        f"expected in the address, as ?{name}=..., got none" if where == "query" else "expected in the body, got none"
    )


def _not_found(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(getattr(error, "msg", error))}, 404)


def _not_possible(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(getattr(error, "msg", error))}, 422)


def _no_answer(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"the DICOMweb server does not answer: {type(error).__name__}"}, 502)


def _unexpected(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"unexpected {type(error).__name__}; the server's log says more"}, 500)


app = build_app(ServerOptions.from_conf(settings.MONAI_LABEL_APP_CONF))
