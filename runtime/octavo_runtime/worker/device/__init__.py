"""All that differs between devices."""
