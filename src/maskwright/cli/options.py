"""Options that several commands have."""

from typing import Annotated

import typer

Method = Annotated[str, typer.Option("--method", metavar="diffsegmenter|maskdiffusion", help="How the model is read.")]
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
Refine = Annotated[str, typer.Option("--refine", metavar="none|guided|pamr", help="Draw masks to the picture's edges.")]
Seed = Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Of the noise.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where the model runs.")]
Dtype = Annotated[str, typer.Option("--dtype", metavar="auto|float32|float16|bfloat16", help="What it computes in.")]
Batch = Annotated[str, typer.Option("--batch", metavar="auto|NUMBER", help="Pictures in one call of the model.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]
