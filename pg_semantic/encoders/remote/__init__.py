"""Encoders on a server that has OpenAI's embeddings API."""
