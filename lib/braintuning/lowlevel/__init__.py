"""Low-level features of speech, their residualisation, and variance partitioning."""
