"""Runs a step on a device."""
