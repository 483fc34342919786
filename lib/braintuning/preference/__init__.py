"""Semantic preference: similarity of spoken words in pairs."""
