"""Encoders behind HTTP: any server that speaks OpenAI's embeddings API."""
