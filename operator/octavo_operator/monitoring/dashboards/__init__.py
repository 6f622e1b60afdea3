"""Grafana's dashboards, made with its own SDK by `make generate`: the operator that runs never imports this room."""
