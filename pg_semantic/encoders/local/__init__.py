"""Encoders that run in this process: weights, back ends, batching and quantization."""
