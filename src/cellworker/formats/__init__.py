"""How experiments come in and go out: reading and writing files, and opening what was read before."""
