"""Reading R's serialisation format without R."""
