"""`python -m maskwright_recipes`, the same as `maskwright-recipe`."""

from maskwright_recipes.cli import main

main()
