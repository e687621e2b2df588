"""The local door: admission of clients, limits on bodies and connections, and events over sockets."""
