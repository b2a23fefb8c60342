#!/usr/bin/env bash
# bash scripts/new_dataset.sh NAME: makes scripts/NAME with a file for each recipe and, unless there is one, a
# settings.sh for pictures of your own. Where you wrote settings.sh yourself, only the recipes' files are made.
set -euo pipefail
scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
name="${1:-}"
if [[ $# -ne 1 || ! "$name" =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ || "$name" = recipes ]]; then
    echo "error: NAME is '$*', but must be one name of letters, digits, _ . and -; bash scripts/new_dataset.sh NAME" >&2
    exit 2
fi

mkdir -p "$scripts/$name"
for recipe in "$scripts"/recipes/*.sh; do
    cat >"$scripts/$name/$(basename "$recipe")" <<'STUB'
#!/usr/bin/env bash
# The recipe of this name in scripts/recipes, with the numbers of settings.sh. Made by scripts/new_dataset.sh.
source "$(dirname "${BASH_SOURCE[0]}")/../run_recipe.sh"
STUB
done
if [ ! -e "$scripts/$name/settings.sh" ]; then
    cat >"$scripts/$name/settings.sh" <<SETTINGS
# $name: pictures of your own. --source: a folder of \`images\` and \`labels\`, or --images DIR --labels DIR; what each
# may hold: python -m datasets.prepare folder --help
# scripts/choose.sh chooses the numbers from the store. To give your own, write the arrays of scripts/camvid/settings.sh.

dataset=$name
height="\${height:-64}"
width="\${width:-\$height}" # or twice the height
source_kind=folder
prepare=(--height "\$height" --width "\$width" --name "\$dataset")
source "\$(dirname "\${BASH_SOURCE[0]}")/../choose.sh"
SETTINGS
fi
echo "$scripts/$name: recipes; the first is bash scripts/$name/train_progressive_seg.sh --source DIR"
