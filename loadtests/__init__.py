"""Load for a running server, and the benchmarks. Nothing of the platform imports it."""
