"""Names, labels, API and Redis of the platform."""
