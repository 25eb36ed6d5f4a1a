"""Options that the commands under ``pg-semantic train`` share."""

from typing import Annotated

import typer

from pg_semantic.index import seeds

Name = Annotated[str, typer.Argument(help="The name of the semantic index.")]
Epochs = Annotated[int, typer.Option(help="How many epochs at most.", min=1)]
HeldOut = Annotated[float, typer.Option(help="Share of the queries to hold out.")]
Seconds = Annotated[float | None, typer.Option(help="How long everything may take.")]
Seed = Annotated[
    int, typer.Option(help="The same seed gives the same result on the same machine.", min=0, max=seeds.MOST)
]
Keep = Annotated[bool, typer.Option("--keep", help="Write the folder even without a gain.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue a training to this folder that was stopped, if there is one.")
]
CheckpointMinutes = Annotated[
    float, typer.Option(metavar="MINUTES", help="How often to write what --resume needs, next to the folder.")
]
FromTrained = Annotated[
    bool, typer.Option("--from-trained", help="Start from weights even if they were already trained.")
]
