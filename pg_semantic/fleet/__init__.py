"""Fills a semantic index with several workers, on the devices of this machine or on a Ray cluster, and then ends."""

from pg_semantic.fleet.fill import Filled, FillTask, Workers, fill
from pg_semantic.fleet.local_workers import LocalWorkers
from pg_semantic.fleet.watch import FillProgress

__all__ = ["FillProgress", "FillTask", "Filled", "LocalWorkers", "Workers", "fill"]
