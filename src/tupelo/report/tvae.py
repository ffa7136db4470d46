"""The page of a run of `tupelo tvae train`: that of any run, told in its own words."""

from collections.abc import Mapping
from typing import Any

from tupelo.recipes.tvae_recipe import TITLES


def autoencoder_sentence(recipe: Mapping[str, Any], data: Mapping[str, Any], part: str) -> str:
    """What was trained on what.

    Args:
        recipe: options of the run.
        data: pictures and classes of each part.
        part: what was measured, or "".

    >>> autoencoder_sentence({"method": "vae", "model": "mlp", "dim": 20}, {}, "")
    'A variational autoencoder without triplets (VAE): mlp with codes of 20 dimensions.'
    """
    title = TITLES.get(str(recipe.get("method")), "variational autoencoder")
    title = title[:1].upper() + title[1:] if title.startswith("triplets") else f"A {title}"
    told = f"{title}: {recipe.get('model')} with codes of {recipe.get('dim')} dimensions"
    if recipe.get("weight_triplet"):
        drawn = "drawn anew for every epoch" if recipe.get("fresh") else "drawn once"
        told += f", {int(recipe.get('triplets') or 0):,} triplets {drawn}, margin "
        told += f"{recipe.get('margin'):g}"
    if float(recipe.get("labelled", 1)) < 1:
        told += f", classes of {100 * float(recipe['labelled']):g} % of the pictures used"
    for name, words in (("train", "on"), (part, "; measured on")):
        side = data.get(name)
        if side:
            space = "" if words.startswith(";") else ", trained "
            kind = f" {name}" if name != "train" else ""
            told += (
                f"{space}{words} {side['pictures']:,}{kind} pictures of {side['classes']:,} classes"
            )
    return f"{told}."
