"""``--help`` of every command: whole words and whole commands at any width, and `--yes` for all of a group."""

from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperCommand
from typer.testing import CliRunner

from pg_semantic import cli

READ_ONLY = {"index forecast", "db current", "db check", "index list", "generation status", "generation compare"}


def commands() -> Iterator[tuple[str, TyperCommand]]:
    """Every command that is not hidden, by its words."""
    found = typer.main.get_command(cli.app)
    for name, command in sorted(found.commands.items()):  # type: ignore[attr-defined]
        inside = getattr(command, "commands", None)
        if inside is None:
            yield name, command
        else:
            yield from ((f"{name} {inner}", inside[inner]) for inner in sorted(inside))


COMMANDS = dict(commands())


def shown(command: str, columns: int) -> str:
    done = CliRunner().invoke(cli.app, [*command.split(), "--help"], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_breaks_no_word_and_no_command(command: str, columns: int) -> None:
    lines = shown(command, columns).splitlines()
    assert [line for line in lines if line.count("`") % 2] == []
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
    assert set((COMMANDS[command].help or "").split()) <= set(" ".join(lines).split())


@pytest.mark.parametrize("command", COMMANDS)
def test_each_example_of_help_is_on_a_line_of_its_own(command: str) -> None:
    examples = [
        line.strip() for line in (COMMANDS[command].epilog or "").splitlines() if " pg-semantic " in f" {line} "
    ]
    assert examples
    assert set(examples) <= {line.strip() for line in shown(command, 80).splitlines()}


@pytest.mark.parametrize("group", ["", *sorted({name.split()[0] for name in COMMANDS if " " in name})])
def test_no_summary_in_a_list_of_commands_is_cut_off(group: str) -> None:
    assert [line for line in shown(group, 80).splitlines()[1:] if line.endswith("...")] == []


def test_commands_that_change_something_take_yes_where_another_of_their_group_does() -> None:
    takes = {name for name, command in COMMANDS.items() if any("--yes" in one.opts for one in command.params)}
    groups = {name.split()[0] for name in takes if " " in name}
    expected = {name for name in COMMANDS if " " in name and name.split()[0] in groups} - READ_ONLY
    assert expected - takes == set()
