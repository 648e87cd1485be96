"""Model files and where to find them."""
