# Everything a person types. Each target sets up what it needs.
#
#   make setup   bring a bare Debian 12 machine to where the rest works
#   make demo    the main job on a real film, end to end    (NETWORK=compact|esrgan-lite)
#   make test    every test
#   make check   format, lints, layering, unused dependencies
#   make bench   the figures, side by side with peers
#   make bench-load   lease + commit per second of the coordinator under 1,000 simulated workers, CPU time of each side, built
#                optimised; then apalis under the same load; fails where a demand is missed  (PART=sqlite|postgres|fair|apalis TASKS=100000)
#   make bench-pairs   wrong pairs, lost shots, misplaced corners on discs whose truth is known: half an hour on two cores
#                      (CASE=TEXT: only cases whose name holds it)
#   make bench-upscale   upscaling held against its demands, and beside a PyTorch loop and ncnn, which are fetched
#                      (PART=reuse|alone|workers|peers|kills|memory)
#   make bench-models    the real weights of Real-ESRGAN by us, by spandrel and by ONNX Runtime, which are fetched
#   make bench-trainer   the trainer beside PyTorch, which is fetched: losses, steps a second, memory; kills, order, waiting
#                      (PART=losses|discriminator|two-blocks|four-blocks|small|gan|order|kills|waiting)
#   make chaos   faults by the hundred against real coordinators, and what they have done to the work: 20 minutes;
#                goes on where it stopped; GROUPS="zombie partition" runs these (again)
#   make fuzz    random files, reports and texts against what reads them, guided by coverage  (TARGETS="cube season" TIME=60)
#   make soak    half an hour of seasons in a loop, a fault every two seconds: memory and descriptors stay flat  (MINUTES=N)
NETWORK ?= compact

# Run as built: `cargo run -p` would build burn once more, with the features of one package alone.
BUILT = $(or $(CARGO_TARGET_DIR),target)/debug

.PHONY: setup build demo test check chaos fuzz soak bench bench-load bench-pairs bench-upscale bench-models bench-trainer

setup:
	@bash deploy/setup.sh

build: setup
	cargo build --workspace --bins

demo: build
	bash deploy/demo.sh $(NETWORK)

test: build
	cargo test --workspace

check: setup
	cargo fmt --all --check
	cargo fmt --check --manifest-path bench/apalis/Cargo.toml
	cargo fmt --check --manifest-path bench/fuzz/Cargo.toml
	cargo clippy --workspace --all-targets -- -D warnings
	python3 deploy/check.py

chaos: build
	$(BUILT)/remaster-chaos run $(GROUPS)

fuzz: setup
	TIME=$(or $(TIME),60) bash bench/fuzz/run.sh $(TARGETS)

soak: build
	$(BUILT)/remaster-chaos soak $(if $(MINUTES),--minutes $(MINUTES))

bench: build
	$(BUILT)/remaster-bench
	$(MAKE) bench-load

bench-load: setup
	cargo build --release -p remaster-coordinator -p remaster-testkit --bin remaster-coordinator --bin remaster-load
	$(if $(filter sqlite postgres fair,$(PART)),,cargo build --release --locked --manifest-path bench/apalis/Cargo.toml --target-dir $(or $(CARGO_TARGET_DIR),target))
	$(or $(CARGO_TARGET_DIR),target)/release/remaster-load $(PART) $(if $(TASKS),--tasks $(TASKS))

bench-pairs: build
	$(BUILT)/remaster-bench pairs $(if $(CASE),--case '$(CASE)')

bench-upscale: build
	OMP_WAIT_POLICY=passive python3 bench/python/bench_upscale.py $(if $(PART),--part $(PART))

bench-models: build
	python3 bench/python/bench_models.py

bench-trainer: build
	OMP_WAIT_POLICY=passive $(BUILT)/remaster-bench trainer $(if $(PART),--part $(PART))
