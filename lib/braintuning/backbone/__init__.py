"""Pretrained speech models behind one call."""
