"""A quantized encoder is computed in one way; settings that ask for another are refused before anything is loaded."""

import pytest

from pg_semantic import errors
from pg_semantic.encoders.local.backends import check_int8
from pg_semantic.settings import Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backend", "torch"),
        ("precision", "float32"),
        ("precision", "bfloat16"),
        ("precision", "float16"),
        ("device", "cuda:0"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"PG_SEMANTIC_{name.upper()}={value} doesn.t work"):
        check_int8(Settings(**{name: value}), has_openvino=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{}, {"backend": "openvino"}, {"device": "cpu"}])
def test_settings_that_fit_are_taken(given: dict[str, str]) -> None:
    check_int8(Settings(**given), has_openvino=True)  # type: ignore[arg-type]


def test_without_openvino_how_to_install_it_is_said() -> None:
    with pytest.raises(errors.MissingExtra, match=r"pip install 'pg-semantic-index\[cpu\]'"):
        check_int8(Settings(), has_openvino=False)
