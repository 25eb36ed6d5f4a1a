"""Keeping vectors true to the text: jobs in, vectors out. `worker` is the whole of it; each stage has a file."""
