"""What Prometheus and Grafana are given: recording rules, alerts, dashboards. Pure data, made from the metric table."""
