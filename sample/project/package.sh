#!/bin/sh
# Packs the release build into out/: an archive and its checksum.
set -eu
name=tally-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
rm -rf out "target/$name"
mkdir -p out "target/$name"
cp target/release/tally README.md "target/$name/"
tar -C target -czf "out/$name.tar.gz" "$name"
(cd out && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
