# Every target does its own set-up; `make help` lists them.
VENV := .venv
RUN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-pythons lint format bench venv servers servers-stop clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

demo: venv ## a tour over real databases and real data
	@$(RUN)/router demo

test: venv ## lint, types and all tests, on PostgreSQL, MariaDB and SQLite
	@scripts/test.sh

test-pythons: ## the tests on every Python from 3.11 on that is installed
	@scripts/pythons.sh $(PYTEST)

lint: venv ## ruff and mypy
	@scripts/lint.sh

format: venv ## let ruff correct what it can
	@$(RUN)/ruff check --fix .
	@$(RUN)/ruff format .

bench: venv ## what routing costs beside a plain session
	@$(RUN)/python -m benchmarks

venv: ## the virtual environment; nothing happens when it is up to date
	@scripts/venv.sh $(VENV) -e '.[dev]'

servers: ## the four servers of docker-compose.yml, for config/docker.yaml
	@docker compose up --detach --wait

servers-stop: ## stop them; their data stays
	@docker compose down

clean: ## everything that is not in the repository
	@rm -rf .venv .venv-oldest .venv-3.* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
