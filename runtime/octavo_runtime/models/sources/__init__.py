"""Where models are downloaded from: hubs, buckets and registries; one way to bring their files here whole. Free of
torch."""
