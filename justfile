# What one types daily. `.ci/run` holds the same lines, and a test compares them.

build:
    cargo build --release
test:
    cargo test
engine:
    CALAME_ENGINE_SECONDS=60 cargo test --test it random_arrivals
races:
    cargo test -p calame-cli --test it -- --ignored fifty_starts
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings
fmt:
    cargo fmt --all
fmt-check:
    cargo fmt --all --check
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
fuzz-build:
    bash fuzz/build.sh
ci:
    bash .ci/run
bench *ARGS:
    cargo bench {{ARGS}}
train *ARGS:
    cargo run --release -- train {{ARGS}}
generate *ARGS:
    cargo run --release -- generate {{ARGS}}
reproduce *ARGS:
    cargo run --release -- reproduce {{ARGS}}
golden:
    python3 golden/make.py
