"""The demonstration: 7,425 tldr pages, the mapped class for them, and the steps that ``pg-semantic demo`` shows."""
