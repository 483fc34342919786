"""Semantic preference: whether words close in meaning or words close in pronunciation have similar states."""
