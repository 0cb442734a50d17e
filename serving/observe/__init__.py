"""What a replica tells of itself: metrics, traces, logs, and the trace of each request (`ledger`).

The core reports to the protocol in `metrics`; who listens is chosen where a replica is made.
"""
