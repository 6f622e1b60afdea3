"""Every setting with its bounds."""
