"""custom.metrics.k8s.io, answered by the operator: what autoscalers ask for, read from the pods' own /metrics."""
