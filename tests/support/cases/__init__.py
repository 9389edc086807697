"""Small graphs for each family of ops: `cases()` yields (name, Case)."""
