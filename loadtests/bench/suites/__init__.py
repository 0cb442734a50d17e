"""One module a question; each has `run(effort, world) -> Section`."""
