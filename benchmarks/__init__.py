"""Benchmarks: each prints figures, and a last line of JSON. See RESULTS.md."""
