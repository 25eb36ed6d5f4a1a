"""The worker, which keeps vectors in sync with their text. Start with `worker`; each stage has its own module."""
