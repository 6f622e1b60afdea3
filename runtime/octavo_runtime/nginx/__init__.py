"""A reverse proxy for several servers, where no Kubernetes balances the load."""
