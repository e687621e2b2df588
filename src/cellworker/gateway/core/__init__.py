"""The work loop, and the ports through which it sees the world."""
