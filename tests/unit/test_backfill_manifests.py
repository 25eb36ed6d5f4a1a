"""The manifests on the page about backfill: a Job that Kubernetes accepts, and commands that exist."""

import shlex
from collections.abc import Sequence
from typing import Any

import kubernetes_validate
import typer
import yaml

from pg_semantic import cli
from tests import documents

PAGE = documents.ROOT / "docs" / "how-to" / "backfill-on-several-machines.md"


def manifests() -> dict[str, Any]:
    """The manifests by their kind."""
    found = [yaml.safe_load(block) for block in documents.blocks(PAGE, "yaml")]
    return {one["kind"]: one for one in found}


def parsed(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of a command line after ``pg-semantic``."""
    name, *rest = arguments
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, rest) as context:
        return dict(context.params)


def test_the_job_is_one_that_kubernetes_accepts_and_runs_a_backfill() -> None:
    job = manifests()["Job"]
    kubernetes_validate.validate(job, "1.30", strict=True)
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert parsed(container["args"])["rows_only"]


def test_the_job_of_ray_starts_no_more_workers_than_it_can_have_machines() -> None:
    spec = manifests()["RayJob"]["spec"]
    program, *arguments = shlex.split(spec["entrypoint"])
    assert program == "pg-semantic"
    given = parsed(arguments)
    [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    assert int(given["workers"].split(":")[1]) == group["maxReplicas"]
    assert given["gpus_per_worker"] == container["resources"]["limits"]["nvidia.com/gpu"]
    assert "DSN" not in spec["entrypoint"]
