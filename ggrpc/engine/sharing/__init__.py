"""Sessions that several processes use."""
