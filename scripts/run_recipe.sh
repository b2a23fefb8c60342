# Sourced by scripts/<data set>/<recipe>.sh: the recipe of that name with that data set's settings.

folder="$(dirname "${BASH_SOURCE[1]}")"
baseline=() # unless the settings have some
source "$folder/settings.sh"
source "$(dirname "${BASH_SOURCE[0]}")/recipe.sh"
begin "$@"
source "$root/scripts/recipes/$(basename "${BASH_SOURCE[1]}")"
