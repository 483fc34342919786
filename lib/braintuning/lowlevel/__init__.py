"""Low-level features of speech, and alignment without them."""
