"""Encoding models: features, ridge regression, noise ceilings, statistics."""
