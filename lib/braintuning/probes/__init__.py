"""Downstream tasks, one per file: what linear probes decode from the layers of a speech model."""
