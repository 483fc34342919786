"""Brain-tuning: the loop, its losses, targets and controls."""
