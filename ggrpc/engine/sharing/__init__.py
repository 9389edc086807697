"""Keeps tensors in a session, and shares them with other processes of the user."""
