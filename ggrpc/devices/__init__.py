"""What computes: one interface, and a folder for each kind of device."""
