"""A server in the test's own process, on a tiny model or the bundled one."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from maskwright.backbones.contract import DrawingBackbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.serve.app import create_app
from maskwright.serve.engine import Engine
from maskwright.serve.service import Service
from maskwright.serve.settings import ServeSettings
from tests.tiny import build_backbone, pixels

SMALL = [2, 1]
SUITED: dict[str, Any] = {  # what the methods need on a model of two grids
    "maskdiffusion": {"attention_factors": [1, 2], "feature_factors": SMALL, "timesteps": [100], "noise": True},
    "maskdiffusion-unsupervised": {"feature_factors": SMALL, "timesteps": [100], "noise": True},
    "kmeans": {"feature_factors": SMALL, "regions": 3}, "diffseg": {"threshold": 0.25},
    "attentioncut": {"attention_factors": [1, 2], "grid_factor": 1},
}  # fmt: skip


@cache
def tiny() -> UNetBackbone:
    """16 x 16 pixels; diffsegmenter, maskdiffusion and maskdiffusion-unsupervised share a pass, kmeans and the others have their own."""
    return build_backbone(sidecar={"methods": SUITED, "objects": ["dog", "cat|kitten"]})


def png(picture: np.ndarray | None = None, *, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    stream = io.BytesIO()
    Image.fromarray(pixels() if picture is None else picture).save(stream, kind, **options)
    return stream.getvalue()


def make_service(backbone: DrawingBackbone | None = None, *, clock: Any = None, **settings: Any) -> Service:
    """A service on a loaded model, the tiny one unless given; batches of four."""
    chosen = ServeSettings(**{"batch": 4, "method": "diffsegmenter", **settings})
    engine = Engine(tiny() if backbone is None else backbone, chosen.method, batch=chosen.batch)
    return Service(chosen, engine, **({} if clock is None else {"clock": clock}))


@contextmanager
def running(service: Service | None = None, **settings: Any) -> Iterator[TestClient]:
    """A client of a started server; an error that the server did not foresee is raised here, too."""
    service = make_service(**settings) if service is None else service
    with TestClient(create_app(service.settings, service), base_url="http://localhost") as client:
        yield client


def upload(client: TestClient, data: bytes | None = None, **options: Any) -> str:
    """The id of a picture that the server has read."""
    answer = client.post("/v1/readings", files={"image": ("dog.png", png() if data is None else data)}, **options)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def code(answer: Any) -> tuple[int, str]:
    """Status and error code of an answer that is an error in the one form there is."""
    body = answer.json()
    assert list(body) == ["error"] and sorted(body["error"]) == ["code", "message"], body
    assert "\n" not in body["error"]["message"] and "Traceback" not in answer.text
    return answer.status_code, body["error"]["code"]
