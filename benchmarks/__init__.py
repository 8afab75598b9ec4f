"""The comparison with other systems: `make bench`."""
