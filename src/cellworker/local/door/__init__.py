"""The local door: who is let in, what a body may be, how long a connection may wait, and the events over sockets."""
