#!/usr/bin/env bash
# Finds the digest of every image that .env.example names by a tag, and writes NAME=IMAGE:TAG@DIGEST to .env, from where
# Docker Compose takes it. Run it again to move on to what the tags mean by then.
#
#   deploy/pin_images.sh [ENV-FILE]
#
# Needs Docker with buildx, or skopeo, and the network. Writes nothing unless every digest was found.
set -euo pipefail

source=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
file=${1:-$source/.env}

digest() { # IMAGE
    if command -v docker > /dev/null; then
        docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1"
    elif command -v skopeo > /dev/null; then
        skopeo inspect --no-tags --format '{{.Digest}}' "docker://$1"
    else
        echo "neither docker nor skopeo is installed; install one of them" >&2
        return 1
    fi
}

pinned=
while IFS='=' read -r name image; do
    found=$(digest "$image") || { echo "no digest of $image was found, so $file is as it was" >&2; exit 1; }
    [[ $found =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "'$found' is no digest of $image; $file is as it was" >&2; exit 1; }
    pinned+="$name=$image@$found"$'\n'
done < <(sed -n 's/^#\([A-Z]*_IMAGE=.*\)/\1/p' "$source/.env.example")
[ "$pinned" ] || { echo "$source/.env.example names no image" >&2; exit 1; }

new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
[ ! -e "$file" ] || grep -v '^[A-Z]*_IMAGE=' "$file" > "$new" || true
printf %s "$pinned" >> "$new"
chmod --reference="$([ -e "$file" ] && echo "$file" || echo "$source/.env.example")" "$new"
mv "$new" "$file"
printf %s "$pinned"
