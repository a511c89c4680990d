"""`maskwright serve`: the page, the HTTP interface and the annotation backend."""

import logging
import os
from importlib.util import find_spec
from typing import Annotated

import typer

from maskwright.cli import options
from maskwright.cli.engine import Engine, describe_model
from maskwright.cli.environment import prepare
from maskwright.cli.guard import guarded, say
from maskwright.errors import MissingExtraError, SettingsError
from maskwright.methods import METHODS
from maskwright.serve.settings import DEFAULT_METHOD, ServeSettings, parse_bytes

PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart", "prometheus_client": "prometheus-client"}


@guarded
def serve(
    model: options.Model = "sticker",
    method: Annotated[
        str, typer.Option("--method", metavar="|".join(METHODS), help="The method of requests that name none.")
    ] = DEFAULT_METHOD,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 for every network of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="NUMBER", help="0 takes any free one.")] = 8000,
    token: Annotated[
        str | None, typer.Option(metavar="TEXT", envvar="MASKWRIGHT_TOKEN", help="Who asks must bear it.", show_default="everybody may ask")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further name of this server, as behind a proxy; can be repeated.")
    ] = None,
    max_upload: Annotated[str, typer.Option(metavar="SIZE", help="Of a request.")] = "20MB",
    max_pixels: Annotated[int, typer.Option(metavar="NUMBER", help="Of a picture.")] = 25_000_000,
    max_labels: Annotated[int, typer.Option(metavar="NUMBER", help="Labels and synonyms in a request.")] = 256,
    workers: Annotated[int, typer.Option(metavar="NUMBER", help="Threads beside the model's: decoding, scoring, drawing.")] = 2,
    queue: Annotated[int, typer.Option(metavar="NUMBER", help="Requests in progress; further ones are told to come back.")] = 64,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Of a request.")] = 60.0,
    cache: Annotated[str, typer.Option(metavar="SIZE", help="Memory of stored readings.")] = "1GB",
    keep: Annotated[float, typer.Option(metavar="SECONDS", help="How long a reading is kept after its last use.")] = 1800.0,
    batching: Annotated[bool, typer.Option("--batching/--no-batching", help="Whether waiting pictures share passes.")] = True,
    label_studio_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The Label Studio whose pictures may be fetched.", show_default="none")
    ] = None,
    label_studio_token: Annotated[
        str | None, typer.Option(metavar="TEXT", envvar="LABEL_STUDIO_API_KEY", help="An access token of it.", show_default="none")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch: options.Batch = "auto",
    offline: options.Offline = False,
) -> None:
    """Serve a page to type words into, an HTTP interface (described at /docs), and a backend for Label Studio.

    The address is printed as soon as requests are answered. Ctrl-C, or SIGTERM, ends it after what is in progress.
    """
    prepare(offline=offline)
    if token is None and os.environ.get("MASKWRIGHT_TOKEN") == "":  # typer takes an empty variable for none
        raise SettingsError("MASKWRIGHT_TOKEN is empty: give it a value, or unset it to let everybody ask")
    chosen = Engine(model=model, method=method, seed=seed, device=device, dtype=dtype, batch=batch, offline=offline)
    settings = ServeSettings(
        model=model, method=method, host=host, port=port, token=token, hosts=tuple(allow_host or ()),
        max_upload=parse_bytes(max_upload, "--max-upload"), max_pixels=max_pixels, max_labels=max_labels, workers=workers, queue=queue,
        timeout=timeout, cache_bytes=parse_bytes(cache, "--cache"), reading_ttl=keep, batching=batching, seed=seed, device=device,
        dtype=dtype, batch=chosen.pictures, offline=offline, label_studio_url=label_studio_url, label_studio_token=label_studio_token,
    )  # fmt: skip
    _need_packages()
    _log_plainly()
    from maskwright.serve import running
    from maskwright.serve.engine import Engine as ServedEngine
    from maskwright.serve.service import Service

    with running.listen(settings) as listener:
        if not settings.is_local and token is None:
            say(f"warning: everybody who reaches {host} may ask this server: give it a --token, or listen at 127.0.0.1")
        backbone = chosen.load_backbone()
        service = Service(settings, ServedEngine(backbone, method, seed=seed, batch=settings.batch))
        url = running.url_of(listener)
        say(f"{describe_model(backbone)}; {method}, interface at {url}/docs")
        running.serve(settings, service, listener, started=lambda: print(url, flush=True))


def _need_packages() -> None:
    for module, package in PACKAGES.items():
        if find_spec(module) is None:
            raise MissingExtraError(package, purpose="maskwright serve", extra="serve")


def _log_plainly() -> None:
    """Errors of requests go to stderr with their traces. Warnings do not: who asks gets them in the result, word for word."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.ERROR)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger("maskwright").handlers[:] = [handler]
