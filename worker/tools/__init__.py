"""The tools, and the runner that executes them in the toolbox: a container with no network and no secrets.

The runner is idle most of the time and must stay small, so it uses the standard library alone. The worker's side
checks arguments against their schema before it sends them.
"""
