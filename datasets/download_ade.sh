#!/usr/bin/env bash
# bash datasets/download_ade.sh DIR: fetches the pictures of rooms, for python -m datasets.prepare ade_indoor --source DIR
#
# From ADE_INDOOR_URL, if that is set: the archive (.zip, .tar.gz) of SB-GAN's authors, laid out as
# DIR/ADE15c_indoor_{img,lbl,val_img,val_lbl}. Otherwise, or when that server is gone: the official scene-parsing release
# (923 MB), laid out as DIR/ADEChallengeData2016. Its table of classes is not the authors'.
set -euo pipefail

official=http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip
target="${1:?give the directory to download into}"
mkdir -p "$target"
present="$(find "$target" -maxdepth 1 \( -name 'ADE15c_indoor_*' -o -name ADEChallengeData2016 \) -print -quit)"
if [ -n "$present" ]; then # seen before hundreds of megabytes are fetched
    echo "error: $present exists already; remove it or choose another directory" >&2
    exit 2
fi

fetch() { # URL: continues a broken download, unpacks into $target/.unpacked
    local archive="$target/.download-$(basename "$1")"
    echo "fetching $1"
    curl --fail --location --continue-at - --output "$archive" "$1" || return 1
    rm -rf "$target/.unpacked"
    mkdir "$target/.unpacked"
    case "$1" in
        *.zip) python3 -m zipfile -e "$archive" "$target/.unpacked" ;;
        *) tar -xf "$archive" -C "$target/.unpacked" ;;
    esac || { rm "$archive"; return 1; } # a damaged one must not be continued
    rm "$archive"
}

lay_out() { # NAMES...: moves these directories out of whatever the archive wraps them in
    local name found
    for name in "$@"; do
        found="$(find "$target/.unpacked" -type d -name "$name" -not -path '*/__MACOSX/*' -print -quit)"
        if [ -z "$found" ]; then
            echo "error: the archive has no directory $name; check its address" >&2
            exit 2
        fi
        mv "$found" "$target/$name"
    done
    rm -rf "$target/.unpacked"
}

if [ -n "${ADE_INDOOR_URL:-}" ]; then
    if fetch "$ADE_INDOOR_URL"; then
        lay_out ADE15c_indoor_img ADE15c_indoor_lbl ADE15c_indoor_val_img ADE15c_indoor_val_lbl
        exit 0
    fi
    echo "the authors' archive cannot be had from $ADE_INDOOR_URL; taking the official release instead" >&2
fi
if ! fetch "$official"; then
    echo "error: $official cannot be downloaded; get ADEChallengeData2016 elsewhere and unpack it in $target" >&2
    exit 2
fi
lay_out ADEChallengeData2016
