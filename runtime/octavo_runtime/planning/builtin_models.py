"""What `octavo describe` says of the models that an image may carry, for those who have no such image at hand. Free of
torch, and of what reads models."""

BUILTIN_DESCRIPTIONS = {
    "smollm2": (
        '{"spec":{"vocab_size":49152,"hidden_size":576,"intermediate_size":1536,"num_layers":30,"num_heads":9,'
        '"num_kv_heads":3,"head_dim":64,"max_position":8192,"rms_norm_eps":0.0,"rope_theta":0.0,"rope_scaling":null,'
        '"tie_embeddings":true,"qkv_bias":false,"output_bias":false,"mlp_bias":false,"eos_token_ids":[],'
        '"quantization":{"format":"gguf","bits":5,"values":"blocks","group":[1,32],"density":40960}},'
        '"packed_bytes":96436224}'
    )
}
