"""R's serialisation, in `.rds` and `.qs` files."""
