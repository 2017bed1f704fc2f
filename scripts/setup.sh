#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# setup.sh build|java|npm|containers... - installs what is missing on a Debian or Ubuntu machine (root or sudo).
#   build       compilers, libraries, the Rust toolchain, what a native Postgres needs
#   java        Java 17 or newer and Maven: Kafka and the registry
#   npm         npm, from which the test-bed gets the Postgres majors that Debian's suites lack
#   containers  podman and debootstrap: the container back end's smoke test; the tests count a skip without them
# Idempotent; says nothing and takes a fraction of a second when everything is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH" DEBIAN_FRONTEND=noninteractive
java_major_min=17
say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "root or sudo is needed for: $*"; fi
}

lists_fresh=
apt_get() {
  if [ -z "$lists_fresh" ]; then
    as_root apt-get -qq -o DPkg::Lock::Timeout=600 update || die "apt-get update failed: check the network and the apt sources"
    lists_fresh=1
  fi
  as_root apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 install "$@" >/dev/null
}

# The packages of the arguments that are not installed.
missing() {
  dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
    awk -v wanted="$*" '$2 == "installed" { sub(/:.*/, "", $1); have[$1] = 1 }
      END { n = split(wanted, w, " "); for (i = 1; i <= n; i++) if (!(w[i] in have)) printf "%s ", w[i] }' || true
}

install_missing() {
  local lacking
  read -ra lacking <<<"$(missing "$@")"
  [ ${#lacking[@]} = 0 ] && return 0
  say "installing ${lacking[*]}"
  apt_get "${lacking[@]}"
}

# libcurl's headers: librdkafka includes them even where it is built without curl. tzdata: Debian's Postgres reads
# the machine's time zones.
build() {
  local packages=(ca-certificates curl git make build-essential cmake pkg-config tzdata xz-utils
    libssl-dev libsasl2-dev libcurl4-openssl-dev zlib1g-dev)
  install_missing "${packages[@]}" || die "cannot install ${packages[*]}"
  # Without a Debian mirror (Ubuntu) Postgres 15 and 17 come from npm.
  [ "$(. /etc/os-release; echo "$ID")" = debian ] || npm_client
  rust
  claim_build_cache
}

# cargo takes what it built for current as long as no source is newer, wherever the sources lay. After a build of another
# clone in the same directory all of ours are made newer.
claim_build_cache() {
  local claim=${CARGO_TARGET_DIR:-target}/clone
  [ "$(cat "$claim" 2>/dev/null)" != "$PWD" ] || return 0
  if [ -d "${claim%/*}" ]; then find . -path ./target -prune -o -path ./.git -prune -o -type f -exec touch -c {} +; fi
  mkdir -p "${claim%/*}"
  echo "$PWD" >"$claim"
}

npm_client() {
  command -v npm >/dev/null && return 0
  say "installing npm"
  apt_get npm || die "cannot install npm"
}

rust() {
  local channel
  channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
  if command -v rustup >/dev/null; then
    # Split in two so that a closed pipe is no failure.
    local have; have=$(rustup toolchain list)
    grep -q "^$channel-" <<<"$have" && return 0
    say "installing Rust $channel"
    rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy --no-self-update
  elif [ "$(cargo --version 2>/dev/null | cut -d' ' -f2)" != "$channel" ]; then
    say "installing rustup and Rust $channel"
    local script; script=$(mktemp)
    curl --proto '=https' --tlsv1.2 -sSf --retry 3 https://sh.rustup.rs -o "$script" || die "cannot download rustup: check the network, or install Rust $channel by hand"
    sh "$script" -y --no-modify-path --profile minimal --default-toolchain "$channel" --component rustfmt --component clippy
    rm -f "$script"
  fi
}

java_major() {
  command -v java >/dev/null || { echo 0; return; }
  local said; said=$(java --version 2>/dev/null) || { echo 0; return; }
  sed -nE '1s/^[^ ]+ ([0-9]+).*/\1/p' <<<"$said"
}

java_tools() {
  # A look at the name is quick, a virtual machine is not: the version is asked for only where it may be too old.
  local path; path=$(readlink -f "$(command -v java || true)" 2>/dev/null || true)
  if ! [[ $path =~ java-(1[7-9]|[2-9][0-9]) ]] && [ "$(java_major)" -lt "$java_major_min" ]; then
    local package=default-jre-headless candidate
    candidate=$(apt-cache policy openjdk-17-jre-headless | awk '/Candidate:/ {print $2}')
    [ -z "$candidate" ] || [ "$candidate" = "(none)" ] || package=openjdk-17-jre-headless
    say "installing $package"
    apt_get "$package" || die "cannot install $package"
    [ "$(java_major)" -ge "$java_major_min" ] || die "java on the path is older than $java_major_min: $(command -v java)"
  fi
  if ! command -v mvn >/dev/null; then
    say "installing maven"
    apt_get maven || die "cannot install maven"
  fi
}

containers() {
  install_missing podman runc netavark aardvark-dns iptables debootstrap ||
    say "no container engine could be installed: the container back end's test will be skipped and counted"
}

[ $# -gt 0 ] || set -- build java npm containers
for part in "$@"; do
  case $part in
    build) build ;;
    java) java_tools ;;
    npm) npm_client ;;
    containers) containers ;;
    *) die "unknown part $part: build, java, npm or containers" ;;
  esac
done
