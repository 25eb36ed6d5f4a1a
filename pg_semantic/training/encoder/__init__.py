"""Trains how an encoder encodes queries and documents alike, so that all rows are encoded again afterwards."""
