"""`maskwright models`: what the catalogue holds, what of it is on this machine, and fetching the rest."""

from pathlib import Path
from typing import Annotated

import typer

from maskwright.backbones.catalog import CatalogRow, catalog
from maskwright.cli.environment import prepare
from maskwright.cli.guard import guarded, say
from maskwright.errors import ModelError

app = typer.Typer(help="List, describe or fetch models.", context_settings={"help_option_names": ["-h", "--help"]})
Name = Annotated[str, typer.Argument(metavar="NAME", help="A name of the catalogue, or a hub id.")]


@app.callback(invoke_without_command=True)
def bare(context: typer.Context) -> None:
    """List, describe or fetch models."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
@guarded
def list_models() -> None:
    """List the models that have a short name."""
    prepare(offline=True)
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "model", "side", "licence", "here", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for row in catalog().values():
        table.add_row(row.name, row.title, str(row.native), row.licence, "yes" if local_folder(row.name) else "no")
    Console(highlight=False).print(table)
    say("`maskwright models fetch NAME` brings a model; --model also takes a hub id or a folder.")


@app.command()
@guarded
def show(name: Name) -> None:
    """Describe a model."""
    prepare(offline=True)
    from rich.console import Console
    from rich.table import Table

    facts = _facts(catalog()[name]) if name in catalog() else {"name": name}
    folder = Path(name) if name not in catalog() and Path(name).is_dir() else local_folder(name)
    if folder is None:
        bundled = name in catalog() and catalog()[name].bundled
        facts["here"] = "no: install maskwright again" if bundled else f"no: `maskwright models fetch {name}` brings it"
    else:
        facts |= {"folder": str(folder), "size": _megabytes(folder), **_sidecar_facts(folder)}
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for key, value in facts.items():
        table.add_row(key, value)
    Console(markup=False, emoji=False, highlight=False).print(table)


@app.command()
@guarded
def fetch(name: Name) -> None:
    """Download a model, unless it is here, and print its folder."""
    prepare()
    from maskwright.backbones import hub

    folder = hub.fetch(name)
    if not folder.is_dir():
        raise ModelError(f"{name} belongs to the package but {folder} is missing: install maskwright again")
    print(folder)


def local_folder(name: str) -> Path | None:
    """Folder of a model that needs no download, None for one that does.

    Raises:
        ModelError: a name that is neither in the catalogue nor a hub id.
    """
    from maskwright.backbones import hub

    hub.identify(name)
    try:
        folder = hub.fetch(name, offline=True)
    except ModelError:
        return None
    return folder if folder.is_dir() else None


def _facts(row: CatalogRow) -> dict[str, str]:
    return {
        "name": row.name,
        "model": row.title,
        "licence": row.licence,
        "trained at": f"{row.native} x {row.native} pixels",
        "predicts": row.prediction,
        "hub id": row.repository or "none, it comes with the package",
        **({"revision": row.revision} if row.revision else {}),
        **({"gated": "yes: accept its terms on the hub, then run `hf auth login`"} if row.gated else {}),
    }


def _sidecar_facts(folder: Path) -> dict[str, str]:
    """What a model's own maskwright.json says of its words."""
    import json

    from maskwright.backbones.hub import CLIP, SIDECAR

    try:
        content = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = content.get("labels") or content.get("words", ())
    own = {"filter": "--filter clip uses a CLIP of its own, which knows the same words"} if (folder / CLIP).is_dir() else {}
    return {"advice": content.get("advice", ""), **own, "knows": ", ".join(known)}


def _megabytes(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:.1f} MB"
