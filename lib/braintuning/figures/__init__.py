"""The figures of the paper, drawn from result tables."""
