"""The addresses under /v1, and those that tell how the server is."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Path, Query, Request, UploadFile
from starlette.datastructures import UploadFile as FormFile
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from maskwright import __version__
from maskwright.backbones.catalog import catalog
from maskwright.methods import DISCOVERY_METHODS, READ_ONCE, REGION_METHODS
from maskwright.record import plain
from maskwright.refine import REFINERS
from maskwright.serve import results, schemas
from maskwright.serve.engine import Engine
from maskwright.serve.metrics import CONTENT_TYPE
from maskwright.serve.options import DiscoverOptions, RegionOptions, SegmentOptions
from maskwright.serve.problems import Problem
from maskwright.serve.readings import StoredReading
from maskwright.serve.service import Service, Source
from maskwright.text.wording import PROMPTINGS
from maskwright.vocabulary import Vocabulary

PICTURE = {"type": "string", "format": "binary", "description": "The file: JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, PPM or AVIF."}
UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": {"image": PICTURE}, "required": ["image"]}},
            "image/*": {"schema": PICTURE},
            "application/octet-stream": {"schema": PICTURE},
        },
    }
}
PNG: dict[str, Any] = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
Id = Annotated[str, Path(alias="id", description="Of a stored reading.", max_length=100)]
Image = Annotated[UploadFile, File(description=PICTURE["description"])]
LabelText = Annotated[str, Form(description='Labels separated by commas: "dog, red apple, cat|kitten".', examples=["dog, cat|kitten"])]
OptionalLabelText = Annotated[str | None, Form(description="As for /v1/segment; left out for none.")]
BackgroundText = Annotated[str, Form(description='A threshold, a word, "none" or "auto".', max_length=5000)]
RegionsText = Annotated[Literal["auto"] | Annotated[int, Form(ge=1, le=1000)] | None, Form(description='How many, or "auto".')]


def errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Answers that a route may give instead, for OpenAPI."""
    told = {
        400: "The request cannot be read.", 401: "The token is missing or wrong.",
        404: "There is no such reading (any more): upload again.",
        413: "Too many bytes, pixels or labels.", 415: "Neither a form nor a picture.", 422: "Something in the request cannot be used.",
        429: "The server is busy; Retry-After says when to ask again.", 503: "The server is starting or shutting down.",
        504: "It took too long.",
    }  # fmt: skip
    return {code: {"model": schemas.ErrorAnswer, "description": told[code]} for code in (*codes, 401, 413, 422, 429, 503, 504)}


def router(service: Service) -> APIRouter:
    """All routes of the interface."""
    routes = APIRouter()
    for part in (_readings(service), _pictures(service), _server(service)):
        routes.include_router(part)
    return routes


def _readings(service: Service) -> APIRouter:
    """Upload once, ask often."""
    routes = APIRouter(tags=["readings"])
    segmented = {200: {"model": schemas.SegmentAnswer, "content": PNG}, **errors(404)}
    discovered = {200: {"model": schemas.DiscoverAnswer, "content": PNG}, **errors(404)}

    @routes.post("/v1/readings", status_code=201, response_model=schemas.ReadingAnswer, responses=errors(400, 415), openapi_extra=UPLOAD)
    async def upload(request: Request, name: Annotated[str, Query(description="What results call it.", max_length=300)] = "") -> Response:
        """Reads a picture once. Words are then asked of its reading, each in milliseconds."""
        data, file_name = await _picture_of(request)
        stored = await service.upload(data, name or file_name)
        return JSONResponse(_reading(service, stored), 201)

    @routes.get("/v1/readings/{id}", response_model=schemas.ReadingAnswer, responses=errors(404))
    async def look(reading_id: Id) -> Response:
        """Whether a reading is still there; asking keeps it."""
        return JSONResponse(_reading(service, service.find(reading_id)))

    @routes.delete("/v1/readings/{id}", status_code=204, responses=errors(404))
    async def drop(reading_id: Id) -> Response:
        """Forgets a reading and its picture."""
        service.drop(reading_id)
        return Response(status_code=204)

    @routes.post("/v1/readings/{id}/segment", responses=segmented)
    async def segment(reading_id: Id, body: schemas.SegmentRequest) -> Response:
        """Segments by words. Neither new words, nor another threshold, nor a method that was asked before needs a pass of the model."""
        return await _segment(service, service.find(reading_id), body, body.format)

    @routes.post("/v1/readings/{id}/point", response_model=schemas.PointAnswer, responses=errors(404))
    async def point(reading_id: Id, body: schemas.PointRequest) -> Response:
        """The label of one pixel, and the score of each label there."""
        found = await service.segment(service.find(reading_id), *_question(service, body))
        return _answer(await service.light(results.render_point, found, body.x, body.y))

    @routes.post("/v1/readings/{id}/regions", responses=segmented)
    async def regions(reading_id: Id, body: schemas.RegionsRequest) -> Response:
        """Finds regions without words; labels name them."""
        return await _regions(service, service.find(reading_id), body)

    @routes.post("/v1/readings/{id}/discover", responses=discovered)
    async def discover(reading_id: Id, body: schemas.DiscoverRequest) -> Response:
        """Finds the object of the picture, in a pass of its own under the words that are looked for."""
        return await _discover(service, service.find(reading_id), body)

    @routes.get("/v1/readings/{id}/heat", response_class=Response, responses={200: {"content": PNG}, **errors(404)})
    async def heat(
        reading_id: Id, label: Annotated[str, Query(description="One label, with synonyms after |.", max_length=5000, examples=["dog"])],
        method: schemas.Method = None, prompting: schemas.Prompting = None, refine: schemas.Refine = "none",
        form: Annotated[schemas.HeatForm, Query(alias="format")] = "map",
    ) -> Response:  # fmt: skip
        """The score of one label everywhere. X-Score-Low and X-Score-High are the scores at the darkest and the brightest value."""
        stored = service.find(reading_id)
        scores = await service.heat(stored, label, SegmentOptions(method=method, prompting=prompting, refine=refine))
        return _answer(await service.light(results.render_heat, scores, stored.picture, form))

    return routes


def _pictures(service: Service) -> APIRouter:
    """A picture and a question in one request; nothing is kept."""
    routes = APIRouter(tags=["pictures"])
    segmented = {200: {"model": schemas.SegmentAnswer, "content": PNG}, **errors(400)}
    discovered = {200: {"model": schemas.DiscoverAnswer, "content": PNG}, **errors(400)}

    @routes.post("/v1/segment", responses=segmented)
    async def segment(
        image: Image, labels: LabelText, method: Annotated[schemas.Method, Form()] = None,
        prompting: Annotated[schemas.Prompting, Form()] = None, background: BackgroundText = "auto",
        refine: Annotated[schemas.Refine, Form()] = "none", form: Annotated[schemas.SegmentationForm, Form(alias="format")] = "json",
    ) -> Response:  # fmt: skip
        """Segments a picture by words."""
        body = schemas.SegmentQuestion(labels=labels, method=method, prompting=prompting, background=background, refine=refine)
        _question(service, body)  # labels are checked before the picture is decoded
        return await _segment(service, await _decode(service, image), body, form)

    @routes.post("/v1/regions", responses=segmented)
    async def regions(
        image: Image, labels: OptionalLabelText = None, method: Annotated[schemas.Method, Form()] = None, regions: RegionsText = None,
        refine: Annotated[schemas.Refine, Form()] = "none", form: Annotated[schemas.SegmentationForm, Form(alias="format")] = "json",
    ) -> Response:  # fmt: skip
        """Finds the regions of a picture without words; labels name them."""
        body = schemas.RegionsRequest(labels=labels or None, method=method, regions=regions, refine=refine, format=form)
        return await _regions(service, await _decode(service, image), body)

    @routes.post("/v1/discover", responses=discovered)
    async def discover(
        image: Image, labels: OptionalLabelText = None, match: Annotated[bool, Form()] = False,
        method: Annotated[schemas.Method, Form()] = None, refine: Annotated[schemas.Refine, Form()] = "none",
        form: Annotated[schemas.DiscoveryForm, Form(alias="format")] = "json", box: Annotated[bool, Form()] = False,
    ) -> Response:  # fmt: skip
        """Finds the object of a picture: its mask and its box."""
        body = schemas.DiscoverRequest(labels=labels or None, match=match, method=method, refine=refine, format=form, box=box)
        return await _discover(service, await _decode(service, image), body)

    return routes


def _server(service: Service) -> APIRouter:
    """How the server is, and what it can do."""
    routes = APIRouter(tags=["server"])

    @routes.get("/health", response_model=schemas.HealthAnswer, responses={503: {"model": schemas.HealthAnswer}})
    async def health() -> Response:
        """Whether requests are answered; needs no token."""
        ready = service.is_ready
        answer = schemas.HealthAnswer(
            status="UP" if ready else "DOWN", ok=ready, loaded=service.is_loaded, model=service.settings.model, version=__version__
        )  # fmt: skip
        return JSONResponse(answer.model_dump(), 200 if ready else 503)

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The loaded model, its methods with their settings, and the models that have a short name."""
        return _models(service)

    return routes


async def _picture_of(request: Request) -> tuple[bytes, str]:
    """The bytes and the name of an upload: the field `image` of a form, or the body itself."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            async with request.form(max_files=1, max_fields=8) as form:
                image = form.get("image")
                if not isinstance(image, FormFile):
                    raise Problem(422, "bad_request", "image: the form needs a file field of this name")
                return await image.read(), image.filename or ""
        if kind.startswith("image/") or kind == "application/octet-stream":
            return await request.body(), ""
    except ClientDisconnect as error:
        raise Problem(400, "bad_request", "the upload ended before it was whole") from error
    message = "send a form (multipart/form-data) with the file field image, or the picture's bytes as image/*"
    raise Problem(415, "wrong_content_type", message)


async def _decode(service: Service, image: UploadFile) -> Source:
    return await service.decode(await image.read(), image.filename or "")


def _question(service: Service, body: schemas.SegmentQuestion) -> tuple[Vocabulary, SegmentOptions]:
    """Labels and options, checked."""
    labels = service.vocabulary(body.labels)
    options = SegmentOptions(method=body.method, prompting=body.prompting, background=body.background, refine=body.refine)
    service.scored_labels(labels, options)
    return labels, options


async def _segment(service: Service, source: Source, body: schemas.SegmentQuestion, form: str) -> Response:
    found = await service.segment(source, *_question(service, body))
    return _answer(await service.light(results.render_segmentation, found, form))


async def _regions(service: Service, source: Source, body: schemas.RegionsRequest) -> Response:
    labels = None if body.labels is None else service.vocabulary(body.labels)
    options = RegionOptions(method=body.method, regions=body.regions, labels=labels, refine=body.refine)
    found = await service.regions(source, options)
    return _answer(await service.light(results.render_segmentation, found, body.format))


async def _discover(service: Service, source: Source, body: schemas.DiscoverRequest) -> Response:
    labels = None if body.labels is None else service.vocabulary(body.labels)
    options = DiscoverOptions(method=body.method, labels=labels, match=body.match, refine=body.refine)
    found = await service.discover(source, options)
    return _answer(await service.light(results.render_discovery, found, body.format, box=body.box))


def _answer(rendered: results.Rendered) -> Response:
    return Response(rendered.content, media_type=rendered.media_type, headers=dict(rendered.headers))


def _reading(service: Service, stored: StoredReading) -> dict[str, Any]:
    left = max(0.0, stored.expires - service.readings.clock())
    expires = datetime.now(UTC) + timedelta(seconds=left)
    height, width = stored.picture.size
    return {
        "id": stored.id, "name": stored.picture.name, "width": width, "height": height,
        "expires": expires.isoformat(timespec="seconds").replace("+00:00", "Z"), "expires_in": round(left, 1),
    }  # fmt: skip


def _models(service: Service) -> dict[str, Any]:
    engine, settings = service.engine, service.settings
    info = engine.backbone.info
    kinds = {"segment": READ_ONCE, "regions": REGION_METHODS, "discover": DISCOVERY_METHODS}
    areas, objects, heats = results.SEGMENTATION_FORMS, results.DISCOVERY_FORMS, results.HEAT_FORMS
    forms: dict[str, Mapping[str, Any]] = {"segment": areas, "regions": areas, "discover": objects, "heat": heats}
    return {
        "loaded": {
            "name": info.name, "source": info.source, "revision": info.revision, "licence": info.licence,
            "device": str(engine.backbone.device), "dtype": str(engine.backbone.dtype).removeprefix("torch."),
            "native": info.native, "advice": info.advice,
            "objects": None if info.objects is None else list(info.objects), "words": None if info.words is None else list(info.words),
        },
        "version": __version__,
        "default": engine.default,
        "methods": {kind: [_method(engine, name) for name in names] for kind, names in kinds.items()},
        "promptings": list(PROMPTINGS), "refiners": list(REFINERS), "formats": {kind: list(names) for kind, names in forms.items()},
        "limits": {
            "upload_bytes": settings.max_upload, "pixels": settings.max_pixels, "labels": settings.max_labels,
            "reading_seconds": settings.reading_ttl,
        },
        "catalogue": [
            {"name": row.name, "title": row.title, "licence": row.licence, "gated": row.gated, "native": row.native}
            for row in catalog().values()
        ],
    }  # fmt: skip


def _method(engine: Engine, name: str) -> dict[str, Any]:
    method = engine.methods[name]
    facts: dict[str, Any] = {"name": name, "meaning": method.meaning, "model_version": engine.model_version(name)}
    if name in READ_ONCE:
        facts |= {"background": method.background, "prompting": method.prompting}
    return {**facts, "settings": plain(method)}
