"""Ray and its machines: replicas wanted and healthy, queues, nodes, GPUs."""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row
from charts.dashboards.promql import RATE, RAY_NAMESPACE, RAYS, quantile, series


def _ray(name: str, by: str, legend: str, how: str = "sum", matchers: str = "") -> Query:
    return Query(f"{how} by ({by}) ({series(name, matchers, RAYS)})", legend)


RAY = Dashboard(
    uid="marquee-ray",
    title="Marquee / Ray and GPU",
    description="Replicas, queues, nodes and GPUs, from Ray's own metrics.",
    variables=(RAY_NAMESPACE,),
    rows=(
        Row(
            "Replicas",
            (
                Panel(
                    "Replicas wanted and healthy",
                    "What the autoscaler wants of each deployment, and what answers its health checks.",
                    "short",
                    (
                        _ray(
                            "ray_serve_autoscaling_target_replicas",
                            "deployment",
                            "{{deployment}} wanted",
                            "max",
                        ),
                        _ray("ray_serve_deployment_replica_healthy", "deployment", "{{deployment}} healthy"),
                    ),
                ),
                Panel(
                    "Waiting requests",
                    "Requests that wait for a replica. A queue that stays says: more replicas, or faster "
                    "ones.",
                    "short",
                    (_ray("ray_serve_deployment_queued_queries", "deployment", "{{deployment}}"),),
                ),
                Panel(
                    "Requests in replicas",
                    "Requests being processed now, by deployment.",
                    "short",
                    (_ray("ray_serve_replica_processing_queries", "deployment", "{{deployment}}"),),
                ),
                Panel(
                    "Busy share of replicas",
                    "How much of a replica's allowed requests it works on; the mean of a deployment.",
                    "percent",
                    (_ray("ray_serve_replica_utilization_percent", "deployment", "{{deployment}}", "avg"),),
                ),
                Panel(
                    "p99 of a deployment",
                    "Time within a replica, without the hop to it.",
                    "ms",
                    (
                        Query(
                            quantile(
                                0.99, "ray_serve_deployment_processing_latency_ms", "deployment", of=RAYS
                            ),
                            "{{deployment}}",
                        ),
                    ),
                ),
                Panel(
                    "Replica starts",
                    "Replicas started in an hour. Many of one deployment are a crash loop.",
                    "short",
                    (
                        Query(
                            "sum by (deployment) "
                            f"(increase({series('ray_serve_deployment_replica_starts_total', of=RAYS)}[1h]))",
                            "{{deployment}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Proxy",
            (
                Panel(
                    "Requests through the proxy",
                    "Requests a second by status. HAProxy turns its own 502, 503 and 504 into 500.",
                    "reqps",
                    (
                        Query(
                            "sum by (status_code) "
                            f"(rate({series('ray_serve_num_http_requests_total', of=RAYS)}{RATE}))",
                            "{{status_code}}",
                        ),
                    ),
                ),
                Panel(
                    "Unfinished in the proxy",
                    "Requests that the proxy holds open.",
                    "short",
                    (_ray("ray_serve_num_ongoing_http_requests", "node_ip_address", "{{node_ip_address}}"),),
                ),
                Panel(
                    "Application",
                    "Ray's number for the application's state: 6 is running.",
                    "short",
                    (_ray("ray_serve_application_status", "application", "{{application}}", "min"),),
                    kind="stat",
                ),
            ),
        ),
        Row(
            "Machines",
            (
                Panel(
                    "Nodes",
                    "Nodes that Ray counts as alive, by worker group.",
                    "short",
                    (_ray("ray_cluster_active_nodes", "node_type", "{{node_type}}"),),
                ),
                Panel(
                    "CPU",
                    "Use of each node's CPUs.",
                    "percent",
                    (_ray("ray_node_cpu_utilization", "ip", "{{ip}}", "max"),),
                ),
                Panel(
                    "Memory",
                    "Used share of each node's memory; Ray kills workers near 95 %.",
                    "percentunit",
                    (
                        Query(
                            f"max by (ip) ({series('ray_node_mem_used', of=RAYS)}) / "
                            f"max by (ip) ({series('ray_node_mem_total', of=RAYS)})",
                            "{{ip}}",
                        ),
                    ),
                    red_above=0.9,
                ),
            ),
        ),
        Row(
            "GPU",
            (
                Panel(
                    "GPUs reserved",
                    "GPUs that Ray has given to replicas and workers, and those that are free.",
                    "short",
                    (_ray("ray_resources", "State", "{{State}}", matchers='Name="GPU"'),),
                ),
                Panel(
                    "GPU use",
                    "Use of each GPU. Low use beside a queue: batches are too small.",
                    "percent",
                    (_ray("ray_node_gpus_utilization", "ip, GpuIndex", "{{ip}} {{GpuIndex}}", "max"),),
                ),
                Panel(
                    "GPU memory",
                    "Used memory of each GPU.",
                    "mbytes",
                    (_ray("ray_node_gram_used", "ip, GpuIndex", "{{ip}} {{GpuIndex}}", "max"),),
                ),
            ),
        ),
    ),
)
