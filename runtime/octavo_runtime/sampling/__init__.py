"""From scores to tokens: the sampler and its parts."""
