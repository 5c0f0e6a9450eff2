"""Sources of data, one kind a file; a config imports the one it uses."""
