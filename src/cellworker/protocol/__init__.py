"""The wire: envelope, task bodies, events and status codes, result encoding."""
