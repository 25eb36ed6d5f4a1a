"""The files that containers are made from: valid, without secrets, without privileges, and in step with the package."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pg_semantic import cli

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = [name for name in SERVICES if name != "db"]


def test_the_compose_file_is_as_the_specification_has_it() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", OURS)
def test_what_a_container_runs_is_a_command_of_ours(name: str) -> None:
    for arguments in (SERVICES[name]["command"], SERVICES[name].get("healthcheck", {}).get("test", ["", ""])[2:]):
        if not arguments or arguments[0] == "-c":
            continue
        command: Any = typer.main.get_command(cli.app)
        rest = list(arguments)
        while True:
            with command.make_context(command.name, list(rest)) as context:
                if not hasattr(command, "resolve_command"):
                    break
                _, command, rest = command.resolve_command(context, rest)


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_has_a_default_and_nothing_is_published_beyond_this_machine(name: str) -> None:
    service = SERVICES[name]
    for variable, value in service["environment"].items():
        if re.search("PASSWORD|KEY|SECRET", variable):
            assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value)
        assert not re.search(r"://[^/@]*:[^/@]*@", value)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_database_has_the_owner_of_the_documents_and_asks_for_passwords() -> None:
    made = SERVICES["db"]["environment"]
    [script] = SERVICES["db"]["configs"]
    assert script == {"source": "owner", "target": "/docker-entrypoint-initdb.d/owner.sql"}
    assert made["POSTGRES_INITDB_ARGS"] == "--auth-host=scram-sha-256"
    dsn = f"postgresql://app_owner@db/{made['POSTGRES_DB']}"
    assert {SERVICES[name]["environment"]["PG_SEMANTIC_DSN"] for name in OURS} == {dsn}
    assert "CREATE ROLE app_owner " not in (ROOT / "docs/how-to/deploy.md").read_text()
    assert "IN ROLE app_owner;" in (ROOT / "docs/how-to/deploy.md").read_text()


@pytest.mark.parametrize("name", OURS)
def test_a_container_of_ours_has_no_privileges_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    target = service["build"]["target"]
    assert re.search(rf"^FROM base AS {target}$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^USER semantic$", DOCKERFILE.partition("AS base")[2].partition("FROM")[0], re.MULTILINE)


def test_the_image_is_made_of_extras_that_there_are_and_of_files_that_are_sent() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for found in re.findall(r'"\.\[(.+)\]"', DOCKERFILE) for extra in found.split(",")}
    assert named
    assert named <= extras.keys()
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {word for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]}
    assert copied == sent
