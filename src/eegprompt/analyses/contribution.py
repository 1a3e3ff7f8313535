"""What each head contributes to the images: generated again without it, and scored again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from eegprompt.analyses.base import Analysis, Answer, Context, Finding, Image, Omitted, once
from eegprompt.core.errors import InputError, RunError, StudyError, TokenBudgetError
from eegprompt.core.files import atomic_path, content_key, read_arrays
from eegprompt.decoder import image_seed
from eegprompt.features.base import load_features
from eegprompt.figures import style as look
from eegprompt.generators import load_generator
from eegprompt.generators.requests import ImageRequest, check_generator, request_images
from eegprompt.metrics.identification import two_way
from eegprompt.metrics.pixels import resized
from eegprompt.prompts import head_captions
from eegprompt.retrieval.candidates import candidates_in_prompts, composer_of
from eegprompt.scores.choice import select_trials
from eegprompt.stats.bootstrap import bootstrap, ratio_statistic

__all__ = ["Contribution"]

TRIALS = 96  # one of each image, at most; every head costs as many images again
BATCH = 16


@dataclass(frozen=True)
class _Drop:
    """What a score loses without a head; positive where the head helps."""

    value: float
    lo: float
    hi: float


class Contribution(Analysis):
    """Generate test trials without one head at a time, and compare two-way identification.

    The rest of the prompt, the budget, the generator and the seeds are as before; where a head had no
    room in a prompt, nothing changes. Arrays are ``trial_id (n,)`` and, for each layer of the features,
    ``LAYER (n_heads + 1, n)``: identification with all heads, then without each.
    """

    name = "contribution"
    title = "What each head contributes to the images"
    question = "What each head contributes to the images: generated again without it"
    not_concluded = (
        "Leaving a head out also makes room for others and shortens the prompt, and the generator may "
        "fill in what is missing: a small loss does not mean that the head knows nothing, and losses of "
        "several heads do not add up. The figures hold for this generator and these features alone; "
        "built-in features cannot be compared with published ones."
    )
    answers: ClassVar = {
        "loss": (
            "By {layer} features identification is {all:.1f} % with all heads and loses most without "
            "{head} ({value:+.1f} points, 95 % [{lo:+.1f}, {hi:+.1f}]); the interval excludes 0 for "
            "{helps}.",
            "By {layer} features identification is {all:.1f} % with all heads; the interval of the loss "
            "excludes 0 for no head (most without {head}, {value:+.1f} points, 95 % [{lo:+.1f}, "
            "{hi:+.1f}]).",
        ),
    }
    needs_images = True
    only_deep = True

    def compute(self, context: Context) -> Finding:
        """Generate, compute features, and compare."""
        if len(context.heads) < 2:
            raise Omitted("the run has one head, and without it there is no prompt")
        shown = context.study.trials["image_id"].astype(str).to_numpy()
        trials = context.sample(
            select_trials(shown.tolist(), context.ids("test"), 1, context.seed), TRIALS
        )
        images = shown[trials]
        if len(set(images.tolist())) < 2:
            raise Omitted("fewer than two images were shown on the test set")
        prompts = _prompts(context, trials)
        features = _features(context, trials, prompts)
        try:
            references = [context.study.load_images([image])[0] for image in images]
        except StudyError as problem:
            raise Omitted(f"the images that were shown are gone: {problem}") from None
        evaluation = context.settings.evaluation
        network = load_features(evaluation)
        size = (features.height, features.width, 3)
        own = network(np.stack([resized(image, size) for image in references]))
        layers = [
            layer
            for layer, use in network.uses
            if use == "two_way_{features}" and layer in features.of[""] and layer in own
        ]
        scores = {
            layer: np.stack(
                [
                    two_way(own[layer], features.of[without][layer])
                    for without in ("", *context.heads)
                ]
            )
            for layer in layers
        }
        drops = {layer: _drops(table, context.seed) for layer, table in scores.items()}
        kept = {
            head: float(np.mean([a.text != b.text for a, b in zip(prompts[""], prompts[head])]))
            for head in context.heads
        }
        with look.style():
            figure = _draw(context, drops, len(trials))
        return self.finding(
            (self._answer(context, layer, scores[layer], of) for layer, of in drops.items()),
            table=_table(context, kept, scores, drops),
            figures=[figure],
            arrays={"trial_id": trials, **scores},
            notes=[
                f"{len(trials)} test trials, one of each image; two-way identification on features "
                f"“{evaluation.features}”, generator {context.settings.generation.generator}, the "
                "seeds of the run.",
                "Intervals: 95 %, bootstrap over images, of the difference on the same trials; not "
                "corrected for the number of heads.",
            ],
        )

    def _answer(
        self, context: Context, layer: str, table: np.ndarray, drops: list[_Drop]
    ) -> Answer:
        order = np.argsort([-d.value for d in drops])
        helps = [context.heads[i] for i in order if drops[i].lo > 0]
        most = drops[order[0]]
        return self.answer(
            "loss", bool(helps), layer=layer, all=100 * np.nanmean(table[0]), chance=0.5,
            head=context.heads[order[0]], helps=", ".join(helps), value=100 * most.value,
            lo=100 * most.lo, hi=100 * most.hi,
        )  # fmt: skip


# -- prompts and images ------------------------------------------------------------------------
@once
def _generator(context: Context) -> Any:
    generation = context.settings.generation
    return load_generator(generation.generator, **generation.options)


def _prompts(context: Context, trials: np.ndarray) -> dict[str, list[Any]]:
    """Prompts with all heads (under the empty name) and without each."""
    decoding = context.settings.decoding.model_dump()
    composer = composer_of(decoding, context.calibrations)
    generator = _generator(context)
    count = lru_cache(maxsize=100_000)(generator.count_tokens)
    captions_of = head_captions(context.decodings, trials, candidates_in_prompts(decoding))
    found: dict[str, list[Any]] = {}
    for without in ("", *context.heads):
        rest = [[c for c in captions if c.head != without] for captions in captions_of]
        try:
            found[without] = [composer.prompt(c, count, generator.max_tokens) for c in rest]
        except (TokenBudgetError, InputError) as problem:
            raise Omitted(
                f"prompts cannot be made without {without or 'any head'}: {problem}"
            ) from None
    return found


@dataclass(frozen=True)
class _Features:
    """Features of the images by left-out head and layer, and the images' size."""

    of: dict[str, dict[str, np.ndarray]]
    height: int
    width: int


def _features(context: Context, trials: np.ndarray, prompts: dict[str, list[Any]]) -> _Features:
    """Generate what was not generated before; kept by prompt and seed, so that a stop loses one batch."""
    generator = _generator(context)
    network = load_features(context.settings.evaluation)
    seeds = [image_seed(context.seed, int(trial)) for trial in trials]
    negative = context.settings.generation.negative_prompt
    requests = {
        without: [ImageRequest(p.text, seed, p.parts) for p, seed in zip(some, seeds)]
        for without, some in prompts.items()
    }
    distinct = list(dict.fromkeys(r for some in requests.values() for r in some))
    try:
        check_generator(generator, distinct, negative)
    except InputError as problem:
        raise Omitted(str(problem).rstrip(".")) from None
    folder = context.folder / "explain" / "contribution"
    look_of = content_key(getattr(generator, "settings", {"model": generator.name}), negative)
    kind = content_key(context.settings.evaluation.features, getattr(network, "revision", ""))
    rows: dict[ImageRequest, dict[str, np.ndarray]] = {}
    size = (0, 0)
    for start in range(0, len(distinct), BATCH):
        part = distinct[start : start + BATCH]
        key = content_key([[r.prompt, r.seed, list(r.parts)] for r in part], look_of, kind)
        found = _stored(folder / f"{key}.safetensors")
        if found is None:
            images, _ = request_images(generator, part, negative)
            found = {k: np.asarray(v, np.float32) for k, v in network(images).items()}
            found["size"] = np.array(images.shape[1:3])
            _store(folder / f"{key}.safetensors", found)
        size = (int(found["size"][0]), int(found["size"][1]))
        for i, request in enumerate(part):
            rows[request] = {k: v[i] for k, v in found.items() if k != "size"}
        context.progress(start + len(part), len(distinct), "generating without single heads")
    of = {
        without: {layer: np.stack([rows[r][layer] for r in some]) for layer in rows[some[0]]}
        for without, some in requests.items()
    }
    return _Features(of, *size)


def _stored(path: Any) -> dict[str, np.ndarray] | None:
    try:
        return read_arrays(path, error=RunError) if path.exists() else None
    except RunError:
        return None  # generated again


def _store(path: Any, arrays: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    with atomic_path(path) as partial:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, partial)


# -- scores --------------------------------------------------------------------------------------
def _drops(table: np.ndarray, seed: int) -> list[_Drop]:
    """What each head's absence costs: mean over trials with an interval."""
    drops = []
    for without in table[1:]:
        lost = table[0] - without
        some = np.isfinite(lost)
        spread = bootstrap(
            ratio_statistic(lost[some], np.ones(some.sum())), int(some.sum()), 1000, seed=seed
        )
        drops.append(_Drop(spread.value, spread.lo, spread.hi))
    return drops


def _table(
    context: Context,
    kept: dict[str, float],
    scores: dict[str, np.ndarray],
    drops: dict[str, list[_Drop]],
) -> list[dict[str, Any]]:
    rows = []
    for i, head in enumerate(context.heads):
        row: dict[str, Any] = {"without": head, "prompts changed (%)": round(100 * kept[head], 1)}
        for layer, table in scores.items():
            drop = drops[layer][i]
            row[f"{layer} (%)"] = round(100 * float(np.nanmean(table[i + 1])), 1)
            row[f"{layer}, lost (points)"] = (
                f"{100 * drop.value:+.1f} [{100 * drop.lo:+.1f}, {100 * drop.hi:+.1f}]"
            ).replace("-", "−")
        rows.append(row)
    return rows


def _draw(context: Context, drops: dict[str, list[_Drop]], n: int) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(look.TWO_COLUMNS, 0.7 + 0.22 * len(context.heads)), layout="constrained"
    )
    panels = np.atleast_1d(figure.subplots(1, max(len(drops), 1), sharey=True, sharex=True))
    for axes, (layer, of_heads) in zip(panels, drops.items()):
        axes.axvline(0, color=look.INK, lw=0.9, ls=(0, (3, 2)))
        for y, (head, drop) in enumerate(zip(context.heads, of_heads)):
            style = look.head_style(head)
            sure = drop.lo > 0 or drop.hi < 0
            axes.plot([100 * drop.lo, 100 * drop.hi], [y, y], color=style["color"], lw=1.6)
            axes.plot(
                100 * drop.value, y, style["marker"], color=style["color"], ms=5.5,
                mfc=style["color"] if sure else "white",
            )  # fmt: skip
        axes.set_title(f"{layer} features")
        axes.set_xlabel("identification lost without the head (points)")
        axes.set_yticks(range(len(context.heads)), context.heads)
    panels[0].invert_yaxis()
    return context.save_figure(
        figure,
        "contribution",
        f"What two-way identification loses when a head is left out of the prompts, {n} trials; to "
        "the right the head helps. Lines: 95 % intervals over images; filled where they exclude 0.",
    )
