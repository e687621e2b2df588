"""An experiment in another format."""
