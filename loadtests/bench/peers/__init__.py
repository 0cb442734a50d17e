"""The same pipeline behind other servers, each set up as its own documentation recommends. Every module runs
alone (`python -m loadtests.bench.peers.fastapi_app --help`) and answers POST /v1/recommendations.

Does not belong here: measuring (`loadtests.bench.suites.peers`), and anything that only one server would get.
"""
