"""Downstream tasks: what linear probes decode from the layers of a speech model."""
