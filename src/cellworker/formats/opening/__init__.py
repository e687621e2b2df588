"""Opening an experiment: warm, from the same content, or by reading its source in a child process."""
