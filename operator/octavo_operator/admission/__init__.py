"""The validating webhook: what no rule of the definition can see is refused at `kubectl apply`."""
