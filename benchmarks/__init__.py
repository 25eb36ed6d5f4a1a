"""Benchmarks. Each prints its results for people, then one line of JSON. See RESULTS.md."""
