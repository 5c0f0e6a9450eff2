"""Where a trained network will be used: corrupted, shifted, unfamiliar and upstream images."""
