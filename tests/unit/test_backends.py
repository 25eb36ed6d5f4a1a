import pytest

from pg_semantic import errors
from pg_semantic.encoders.local import openvino, torch
from pg_semantic.encoders.local.backends import candidates
from pg_semantic.settings import Settings


@pytest.fixture(autouse=True)
def _a_machine_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_has_bfloat16", lambda: True)
    monkeypatch.setattr(openvino, "precision_of_cpu", lambda: "bfloat16")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


def _names(device: str = "cpu", *, has_openvino: bool = True, **given: object) -> list[str]:
    settings = Settings(**given)  # type: ignore[arg-type]
    return [str(backend) for backend in candidates(device, settings, has_openvino=has_openvino)]


def test_on_a_cpu_openvino_is_tried_first_and_the_reference_last() -> None:
    assert _names() == ["openvino in bfloat16", "torch in bfloat16", "openvino in float32", "torch in float32"]


def test_without_openvino_torch_is_tried() -> None:
    assert _names(has_openvino=False) == ["torch in bfloat16", "torch in float32"]


def test_a_cpu_without_the_instructions_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_has_bfloat16", lambda: False)
    monkeypatch.setattr(openvino, "precision_of_cpu", lambda: "float32")
    assert _names() == ["openvino in float32", "torch in float32"]


def test_what_the_settings_name_is_all_that_is_tried() -> None:
    assert _names(backend="torch") == ["torch in bfloat16", "torch in float32"]
    assert _names(backend="torch", precision="float32") == ["torch in float32"]
    assert _names(backend="openvino", precision="float32") == ["openvino in float32"]
    assert _names(precision="float32") == ["openvino in float32", "torch in float32"]


def test_openvino_is_for_the_cpu() -> None:
    assert _names("mps") == ["torch in float32"]
    with pytest.raises(errors.ConfigurationError, match="runs only on the CPU, not on cuda"):
        _names("cuda", backend="openvino")


def test_openvino_that_is_asked_for_and_missing_is_refused_with_how_to_install_it() -> None:
    with pytest.raises(errors.MissingExtra, match=r"pip install 'pg-semantic-index\[cpu\]'"):
        _names(backend="openvino", has_openvino=False)


def test_sixteen_bit_floats_are_refused_on_a_cpu() -> None:
    with pytest.raises(errors.ConfigurationError, match="hundred times slower"):
        _names(precision="float16")
