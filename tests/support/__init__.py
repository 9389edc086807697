"""What several tests build on; no tests in here."""
