"""Whether the examples of a source domain help the target: short runs with and without them."""
