"""What GGUF's quantised types take in memory once they are packed, the same on a CPU and on a GPU
(octavo_kernels.quantized_linear, grouped_linear). Free of torch."""

# Columns of a block, and bytes of one packed.
BLOCKS = {
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34), "IQ4_NL": (32, 18),
    "MXFP4": (32, 18), "Q2_K": (256, 164), "Q3_K": (256, 146), "Q4_K": (256, 148), "Q5_K": (256, 180),
    "Q6_K": (256, 210), "IQ4_XS": (256, 138),
}  # fmt: skip
