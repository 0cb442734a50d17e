"""The Grafana dashboards as a description that people review; `python -m charts.dashboards` writes the JSON.

`grafana` is all of the JSON that they need. A library would have to follow Grafana's releases for us and be
installed to change a title; the documents are plain, and a test holds them to the description.
"""
