"""Downstream tasks: what a linear classifier reads out of a speech model, one task a file."""
