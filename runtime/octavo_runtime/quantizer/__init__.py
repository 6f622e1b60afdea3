"""`octavo quantize`: a model's weights in fewer bits, written as published checkpoints of a format are."""
