"""Worker processes: one runs one request at a time, and fails alone."""
