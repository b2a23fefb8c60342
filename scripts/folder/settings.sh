# folder: pictures of your own. --source: a folder of `images` and `labels`, or --images DIR --labels DIR; what each
# may hold: python -m datasets.prepare folder --help
# scripts/choose.sh chooses the numbers from the store. To give your own, write the arrays of scripts/camvid/settings.sh.

dataset="${name:-folder}" # name=zoo: another data set beside it, with a store and runs of its own
height="${height:-64}"
width="${width:-$height}" # or twice the height
source_kind=folder
prepare=(--height "$height" --width "$width" --name "$dataset")
source "$(dirname "${BASH_SOURCE[0]}")/../choose.sh"
