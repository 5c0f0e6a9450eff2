"""Architecture families, one a file; a config imports the one it uses."""
