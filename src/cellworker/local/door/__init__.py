"""The limits of the local door: who is let in, what a body may be, how long a connection may wait."""
