"""Sessions kept in files: what was said, to be looked into and run again."""
