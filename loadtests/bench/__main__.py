from loadtests.bench.cli import app

app(prog_name="python -m loadtests.bench")
