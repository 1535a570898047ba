# Packages from Debian's archive, unpacked and not installed. Read by the fetch-* scripts beside it:
#
#   . "$(dirname "$0")/debian.sh"      checks DEST ($1), the machine's tools and keyring; sets dest, mirror, work
#   archive "deb ..." ["deb ..."]      what apt is to read from here on; [signed-by] is put in
#   fetch PACKAGE ...                  download and unpack into $work/tree
#   with_libraries PACKAGE PROGRAM     the same with every library that it needs, whatever this machine itself has, and
#                                      a starter in DEST/PROGRAM that runs it with the loader that fits them
#   place PROGRAM                      copy one file of $work/tree into DEST, in one step
#
# Packages come from the mirror that this machine's own apt uses, their signatures checked by the keyring that this
# machine already has. Needs apt-get and dpkg, not root. Exit codes: 0 unpacked, 1 can't be had here, 2 wrong use.
# shellcheck shell=sh
set -eu

script=$(basename "$0")
no() { echo "$script: $*" >&2; exit 1; }

[ $# -eq 1 ] || { echo "usage: $script DEST" >&2; exit 2; }
dest=$1
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

command -v apt-get >/dev/null && command -v dpkg >/dev/null || no "needs apt-get and dpkg (Debian or a relative)"
[ -r "$keyring" ] || no "needs $keyring (package debian-archive-keyring)"

# The mirrors: as apt resolved them, else (no package lists yet) as the sources say.
mirrors=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Origin: Debian" 2>/dev/null | sort -u) || true
if [ -z "$mirrors" ]; then
    mirrors=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed -n -e 's/^deb  *\(\[[^]]*\]  *\)\{0,1\}\([a-z+]*:[^ ]*\).*/\2/p' -e 's/^URIs: *\([^ ]*\).*/\1/p') || true
fi
mirror=$(echo "$mirrors" | grep -v security | head -n 1) || true
security=$(echo "$mirrors" | grep security | head -n 1) || true
[ -n "$mirror" ] || no "found no Debian mirror in apt's sources"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/download" "$work/tree"
: >"$work/status" # nothing is installed there: apt names every library, whatever this machine has

archive() { # LINE...: MIRROR SUITE SECTION
    for line in "$@"; do echo "deb [signed-by=$keyring] $line"; done >"$work/sources.list"
    apt update
}

apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
        -o Acquire::Languages=none -o Acquire::Retries=1 -o APT::Update::Error-Mode=any -o Acquire::http::Timeout=15 \
        -o APT::Sandbox::User= "$@" 2>"$work/err" ||
        no "apt-get $1: $(grep -m 1 '^E:' "$work/err" || tail -n 1 "$work/err")"
}

needed() { # PACKAGE...: itself, and every library that its installation would bring; nothing else of that
    apt install --yes --no-install-recommends --print-uris "$@" >"$work/needed"
    own=$(printf '\\|%s[^_]*' "$@")
    sed -n "s/^'[^']*' \(lib[^_]*$own\)_.*/\1/p" "$work/needed"
}

fetch() { # PACKAGE...
    (cd "$work/download" && apt download "$@") || exit 1
    for package in "$work"/download/*.deb; do
        dpkg -x "$package" "$work/tree" || no "$package can't be unpacked"
    done
}

place() { # FILE, as the package has it
    [ -e "$work/tree/$1" ] || no "the package has no $1"
    mkdir -p "$dest/$(dirname "$1")"
    cp "$work/tree/$1" "$dest/$1.$$"
    mv "$dest/$1.$$" "$dest/$1"
}

with_libraries() { # PACKAGE PROGRAM
    # shellcheck disable=SC2046
    fetch $(needed "$1" | grep -v -e perl -e '^libpam' -e '^libsemanage' -e '^libsepol' -e '-bin$' -e '-common$' -e '-utils$')
    name=$(basename "$2")
    [ -x "$work/tree/$2" ] || no "the package has no $2"
    loader=$(find "$work/tree" -name 'ld-linux*.so.*' | head -n 1)
    [ -n "$loader" ] || no "libc6 brings no loader"
    folders=$(find "$work/tree/lib" "$work/tree/usr/lib" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')
    "$loader" --library-path "$folders" --list "$work/tree/$2" >"$work/list" || no "$name lacks a library"
    mkdir -p "$dest/$(dirname "$2")" "$dest/usr/lib"
    dest=$(cd "$dest" && pwd)
    room=$dest/usr/lib/hecate-$name
    mkdir "$room.$$"
    cp -L "$loader" "$room.$$/loader"
    cp "$work/tree/$2" "$room.$$/$name"
    awk -v tree="$work/tree" '$2 == "=>" && index($3, tree) == 1 { print $3 }' "$work/list" | while read -r library; do
        cp -L "$library" "$room.$$/"
    done
    # Into place in one step: whoever looks meanwhile sees nothing or a whole program.
    rm -rf "$room"
    mv "$room.$$" "$room"
    printf '#!/bin/sh\nexec "%s/loader" --library-path "%s" "%s/%s" "$@"\n' "$room" "$room" "$room" "$name" >"$dest/$2.$$"
    chmod 755 "$dest/$2.$$"
    mv "$dest/$2.$$" "$dest/$2"
}
