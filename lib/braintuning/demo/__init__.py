"""Simulated listeners, synthesised speech and small pretrained models: what the demo is made of."""
