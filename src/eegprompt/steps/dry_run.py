"""What a recipe would do, checked as far as it can be without doing it.

Every name is looked up (reader, captioner, split, encoder, objective, text encoder, generator, feature
network), every option compared with what its function takes, every file that the recipe brings itself
looked for. Nothing is read, loaded, fetched or written, so neither recordings nor weights need be
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eegprompt.core.errors import InputError
from eegprompt.core.kinds import KINDS
from eegprompt.core.registry import check_options, forms, resolve
from eegprompt.generators import check_generator_options
from eegprompt.recipe import AblationsRecipe, MakeRecipe, Recipe, load_recipe, read_settings
from eegprompt.settings import ExperimentConfig, load_config
from eegprompt.splits.base import split_function

__all__ = ["dry_run"]

PLACEHOLDER = "RECORDINGS"
"""Stands for the folder of the recordings where none was named."""


def dry_run(
    path: str | Path,
    overrides: Sequence[str] | None = None,
    *,
    source: str | Path | None = None,
) -> list[str]:
    """Check a recipe and say what it would do.

    Parameters
    ----------
    path : path-like
        The YAML file.
    overrides : sequence of str, optional
        ``key=value`` words for its settings.
    source : path-like, optional
        Where the recordings lie; they need not be there.

    Returns
    -------
    list of str
        The steps, in order, in words.

    Raises
    ------
    InputError
        If a name, setting, option or file of the recipe is wrong.
    """
    make = read_settings(path).get("make")
    given = any(word.partition("=")[0].strip() == "study" for word in overrides or ())
    if source is None and not given and isinstance(make, dict) and "import" in make:
        source = PLACEHOLDER
    recipe = load_recipe(path, overrides, source=source)
    config = load_config({"study": "study", **recipe.settings})
    _check_models(config)
    steps = _making(recipe.make) if recipe.make is not None else [f"open {config.study}"]
    return [*steps, *_running(recipe, config)]


def _making(make: MakeRecipe) -> list[str]:
    """Steps that make the study, each checked."""
    steps = []
    if make.simulate is not None:
        from eegprompt.steps.simulate import simulate

        check_options(simulate, make.simulate, "'simulate'")
        steps.append(f"simulate the built-in study{_listed(make.simulate)}")
    elif make.import_ is not None:
        target, argument = resolve("reader", make.import_.reader)
        reader = target(argument) if argument else target()
        model = getattr(reader, "options", None)
        if model is not None:
            model.parse(dict(make.import_.options))
        else:
            check_options(reader.read, make.import_.options, f"the reader '{make.import_.reader}'")
        files = ", ".join(make.import_.files)
        steps.append(
            f"import {files} of {make.import_.source} with the reader '{make.import_.reader}'"
            f"{_listed(make.import_.options)}"
        )
    if make.captions is not None:
        name, _, argument = make.captions.captioner.partition(":")
        target, _ = resolve("captioner", name)
        check_options(target, make.captions.options, f"the captioner '{name}'")
        if (
            name == "file"
            and not argument.startswith(_source_of(make))
            and not Path(argument).exists()
        ):
            raise InputError(f"the captions {argument} do not exist; check the recipe")
        steps.append(
            f"caption every image with '{make.captions.captioner}'{_listed(make.captions.options)}"
        )
    if make.split is not None:
        function, _ = split_function(make.split.kind)
        check_options(
            function, make.split.options, f"the split '{make.split.kind}'", beside=("name",)
        )
        steps.append(f"split '{make.split.kind}'{_listed(make.split.options)}")
    return steps


def _running(recipe: Recipe, config: ExperimentConfig) -> list[str]:
    """Steps from the audit to the report."""
    folds = "each fold" if recipe.folds == "all" else f"fold {config.fold}"
    allowed_leakage = f", waiving {', '.join(config.allow_leakage)}" if config.allow_leakage else ""
    training, generation = config.training, config.generation
    made = recipe.make.split if recipe.make is not None else None
    split = config.split
    if made is not None and "split" not in recipe.settings:
        split = made.name or made.kind
    steps = [
        f"audit the split '{split}'",
        f"train the encoder '{config.encoder.name}' on {folds}, objective '{training.objective}', "
        f"{len(config.kinds)} of {len(KINDS)} caption kinds, text encoder '{config.text_encoder}', "
        f"up to {training.epochs} passes of {training.batch_size} trials, seed {config.seed}{allowed_leakage}",
        f"decode the test trials: candidates of pool '{config.decoding.pool}', heads "
        f"'{config.decoding.selection}', {config.decoding.per_head} caption a head",
        f"draw with '{generation.generator}'{_listed(generation.options)}: prompt sources "
        f"{', '.join(generation.sources)}, {generation.samples} image a prompt",
        f"score with the features '{config.evaluation.features}', protocol "
        f"'{config.evaluation.protocol}', {config.evaluation.permutations:,} permutations",
    ]
    if recipe.explain:
        more = ", with what retrains or redraws" if recipe.explain == "deep" else ""
        if isinstance(recipe.explain, tuple):
            more = f": {', '.join(recipe.explain)}"
        steps.append(f"explain what was decoded{more}")
    if recipe.ablations is not None:
        steps.append(_ablating(recipe.ablations, config))
    if recipe.published is not None:
        steps.append(
            f"write paper/: the scores beside the published ones of {recipe.published.name}, and "
            "Figures 2 to 5"
        )
    return [*steps, "write the report"]


def _ablating(given: AblationsRecipe, config: ExperimentConfig) -> str:
    """What is compared, and how much work that is."""
    from eegprompt.ablations.axes import plan

    variants, n_trainings = plan(config, given.what, given.seeds)
    listed = ", ".join(f"{axis} ({len(names)})" for axis, names in variants.items())
    count = sum(map(len, variants.values()))
    drawn = "each drawn and scored" if given.draw else "scored without images"
    return (
        f"ablate {listed}: {count} variants with {given.seeds} seed{'s' if given.seeds > 1 else ''}, "
        f"{n_trainings} trainings, {drawn}, into ablation/"
    )


def _check_models(config: ExperimentConfig) -> None:
    """Names that need an argument have one; the generator takes its options."""
    for group, spec in (
        ("text encoder", config.text_encoder),
        ("generator", config.generation.generator),
    ):
        name, _, model = spec.partition(":")
        for form in forms(group):
            if form.startswith(f"{name}:") and not model:
                raise InputError(f"the {group} '{spec}' needs to say which: {form}")
    check_generator_options(config.generation.generator, config.generation.options)


def _source_of(make: MakeRecipe) -> str:
    return make.import_.source if make.import_ is not None else "\0"


def _listed(options: dict[str, Any]) -> str:
    """Options in brackets; long texts are cut."""
    if not options:
        return ""
    said = []
    for name, value in options.items():
        text = str(value)
        said.append(f"{name} {text if len(text) <= 60 else text[:57] + '…'}")
    return f" ({', '.join(said)})"
