"""The demo: 7,425 tldr pages, their mapped class, and the steps that ``pg-semantic demo`` shows."""
