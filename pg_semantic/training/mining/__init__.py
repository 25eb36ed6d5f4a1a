"""Mines hard negatives from a semantic index."""
