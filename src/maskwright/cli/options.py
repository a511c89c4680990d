"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Inputs = Annotated[list[str], typer.Argument(metavar="INPUT", help="Files, folders (with all below), patterns; - for standard input.")]
LabelsFile = Annotated[Path | None, typer.Option(metavar="FILE", help="One label a line, or a JSON list.")]
Method = Annotated[
    str,
    typer.Option(
        "--method", metavar="diffsegmenter|maskdiffusion|word-shares|foreground-first|diffusion-classifier", help="How the model is read."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method, as in --set hops=2; can be repeated."),
]
Model = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME|ID|FOLDER", help="A name of `maskwright models`, a hub id or a folder.")
]
Prompting = Annotated[
    str | None,
    typer.Option(
        "--prompting", metavar="shared|per-label|joint", help="How labels become prompts.", show_default="the method's own"
    ),
]
Filter = Annotated[
    str, typer.Option("--filter", metavar="none|clip|clip+crops|clip+caption", help="Let only labels compete that fit the picture.")
]
Flip = Annotated[bool, typer.Option("--flip", help="Read each picture in a mirror as well, and take the mean: twice the time.")]
Clip = Annotated[
    str, typer.Option("--clip", metavar="FOLDER|ID", help="The CLIP model of --filter.", show_default="the model's own, if it has one")
]
Refine = Annotated[str, typer.Option("--refine", metavar="none|guided|pamr", help="Draw masks to the picture's edges.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the results go.")]
Seed = Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Of the noise.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where the model runs.")]
Dtype = Annotated[str, typer.Option("--dtype", metavar="auto|float32|float16|bfloat16", help="What it computes in.")]
Batch = Annotated[str, typer.Option("--batch", metavar="auto|NUMBER", help="Pictures in one call of the model.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]
Resume = Annotated[bool, typer.Option("--resume", help="Keep the results of an earlier run that asked for the same.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per picture and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings and errors.")]
