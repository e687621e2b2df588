"""The local run: embedded twins of the gateway's ports, the HTTP door, and the console page."""
