"""The cortical surface, its regions, and maps on it."""
