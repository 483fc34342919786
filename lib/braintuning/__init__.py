"""Brain-tuning: speech models fine-tuned on fMRI of people listening to stories."""

__version__ = "0.1.0"
