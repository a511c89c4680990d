"""The command `maskwright`. Nothing here imports torch or numpy: help and version answer at once."""

import contextlib
import io
import sys
from typing import Annotated

import typer

from maskwright import __version__
from maskwright.cli.discover import discover
from maskwright.cli.distill import distill
from maskwright.cli.doctor import doctor
from maskwright.cli.evaluate import evaluate
from maskwright.cli.models import app as models
from maskwright.cli.regions import regions
from maskwright.cli.report import report
from maskwright.cli.reproduce import reproduce
from maskwright.cli.scenes import benchmark_scenes
from maskwright.cli.segment import segment
from maskwright.cli.serve import serve
from maskwright.cli.synthesize import synthesize
from maskwright.cli.train import train

app = typer.Typer(
    name="maskwright", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.command()(segment)
app.command()(regions)
app.command()(discover)
app.command()(synthesize)
app.command()(train)
app.command()(distill)
app.add_typer(models, name="models")
app.command()(evaluate)
app.command()(report)
app.command()(reproduce)
app.command("benchmark-scenes")(benchmark_scenes)
app.command()(serve)
app.command()(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"maskwright {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Segmentation read out of frozen text-to-image diffusion models: words, or nothing at all, in; masks out."""


def main() -> None:
    """Runs the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold what the terminal cannot show
    with contextlib.suppress(BrokenPipeError):
        app()
