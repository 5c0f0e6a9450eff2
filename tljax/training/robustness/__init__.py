"""Accuracy of a run on corrupted, shifted, unfamiliar and upstream images."""
