"""Hypothesis without a deadline: the machines that run these tests share their cores."""

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=60)
settings.load_profile("unit")
