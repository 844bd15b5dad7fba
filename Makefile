# The commands for people and for CI. Every target works from a clean clone, installs what it needs and asks nothing.
.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-models fuzz audit wasm web bench build model vulkan clean-cache
export DEBIAN_FRONTEND := noninteractive
# Where rustup installs cargo, for a shell that was opened before.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

PROMPT ?= Why is the sky blue? Answer in two sentences.
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/release/headstart
MODEL := models/SmolLM2-135M-Instruct.Q4_1.gguf

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: vulkan build ## build, get the model and stream an answer (PROMPT="…" to ask something else)
	@scripts/model.sh $(BIN)
	@printf '\n> %s\n\n' "$(PROMPT)"
	@$(BIN) generate --model $(MODEL) --prompt "$(PROMPT)"

test: ## everything CI runs: format, lints, wasm, all tests
	@scripts/test.sh all

test-fast: ## format, lints and the short tests that need no real model
	@scripts/test.sh fast

test-models: vulkan ## a real Gemma 3 compared with transformers (downloads 253 MB; some minutes)
	@scripts/rust.sh
	@scripts/gemma.sh
	@cargo test --locked --test real -- --nocapture

fuzz: ## damaged and hostile files from new seeds (SECONDS=300 for each kind)
	@scripts/fuzz.sh $(or $(SECONDS),300)

audit: ## advisories, licences and sources of all dependencies, as far as cargo-deny and npm can check here
	@scripts/audit.sh

wasm: ## build the library and its web bindings for wasm32-unknown-unknown
	@scripts/wasm.sh build

web: ## the WebAssembly, the npm package and the chat page (web/demo/dist)
	@scripts/web.sh build

bench: vulkan build ## speed compared with other engines, see scripts/bench.sh (PEERS="llama-cpu wllama", BENCH="--rounds 5 --readme")
	@scripts/model.sh $(BIN)
	@scripts/bench.sh run --model $(MODEL) $(if $(PEERS),--engines "headstart $(PEERS)") $(BENCH)

build: ## the release binary; installs Rust where it is missing
	@scripts/build.sh

model: ## the default model into models/
	@scripts/model.sh

vulkan: ## a Vulkan loader and driver, if none is found
	@scripts/vulkan.sh

clean-cache: ## remove what the scripts downloaded, except the model
	@rm -rf .cache
