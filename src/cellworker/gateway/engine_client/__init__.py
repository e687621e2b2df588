"""The gateway's side of the engine: requests over HTTP, and the files that it serves."""
