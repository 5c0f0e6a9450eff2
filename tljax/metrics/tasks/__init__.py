"""The kinds of task, one a file; `types.Task` is their contract."""
