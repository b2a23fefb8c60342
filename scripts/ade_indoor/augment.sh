#!/usr/bin/env bash
# The recipe of this name in scripts/recipes, with the numbers of settings.sh. Made by scripts/new_dataset.sh.
source "$(dirname "${BASH_SOURCE[0]}")/../run_recipe.sh"
