"""A projection whose results keep all their digits. Of 16-bit results near 25 the neighbours lie 0.125 apart, and among
the likeliest next words ties come up that are none.

For few rows and for CPUs alone, so without the other ops' Triton form."""
