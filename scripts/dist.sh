#!/usr/bin/env bash
# Builds everything that a release consists of, into dist/, and prints the names of the files.
#
#   scripts/dist.sh               all of it
#   scripts/dist.sh PART …        only these: binaries, tarballs, debs, sbom, images, sums
#
# Binaries, tarballs and packages should depend only on the source, the lock file and the toolchain
# (`scripts/soak.sh dist` compares two builds in two directories). GATEVISOR_DIST
# names another directory than dist/. GATEVISOR_DIST_TARGETS builds for fewer processors than
# x86_64 and aarch64.
#
# The toolchain's own linker links, and nothing is written in C, so no cross compiler is needed.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

cd "$root"
# A release has the image with the usual Hermes.
unset HERMES
umask 022
out=${GATEVISOR_DIST:-$root/dist}
build=${CARGO_TARGET_DIR:-$root/target}/dist
read -ra targets <<<"${GATEVISOR_DIST_TARGETS:-x86_64 aarch64}"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
# The time of everything in an archive: that of the last commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC

all=(binaries tarballs debs sbom images sums)
parts=("$@")
((${#parts[@]} > 0)) || parts=("${all[@]}")
for part in "${parts[@]}"; do
    [[ " ${all[*]} " == *" $part "* ]] || die "there is no part \`$part\`" "there are: ${all[*]}"
done

triple() { printf '%s-unknown-linux-musl\n' "$1"; }
binary() { printf '%s/%s/release/gatevisor\n' "$build" "$(triple "$1")"; }
name() { printf 'gatevisor-%s-linux-%s\n' "$version" "$1"; }
debian() { case $1 in x86_64) echo amd64 ;; aarch64) echo arm64 ;; *) die "no Debian name for $1" ;; esac; }

# Returns a file of the build for this machine, which can be executed here.
native() { binary "$(uname -m)"; }

# --- parts ----------------------------------------------------------------------------------------

part_binaries() {
    local target cargo=(cargo build) flags
    # The list of all dependencies in the binary itself, for `cargo audit bin`.
    if cargo auditable --version >/dev/null 2>&1; then
        cargo=(cargo auditable build)
    else
        say 'warning: cargo-auditable is not installed, so no binary lists its dependencies'
    fi
    flags="-C linker=rust-lld -C linker-flavor=ld.lld -C link-self-contained=yes -C target-feature=+crt-static"
    # No path of this machine is in the result.
    flags+=" --remap-path-prefix=$root=/source --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
    flags+=" --remap-path-prefix=$(rustc --print sysroot)=/rust"
    for target in "${targets[@]}"; do
        scripts/build.sh --has-target "$(triple "$target")" ||
            rustup target add "$(triple "$target")" </dev/null >&2 ||
            die "the Rust target $(triple "$target") is not installed" "run: rustup target add $(triple "$target")"
        say "building for $target"
        RUSTFLAGS=$flags CARGO_TARGET_DIR=$build CARGO_INCREMENTAL=0 \
            "${cargo[@]}" --locked --release --target "$(triple "$target")" --package gatevisor >&2
        grep -qaF -- "$root" "$(binary "$target")" && die "$(binary "$target") names the directory it was built in"
    done
    return 0
}

# Prints a completion script that calls the installed program, not the one that was just built.
completions() { # PROGRAM SHELL
    "$1" completions "$2" | sed "s|$(realpath -- "$1")|gatevisor|g"
}

# Writes what both a tarball and a package have, below a directory: completions, man pages, units.
shared_files() { # PREFIX-OF-SHARE
    local share=$1 program
    program=$(native)
    mkdir -p "$share/bash-completion/completions" "$share/zsh/vendor-completions" "$share/fish/vendor_completions.d"
    completions "$program" bash >"$share/bash-completion/completions/gatevisor"
    completions "$program" zsh >"$share/zsh/vendor-completions/_gatevisor"
    completions "$program" fish >"$share/fish/vendor_completions.d/gatevisor.fish"
    mkdir -p "$share/man/man1"
    if "$program" man --help >/dev/null 2>&1 </dev/null; then
        "$program" man "$share/man/man1" >&2
    else
        rmdir -- "$share/man/man1" "$share/man"
    fi
}

# Gives everything in a directory the same time and the modes of files that everybody may read.
same_everywhere() {
    find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}

part_tarballs() {
    local target stage
    for target in "${targets[@]}"; do
        stage=$(mktemp -d)
        local top
        top=$stage/$(name "$target")
        mkdir -p "$top/bin" "$top/share/doc/gatevisor" "$top/lib"
        install -m 755 "$(binary "$target")" "$top/bin/gatevisor"
        install -m 644 README.md CHANGELOG.md SECURITY.md LICENSE-MIT LICENSE-APACHE "$top/share/doc/gatevisor/"
        cp -R -- deploy/systemd "$top/lib/systemd"
        shared_files "$top/share"
        same_everywhere "$top"
        tar --create --sort=name --owner=0 --group=0 --numeric-owner --format=gnu --mtime="@$SOURCE_DATE_EPOCH" \
            --mode='u=rwX,go=rX' --directory="$stage" "$(name "$target")" | gzip -9n >"$out/$(name "$target").tar.gz"
        rm -rf -- "$stage"
    done
}

part_debs() {
    have dpkg-deb || die 'dpkg-deb is not installed' 'run this on Debian or Ubuntu, or without the part `debs`'
    local target stage
    for target in "${targets[@]}"; do
        stage=$(mktemp -d)
        chmod 755 "$stage"
        mkdir -p "$stage/DEBIAN" "$stage/usr/bin" "$stage/usr/share/doc/gatevisor" "$stage/usr/lib/systemd"
        install -m 755 "$(binary "$target")" "$stage/usr/bin/gatevisor"
        cp -R -- deploy/systemd/{system,user} "$stage/usr/lib/systemd/"
        shared_files "$stage/usr/share"
        [[ ! -d $stage/usr/share/man ]] || find "$stage/usr/share/man" -type f -exec gzip -9n {} +
        cat deploy/debian/copyright >"$stage/usr/share/doc/gatevisor/copyright"
        gzip -9n <CHANGELOG.md >"$stage/usr/share/doc/gatevisor/changelog.gz"
        chmod -R u=rwX,go=rX "$stage"
        sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$(debian "$target")/" \
            -e "s/@SIZE@/$(du -sk --apparent-size "$stage/usr" | cut -f1)/" deploy/debian/control >"$stage/DEBIAN/control"
        install -m 755 deploy/debian/{preinst,postinst} "$stage/DEBIAN/"
        (cd "$stage" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
        same_everywhere "$stage"
        dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$stage" "$out/gatevisor_${version}_$(debian "$target").deb" >&2
        rm -rf -- "$stage"
    done
}

part_sbom() {
    if ! cargo cyclonedx --version >/dev/null 2>&1; then
        say 'warning: NO SBOM WAS MADE: cargo-cyclonedx is not installed'
        return 0
    fi
    local target made=crates/gatevisor/gatevisor-sbom.json
    for target in "${targets[@]}"; do
        cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$(triple "$target")" \
            --manifest-path crates/gatevisor/Cargo.toml --override-filename gatevisor-sbom >&2
        sed "s|$root|/source|g" "$made" >"$out/$(name "$target").cdx.json"
        # It writes one for each crate of the workspace.
        find crates -name gatevisor-sbom.json -delete
    done
}

part_images() {
    if ! engine; then
        say 'warning: NO IMAGE WAS SAVED: no Docker engine answers'
        return 0
    fi
    local image=${GATEVISOR_IMAGE:-gatevisor:latest}
    scripts/image.sh "$(native)" >&2
    docker save "$image" | gzip -n >"$out/gatevisor-$version-image.tar.gz"
    docker save "$image-minimal" | gzip -n >"$out/gatevisor-$version-image-minimal.tar.gz"
}

part_sums() { (cd "$out" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%f\n' | sort | xargs sha256sum >SHA256SUMS); }

mkdir -p "$out"
for part in "${parts[@]}"; do
    "part_$part"
done
find "$out" -maxdepth 1 -type f | sort
