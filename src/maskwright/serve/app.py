"""The application: the page, the interface, the annotation backend, and the layers around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse, HTMLResponse, Response

from maskwright import __version__
from maskwright.serve import api, label_studio
from maskwright.serve.docs_page import write_docs
from maskwright.serve.limits import BodyLimit, Slots
from maskwright.serve.metrics import Counted
from maskwright.serve.problems import Guard, Problem, install
from maskwright.serve.security import Doorkeeper
from maskwright.serve.service import Service
from maskwright.serve.settings import ServeSettings

PAGE = Path(__file__).parent / "page"
DESCRIPTION = (
    "Words and pictures in, masks out. Upload a picture once to /v1/readings and ask its reading for any words, or send picture and words "
    'together to /v1/segment. Every error is {"error": {"code", "message"}}; codes are stable.'
)
TAGS = [
    {"name": "readings", "description": "Upload once, ask often: a stored reading answers new words without the model."},
    {"name": "pictures", "description": "Picture and question in one request; nothing is kept."},
    {"name": "server", "description": "How the server is, and what it can do."},
    {"name": "label studio", "description": "A machine learning backend for Label Studio."},
]


def create_app(settings: ServeSettings, service: Service | None = None) -> FastAPI:
    """The application of a server.

    Layers, from the outside: counting, errors as JSON, names and token, slots and time, size of bodies, routes.

    Args:
        settings: of the server.
        service: answers; None makes one that loads its model when the application starts.

    Raises:
        SettingsError: settings that do not go together.
    """
    served = Service(settings) if service is None else service

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await served.start()
        try:
            yield
        finally:
            await served.stop()

    app = FastAPI(
        title="maskwright", version=__version__, description=DESCRIPTION, openapi_tags=TAGS, lifespan=life, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.service = served
    install(app)
    app.include_router(api.router(served))
    app.include_router(label_studio.router(served))
    _add_pages(app)
    for layer, options in _layers(served):  # the last one added is the outermost
        app.add_middleware(layer, **options)
    return app


def _layers(service: Service) -> list[tuple[Any, dict[str, Any]]]:
    """From the inside to the outside."""
    settings = service.settings
    return [
        (BodyLimit, {"settings": settings}), (Slots, {"service": service}), (Doorkeeper, {"settings": settings}), (Guard, {}),
        (Counted, {"metrics": service.metrics}),
    ]  # fmt: skip


def _add_pages(app: FastAPI) -> None:
    """What people look at: the page, its files, and the documentation, none of which loads anything from elsewhere.

    Files are looked up in a list that is made at the start, so that no name of a request ever becomes a path.
    """
    files = {path.relative_to(PAGE).as_posix(): path for path in PAGE.rglob("*") if path.is_file()}

    def file(name: str) -> Response:
        if name not in files:
            raise Problem(404, "not_found", "there is no such file; the interface is described at /docs")
        return FileResponse(files[name], headers={"Cache-Control": "no-cache"})

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return file("index.html")

    @app.get("/static/{name:path}", include_in_schema=False)
    async def static(name: str) -> Response:
        return file(name)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(write_docs(app.openapi()))
