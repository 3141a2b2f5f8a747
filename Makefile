# Two commands do everything on a fresh machine: `make quickstart` and `make test`. `make help` lists the others.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
MAKEFLAGS += --no-print-directory --warn-undefined-variables

VENV := .venv
BIN := $(VENV)/bin
CLUSTER ?= local
BENCH_OPTIONS ?=
CHAOS_OPTIONS ?=
KUEUE_OPTIONS ?=
PYTHON_CODE := client operator trainer-image tests quickstart benchmarks hack monitoring examples/cookbook
export CLUSTER

# Commands that need kubectl, helm and a kubeconfig run behind this.
CLUSTER_ENV = if [ "$(CLUSTER)" = local ]; then eval "$$(local-cluster/cluster env)"; fi

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: requirements/dev.txt client/pyproject.toml operator/pyproject.toml trainer-image/pyproject.toml
	@echo "installing the development tools into $(VENV)"
	@hack/venv $(VENV)
	@touch $@

.PHONY: venv
venv: $(VENV)/.installed ## the development tools

.PHONY: quickstart
quickstart: venv ## set everything up, run the main job end to end and show what came out of it
	@$(BIN)/python -m quickstart run

.PHONY: setup
setup: venv ## cluster, images and operator, without running a job
	@$(BIN)/python -m quickstart setup

.PHONY: test
test: venv ## all checks and tests, the end-to-end tests on a real cluster included
	@started=$$SECONDS
	$(MAKE) setup
	$(MAKE) lint
	$(MAKE) test-fast
	$(MAKE) test-chart
	$(MAKE) test-upgrades
	$(MAKE) test-monitoring
	$(MAKE) test-cluster
	echo "make test: all passed in $$(( (SECONDS - started) / 60 )) min $$(( (SECONDS - started) % 60 )) s"

.PHONY: test-fast
test-fast: venv ## unit and property tests; no cluster needed
	@$(BIN)/pytest -n auto tests/unit tests/property

.PHONY: test-chart
test-chart: venv ## the Helm chart: helm-unittest, upgrades from earlier charts, kustomize, releases on an API server of their own
	@export PATH="$$(local-cluster/cluster bin)/tools:$$PATH"
	(cd tests/chart && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o ../../build/helm-unittest \
	  github.com/helm-unittest/helm-unittest/cmd/helm-unittest)
	build/helm-unittest --file '../../tests/chart/suites/*_test.yaml' charts/qwen-sft-operator
	$(BIN)/pytest tests/chart

.PHONY: test-upgrades
test-upgrades: venv ## what earlier releases stored and began, under this one, on an API server of its own; no cluster needed
	@$(BIN)/pytest tests/upgrades

.PHONY: test-cluster
test-cluster: venv ## the local cluster's Go tests; contract, integration and end-to-end tests on the cluster that `make setup` made
	@$(CLUSTER_ENV)
	(cd local-cluster && CGO_ENABLED=0 go test -trimpath ./deviceplugin ./imageload ./provisioner)
	$(BIN)/pytest tests/contract tests/oracle tests/integration tests/e2e
	$(BIN)/pytest tests/matrix -m core

.PHONY: test-cli
test-cli: setup ## the command line on the local cluster: a run from its rows to the pulled model, and failures with their `why`
	@$(CLUSTER_ENV)
	$(BIN)/pytest tests/cli

.PHONY: test-client
test-client: setup ## the Python client on the local cluster: rows of every kind, a gigabyte of them, a notebook (a quarter of an hour)
	@$(CLUSTER_ENV)
	$(BIN)/pytest tests/client

.PHONY: test-cookbook
test-cookbook: setup ## every task of the cookbook on the local cluster, with a tiny model (a minute or two each)
	@$(CLUSTER_ENV)
	$(BIN)/pytest tests/cookbook

.PHONY: test-trackers
test-trackers: setup ## a run that reports to a real MLflow server beside the local cluster (installed into build/mlflow once: 0.6 GB)
	@$(CLUSTER_ENV)
	QWENSFT_MLFLOW="$$(hack/mlflow)" $(BIN)/pytest tests/e2e/test_trackers.py

.PHONY: test-gitops
test-gitops: ## what Argo CD's Lua, kstatus and Flux make of a run in every state (Go; the first build takes minutes)
	@cd tests/gitops && CGO_ENABLED=0 go test -trimpath -vet=off ./...

.PHONY: test-matrix
test-matrix: setup ## every way of training once for real: all rows of tests/matrix/rows.yaml (make test runs the core ones)
	@$(CLUSTER_ENV)
	$(BIN)/pytest tests/matrix

.PHONY: test-training
test-training: ## trainings in real processes, killed and gone on with; TRAINER_PYTHON: one with the trainer's packages and pytest
	PYTHONPATH=client:operator:trainer-image $(TRAINER_PYTHON) -m pytest tests/training

.PHONY: test-templates
test-templates: setup ## trained tokens against the chat templates that the models are shipped with
	@$(CLUSTER_ENV)
	$(BIN)/pytest tests/templates

.PHONY: test-readers
test-readers: setup ## merged models in transformers 4, 5 and llama.cpp (built once, which takes some 10 min)
	@$(CLUSTER_ENV)
	$(BIN)/pytest tests/readers

.PHONY: test-kueue
test-kueue: setup ## runs in queues of Kueue, built from its module, installed on the local cluster and removed again
	@$(CLUSTER_ENV)
	(cd tests/kueue/manager && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o ../../../build/kueue/kueue \
	  sigs.k8s.io/kueue/cmd/kueue)
	$(BIN)/pytest tests/kueue $(KUEUE_OPTIONS)

.PHONY: test-monitoring
test-monitoring: venv ## every query of dashboards and alerts on a real Prometheus (Debian's); no cluster needed
	@PATH="$$(hack/prometheus):$$PATH" $(BIN)/pytest tests/monitoring

.PHONY: test-report
test-report: venv ## the report of a run in Debian's Chromium: phone and desktop, light and dark, axe-core (npm); no cluster needed
	@read -r CHROMIUM AXE < <(hack/browser)
	CHROMIUM=$$CHROMIUM AXE=$$AXE $(BIN)/pytest tests/report

.PHONY: chaos
chaos: setup ## kill, delete and upgrade things in the middle of real runs (less than an hour; a part: CHAOS_OPTIONS="-k workers")
	@$(CLUSTER_ENV)
	$(BIN)/pytest tests/chaos $(CHAOS_OPTIONS)
	$(BIN)/python -m tests.chaos.figures

.PHONY: bench-prepare
bench-prepare: setup ## the prepare stage beside LLaMA-Factory's own preprocessing: rows/s, MB/s, peak memory
	@$(CLUSTER_ENV)
	$(BIN)/python -m benchmarks.prepare $(BENCH_OPTIONS)

.PHONY: bench-startup
bench-startup: setup ## starts, attempts, prepare's fixed cost and steps beside the bare command, in the trainer image
	@$(CLUSTER_ENV)
	$(BIN)/python -m benchmarks.startup --cluster $(BENCH_OPTIONS)

.PHONY: bench-merge
bench-merge: setup ## merge engines and verification beside llamafactory-cli export: wall time, peak memory, bytes
	@$(CLUSTER_ENV)
	$(BIN)/python -m benchmarks.merge $(BENCH_OPTIONS)

.PHONY: bench-control-plane
bench-control-plane: venv ## the operator beside plain clients and Kubeflow Trainer on an API server of its own; no cluster needed
	@$(BIN)/python -m benchmarks.control_plane $(BENCH_OPTIONS)

.PHONY: lint
lint: venv generate-check ## ruff, mypy, import-linter, shellcheck, hadolint, gofmt, actionlint, zizmor, helm lint, docs site, CRD drift
	@hack/lint

.PHONY: format
format: venv ## let ruff format the code
	@$(BIN)/ruff format $(PYTHON_CODE)
	$(BIN)/ruff check --fix $(PYTHON_CODE)

.PHONY: generate
generate: venv ## write what is generated: CRD, reference pages, the chart's README and dashboards, the table of metrics, Argo CD's ConfigMap
	@$(BIN)/python -m qwensft.api.export
	$(BIN)/python hack/chart_readme.py
	$(BIN)/python -m monitoring.export
	hack/argocd-cm

.PHONY: generate-check
generate-check: venv
	@$(BIN)/python -m qwensft.api.export --check
	$(BIN)/python -m monitoring.export --check
	hack/argocd-cm --check
	$(BIN)/python hack/chart_readme.py --check

.PHONY: manifests
manifests: venv ## write deploy/operator.yaml, the chart's default rendering for kubectl apply -k
	@export PATH="$$(local-cluster/cluster bin)/tools:$$PATH"
	$(BIN)/python hack/manifests.py

.PHONY: lock
lock: venv ## pin the dependencies anew, with hashes
	@hack/lock

.PHONY: sbom
sbom: venv ## write what Python packages the images hold, as CycloneDX, into build/sbom; offline once its tool is installed
	@hack/sbom

.PHONY: docs
docs: venv ## build the documentation site into build/site; offline once its tools are installed
	@hack/docs

.PHONY: images
images: venv ## build the operator's and the trainer's image
	@$(BIN)/python -m quickstart images

.PHONY: cluster-up
cluster-up: ## start (and first build) the local one-node Kubernetes
	@local-cluster/cluster install-deps
	local-cluster/cluster up

.PHONY: cluster-down
cluster-down: ## stop it and leave nothing behind but cached binaries and images
	@local-cluster/cluster down

.PHONY: cluster-status
cluster-status: ## what of it runs
	@local-cluster/cluster status

.PHONY: test-oracle
test-oracle: venv ## generated jobs on an API server of its own; more of them: ORACLE_EXAMPLES=5000
	@$(BIN)/pytest tests/oracle

.PHONY: test-oldest-kubernetes
test-oldest-kubernetes: venv ## the API's contract, what the operator makes and the chart's releases on the oldest Kubernetes that is supported
	@export PATH="$$(local-cluster/cluster bin)/tools:$$PATH"
	QWENSFT_KUBE_APISERVER="$$(hack/oldest-kubernetes)"
	export QWENSFT_KUBE_APISERVER
	# Models from images, which 1.31 has behind a gate (docs/model-sources.md).
	export QWENSFT_KUBE_APISERVER_FLAGS=--feature-gates=ImageVolume=true
	$(BIN)/python -m tests.oldest $(BIN)/pytest tests/contract
	$(BIN)/pytest tests/oracle tests/chart/test_lifecycle.py tests/chart/test_kustomize.py

.PHONY: test-local-cluster
test-local-cluster: ## the local cluster as a whole; starts a second one in namespaces of its own
	@local-cluster/tests/smoke.sh
