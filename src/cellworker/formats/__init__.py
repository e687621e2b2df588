"""Reading and writing experiment files, and opening stores."""
