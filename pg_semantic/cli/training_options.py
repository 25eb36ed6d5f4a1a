"""Options that the commands under ``pg-semantic train`` share."""

from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(help="The name of the semantic index.")]
Epochs = Annotated[int, typer.Option(help="How many epochs at most.", min=1)]
HeldOut = Annotated[float, typer.Option(help="Share of the queries to hold out.")]
Seconds = Annotated[float | None, typer.Option(help="How long everything may take.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result on the same machine.")]
Keep = Annotated[bool, typer.Option("--keep", help="Write the folder even without a gain.")]
FromTrained = Annotated[
    bool, typer.Option("--from-trained", help="Start from weights even if they were already trained.")
]
