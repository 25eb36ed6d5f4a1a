"""The widths that OpenVINO is given texts in: few, and little more than the texts have."""

from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.encoders.local.openvino import rounded


@given(st.integers(1, 100_000))
def test_a_width_grows_by_three_tokens_or_an_eighth_at_most(width: int) -> None:
    assert width <= rounded(width) <= max(width + 3, width * 9 / 8)


def test_widths_are_few() -> None:
    assert len({rounded(width) for width in range(1, 8193)}) < 100
    assert all(rounded(width) == width for width in map(rounded, range(1, 8193)))
