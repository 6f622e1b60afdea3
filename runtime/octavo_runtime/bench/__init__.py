"""Workloads behind `octavo bench`."""
