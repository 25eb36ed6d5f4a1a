"""What is refused before Ray is asked, and how many workers a table gets."""

import pickle
from pathlib import Path

import pydantic
import pytest
import typer

from pg_semantic import errors, settings
from pg_semantic.cli import ray_options
from pg_semantic.cli.ray_options import RayGiven
from pg_semantic.fleet import ray_actor, ray_workers
from pg_semantic.fleet.ray_actor import Order


@pytest.mark.parametrize(
    ("waiting", "count"), [(None, 16), (0, 2), (6_000, 2), (12_001, 3), (60_000, 10), (10_000_000, 16)]
)
def test_there_are_as_many_workers_as_there_is_work_for(waiting: int | None, count: int) -> None:
    assert ray_workers.count_for(waiting, least=2, most=16, rows_each=6_000) == count


def test_an_installation_without_ray_is_told_which_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(errors.MissingExtra, match=r"pip install 'pg-semantic-index\[ray\]'"):
        ray_options.read(RayGiven())


@pytest.mark.parametrize("given", ["0", "3:2", "2:", ":4", "many", "-1", "1.5", ""])
def test_numbers_of_workers_that_cannot_be_meant_are_refused(given: str) -> None:
    with pytest.raises(typer.BadParameter, match="2:16"):
        ray_options.read(RayGiven(workers=given))


@pytest.mark.parametrize("name", ["PG_SEMANTIC_DSN", "PG_SEMANTIC_REMOTE_API_KEY"])
def test_a_secret_in_a_runtime_environment_is_refused_and_not_quoted(name: str) -> None:
    given = f'{{"env_vars": {{"{name}": "s3cret"}}}}'
    with pytest.raises(errors.ConfigurationError, match=name) as refused:
        ray_options.read(RayGiven(runtime_env=given))
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(RayGiven(runtime_env=given))


def test_a_runtime_environment_that_cannot_be_read_is_refused_with_the_name_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "environment.json"
    with pytest.raises(errors.ConfigurationError, match="cannot read"):
        ray_options.read(RayGiven(runtime_env=str(file)))
    file.write_text("{s3cret")
    with pytest.raises(errors.ConfigurationError, match=str(file)) as refused:
        ray_options.read(RayGiven(runtime_env=str(file)))
    assert "s3cret" not in str(refused.value)
    with pytest.raises(errors.ConfigurationError, match="the text must be a JSON object"):
        ray_options.read(RayGiven(runtime_env='{"env_vars": 1}'))


def test_an_order_has_no_secret_in_its_repr_and_survives_the_journey() -> None:
    order = Order(pydantic.SecretStr("postgresql://u:s3cret@h/d"), "public.a", {"remote_api_key": "s3cret"})
    assert "s3cret" not in repr(order)
    arrived = pickle.loads(pickle.dumps(order))  # noqa: S301 - our own
    assert arrived == order
    assert arrived.dsn.get_secret_value().endswith("@h/d")


def test_settings_of_a_machine_stay_there(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"batch_rows": "7", "device": "cuda:1", "cache_folder": "/cache", "dsn": "postgresql://h/d"}
    for name, value in given.items():
        monkeypatch.setenv(settings.variable(name), value)
    others = ray_actor.settings_for_others(settings.load(write_seconds=0.6))
    assert others["batch_rows"] == 7
    assert others["write_seconds"] == 0.6
    assert not others.keys() & {"device", "cache_folder", "dsn", "encoder_paths"}
    assert settings.load(**others).batch_rows == 7
