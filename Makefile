# Each target is one line; the work is in scripts/ and in the command line.

.PHONY: help up down purge logs test check crash chaos bench demo

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

up: ## set everything up and start; the command is then .venv/bin/supervisor
	@scripts/venv && exec .venv/bin/supervisor up

down: ## stop everything; the state stays
	@scripts/venv && exec .venv/bin/supervisor down

purge: ## remove this installation's containers, images and state, after naming them
	@scripts/venv && exec .venv/bin/python -m supervisor.purge

logs: ## what the supervisor and the worker say
	@scripts/venv && exec .venv/bin/supervisor logs

test: ## the test suite, with its own set-up; what takes longer is in crash
	@scripts/test

check: ## linters, types, direction of imports
	@scripts/check

crash: ## every place where the supervisor could die, alone and with others, any order of events, ten minutes of outage, and whatever else is too long for make test (over an hour; SEED=n, SEEDS=3 draws on each course)
	@scripts/test -m exhaustive

chaos: ## messages, updates and kills of supervisor, workers and engine at random, each message accounted for (MINUTES=10 SEED=n; ENGINE=0, or not root: the engine is spared)
	@scripts/venv && exec .venv/bin/python -m tests.chaos

bench: ## figures, each beside its limit
	@scripts/venv && exec .venv/bin/python -m tests.bench

demo: ## a conversation in which the agent changes itself, fails, falls back, and is taken back (a few minutes)
	@scripts/demo
