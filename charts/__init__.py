"""What Kubernetes and Grafana are given. Nothing here is imported by the platform."""
