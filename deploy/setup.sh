#!/usr/bin/env bash
# Brings a bare Debian 12 machine to the point where `make test` and `make demo` run. Idempotent: what is already
# there and has the right hash is left alone, and with a warm cache nothing is fetched.
#
#   XDG_CACHE_HOME   libtorch and the film live in its folder remaster   (default ~/.cache)
#   LIBTORCH         a libtorch 2.9.0 of your own        (wins over the one fetched here)
#   TORCH_VARIANT    cpu | cuda                          (default cpu; cuda takes the whole wheel and its libraries)
set -euo pipefail

cd "$(dirname "$0")/.."
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/remaster
TORCH_VERSION=2.9.0
TORCH_VARIANT=${TORCH_VARIANT:-cpu}
TORCH_HOME="$CACHE/libtorch-$TORCH_VERSION-$TORCH_VARIANT"
FILM="$CACHE/film/bbb.mp4"

FILM_SHA256=475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0
TORCH_WHEEL_SHA256=51de31219c97c51cf4bf2be94d622e3deb5dcc526c6dc00e97c17eaec0fc1d67
CUPTI_WHEEL_SHA256=ea0cb07ebda26bb9b29ba82cda34849e73c166c18162d3913575b0c9db9a6182
CUDART_WHEEL_SHA256=adade8dcbd0edf427b7204d480d6066d33902cab2a4707dcfc48a2d0fd44ab90
MOVIEPY_SDIST_SHA256=22c57a7472f607eaad9fe80791df67c05082e1060fb74817c4eaac68e138ee77

FETCHED=0
say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'error: %s\n\nhint: %s\n' "$1" "$2" >&2; exit 1; }

check_sha256() { # file expected
    local actual
    actual=$(sha256sum "$1" | cut -d' ' -f1)
    [ "$actual" = "$2" ] || die "$1 has sha256 $actual, expected $2" "delete it and run make setup again"
}

# --- Debian packages -------------------------------------------------------------------------------------------------
install_packages() {
    local need=() as_root=()
    command -v ffmpeg  >/dev/null && command -v ffprobe >/dev/null || need+=(ffmpeg)
    command -v unzip   >/dev/null || need+=(unzip)
    command -v c++     >/dev/null || need+=(g++)
    compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || need+=(postgresql)   # the tests start a server of their own
    python3 -m pip --version >/dev/null 2>&1 || need+=(python3-pip)
    [ ${#need[@]} -eq 0 ] && return
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    say "installing Debian packages: ${need[*]}"
    FETCHED=1
    "${as_root[@]}" apt-get update -q >/dev/null || die "the Debian package index cannot be reached" \
        "install these by hand and run make setup again: ${need[*]}"
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -q --no-install-recommends "${need[@]}" >/dev/null \
        || die "could not install ${need[*]}" "install them by hand and run make setup again"
}

check_rust() {
    command -v cargo >/dev/null || die "cargo is not on the PATH" "install Rust 1.95 or newer with rustup, then run make setup again"
}

# --- Python packages used as plain archives: nothing of Python runs afterwards -----------------------------------------
fetch_wheel() { # requirement expected-sha256 directory
    FETCHED=1
    python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_x86_64 \
        --platform manylinux2014_x86_64 -d "$3" "$1" \
        || die "$1 cannot be fetched from the package index" "set LIBTORCH to an unpacked libtorch $TORCH_VERSION and run make setup again"
    check_sha256 "$(newest "$3")" "$2"
}

newest() { find "$1" -maxdepth 1 -type f -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-; }

# --- libtorch ----------------------------------------------------------------------------------------------------------
install_libtorch() {
    if [ -n "${LIBTORCH:-}" ]; then
        [ -d "$LIBTORCH/lib" ] || die "LIBTORCH=$LIBTORCH has no lib folder" "point it at an unpacked libtorch $TORCH_VERSION"
        TORCH_HOME=$LIBTORCH
        return
    fi
    [ -f "$TORCH_HOME/.complete" ] && return
    say "fetching libtorch $TORCH_VERSION ($TORCH_VARIANT) into $TORCH_HOME (900 MB, once)"
    local work="$CACHE/fetch.$$"
    rm -rf "$work" && mkdir -p "$work/torch" "$work/cupti" "$work/cudart" "$work/home/lib"
    trap 'rm -rf "'"$work"'"' EXIT
    fetch_wheel "torch==$TORCH_VERSION" "$TORCH_WHEEL_SHA256" "$work/torch"
    if [ "$TORCH_VARIANT" = cuda ]; then
        rm -rf "$work/home"
        python3 -m pip install -q --target "$work/site" "$(newest "$work/torch")" \
            || die "the CUDA libraries of torch cannot be fetched" "set LIBTORCH to a CUDA libtorch $TORCH_VERSION"
        mkdir -p "$work/home" && cp -r "$work/site/torch/include" "$work/site/torch/lib" "$work/home/"
        find "$work/site/nvidia" -name '*.so*' -exec cp -n {} "$work/home/lib/" \;
    else
        # The CPU half of the CUDA wheel still wants two small CUDA libraries; leaving libtorch_cuda.so out makes
        # torch-sys link the CPU only.
        fetch_wheel "nvidia-cuda-cupti-cu12==12.8.90" "$CUPTI_WHEEL_SHA256" "$work/cupti"
        fetch_wheel "nvidia-cuda-runtime-cu12==12.8.90" "$CUDART_WHEEL_SHA256" "$work/cudart"
        unzip -q "$(newest "$work/torch")" 'torch/include/*' torch/lib/libtorch_cpu.so torch/lib/libc10.so torch/lib/libgomp.so.1 -d "$work"
        unzip -qj "$(newest "$work/cupti")" '*/libcupti.so.12' -d "$work/home/lib"
        unzip -qj "$(newest "$work/cudart")" '*/libcudart.so.12' -d "$work/home/lib"
        mv "$work"/torch/torch/include "$work/home/" 2>/dev/null || mv "$work/torch/include" "$work/home/"
        mv "$work"/torch/lib/*.so* "$work/home/lib/"
        printf 'INPUT(-ltorch_cpu -lc10)\n' > "$work/home/lib/libtorch.so"
    fi
    touch "$work/home/.complete"
    rm -rf "$TORCH_HOME" && mv "$work/home" "$TORCH_HOME"
    rm -rf "$work"
    trap - EXIT
}

# --- the film: Big Buck Bunny, (c) 2008 Blender Foundation, CC BY 3.0 ----------------------------------------------------
install_film() {
    if [ -f "$FILM" ]; then
        check_sha256 "$FILM" "$FILM_SHA256"
        return
    fi
    say "fetching the film Big Buck Bunny into $FILM (58 MB, once)"
    FETCHED=1
    local work="$CACHE/film.$$" sdist
    rm -rf "$work" && mkdir -p "$work" "$(dirname "$FILM")"
    # pip builds metadata of what it downloads, which may fail without harm; the archive itself is all that is wanted.
    python3 -m pip download -q --no-deps --no-binary moviepy -d "$work" moviepy==2.1.2 \
        || die "the film cannot be fetched from the package index" "put Big Buck Bunny (720p, sha256 $FILM_SHA256) at $FILM"
    sdist=$(newest "$work")
    check_sha256 "$sdist" "$MOVIEPY_SDIST_SHA256"
    local inside=docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip
    tar -xzf "$sdist" -C "$work" --strip-components=1 "moviepy-2.1.2/$inside"
    unzip -qp "$work/$inside" moviepy_10_minutes/resources/bbb.mp4 > "$work/bbb.mp4"
    check_sha256 "$work/bbb.mp4" "$FILM_SHA256"
    mv "$work/bbb.mp4" "$FILM"
    rm -rf "$work"
}

# Cargo learns of libtorch through a git-ignored file: a changed environment variable would rebuild torch-sys.
write_cargo_config() {
    local wanted
    wanted=$(printf '[env]\nLIBTORCH = "%s"\nLIBTORCH_CXX11_ABI = "1"\n\n[build]\nrustflags = ["-C", "link-arg=-Wl,-rpath,%s/lib"]\n' \
        "$TORCH_HOME" "$TORCH_HOME")
    mkdir -p .cargo
    [ -f .cargo/config.toml ] && [ "$(cat .cargo/config.toml)" = "$wanted" ] && return
    printf '%s\n' "$wanted" > .cargo/config.toml
}

install_packages
check_rust
install_libtorch
install_film
write_cargo_config
if [ "$FETCHED" = 0 ]; then say "everything is there already; no network was needed"; else say "done"; fi
