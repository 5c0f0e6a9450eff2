"""What a training step needs and how long it takes on many devices, without those devices."""
