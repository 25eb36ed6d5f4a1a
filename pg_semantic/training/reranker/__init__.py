"""Trains a reranker, a cross-encoder that reorders what a search finds, on mined pairs."""
