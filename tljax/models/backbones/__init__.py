"""Architecture families, one per file; a config imports the one it uses."""
