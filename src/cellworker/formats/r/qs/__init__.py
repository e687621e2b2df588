"""Files of R's package qs, read without R."""
