"""Trains how an encoder encodes queries, while documents stay as they are."""
