"""What pods say of themselves over HTTP: they are asked by address, bounded in time and in size."""
