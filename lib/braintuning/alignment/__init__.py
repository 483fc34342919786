"""Layer activations, encoding models, noise ceilings and significance tests."""
