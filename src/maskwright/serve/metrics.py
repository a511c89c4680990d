"""What the server counts, as Prometheus text. Each application has a registry of its own."""

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 32)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))


class Metrics:
    """Counters of one application. The routes of unknown addresses are counted as one, so that nobody can make names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        named: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("maskwright_requests", "Requests answered.", ["method", "route", "code"], **named)
        self.seconds = Histogram("maskwright_request_seconds", "From request to answer.", ["route"], buckets=SECONDS, **named)
        self.refused = Counter("maskwright_refused", "Requests refused before any work, by reason.", ["reason"], **named)
        self.batches = Histogram("maskwright_batch_size", "Pictures that shared a pass of the model.", ["kind"], buckets=BATCHES, **named)
        self.passes = Histogram("maskwright_pass_seconds", "Time of the model's thread for a batch.", ["kind"], buckets=SECONDS, **named)
        self.dropped = Counter("maskwright_readings_dropped", "Stored readings dropped: memory, time or asked.", ["why"], **named)

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Adds a value that is looked up whenever it is asked for."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


class Counted:
    """Around all layers: counts each request with its route, answer and time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the layers inside."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, code = time.perf_counter(), 500

        async def noticed(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noticed)
        finally:
            route = route_of(scope)
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(method, route, str(code)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - began)


def route_of(scope: Scope) -> str:
    """The pattern that an address matched, "other" where none did."""
    return str(getattr(scope.get("route"), "path", "other"))
