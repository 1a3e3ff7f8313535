"""Scores of generated images on the layers of a feature network.

Each paired score is computed as a table, images × references, so that permuting which reference a
image belongs to costs nothing more. Scores of whole sets (inception score, FID, KID) have no
permutation: the same scores of the references stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import InputError, MissingDependencyError, ModelLoadError
from eegprompt.core.registry import resolve
from eegprompt.metrics.distributions import frechet_distance, inception_score, kernel_distance
from eegprompt.metrics.generation import n_way_accuracy, same_class
from eegprompt.metrics.identification import (
    feature_correlation,
    feature_cosine,
    squared_distances,
    two_way_table,
)
from eegprompt.scores.feature_file import FeatureFile
from eegprompt.scores.image_scores import squashed
from eegprompt.scores.rows import Score, number, row_of
from eegprompt.sources import SOURCES

if TYPE_CHECKING:
    from eegprompt.scores.image_scores import ImageScores

__all__ = ["feature_scores", "load_features"]

_IN_MEMORY = 256 << 20  # bytes of one layer's features; larger ones lie in a temporary file
_DEFAULT_USES = (("early", "two_way"), ("late", "two_way"))

Features = dict[str, Any]  # by layer: an array, or a file of rows that is read like one
Table = Callable[[np.ndarray, np.ndarray], np.ndarray]


def feature_scores(images: ImageScores) -> list[Score]:
    """Rows for everything that the run's feature network serves; what it cannot serve is named."""
    work = images.work
    name = work.settings.features
    try:
        network = load_features(name, work.settings)
    except (ModelLoadError, MissingDependencyError) as problem:
        work.missing.append(f"image scores on features '{name}': {problem}")
        return []
    for what, why in getattr(network, "missing", {}).items():
        work.missing.append(f"image scores by network '{what}': {why}")
    return _FeatureScores(images, name, network).scores()


def load_features(name: str, settings: Any) -> Any:
    """The feature network of a run, by its name and its settings under ``evaluation``."""
    loader, argument = resolve("features", name)
    if name.partition(":")[0] == "pretrained":
        return loader(argument, weights=settings.weights, protocol=settings.protocol)
    return loader(argument) if argument else loader()


class _FeatureScores:
    """The features of all prompt sources and references while they are scored."""

    def __init__(self, images: ImageScores, name: str, network: Any):
        self.images = images
        self.work = images.work
        self.name = name
        self.network = network
        self.size = images.load([images.images["eeg"][int(images.trials[0])][0]])[0].shape
        self.references = self._features(images.image_ids, images.shown, "references")
        self.by_source = {}
        for source in SOURCES:
            paths, _ = images.files(source)
            if paths:
                self.by_source[source] = self._features(
                    paths, images.load, f"images of prompt source '{source}'"
                )

    def scores(self) -> list[Score]:
        """All rows."""
        work, images = self.work, self.images
        self._explain()
        scores: list[Score] = []
        if len(images.image_ids) < 2:
            work.missing.append("two-way identification: there is only one reference")
            return []
        for layer, use in getattr(self.network, "uses", _DEFAULT_USES):
            if layer not in self.references:
                if not getattr(self.network, "missing", {}):
                    work.missing.append(f"score '{use}': '{self.name}' has no layer '{layer}'")
                continue
            try:
                scores += getattr(self, f"_{use}")(layer)
            except InputError as problem:  # such as a reference whose features are not finite
                work.missing.append(f"score '{use}' on layer '{layer}': {problem}")
        return scores

    def _explain(self) -> None:
        work = self.work
        if self.name.partition(":")[0] == "builtin":
            work.note(
                "Features 'builtin' are those of a small network trained on the built-in scenes: such "
                "scores cannot be compared with published ones, which use other networks."
            )
        elif getattr(self.network, "revision", ""):
            work.note(f"Weights of features '{self.name}': {self.network.revision}.")
        work.note(
            "Two-way identification: how often the features of an image correlate more with its own "
            "reference than with another; each distinct reference is one distractor, ties count half, "
            "chance is one half. Within class, only references of the same class are distractors."
        )

    # -- features ------------------------------------------------------------------------------
    def _features(
        self, names: Sequence[Any], load: Callable[[Sequence[Any]], list[np.ndarray]], what: str
    ) -> Features:
        """Features by layer, a row an image; images are loaded a few at a time."""
        out: Features = {}
        bad: dict[str, int] = {}
        for start in range(0, len(names), 64):
            loaded = load(names[start : start + 64])
            if not getattr(self.network, "any_size", False):
                loaded = [squashed(image, self.size) for image in loaded]
            by_size: dict[tuple[int, ...], list[int]] = {}
            for i, image in enumerate(loaded):
                by_size.setdefault(image.shape, []).append(i)
            for members in by_size.values():
                given = self.network(np.stack([loaded[i] for i in members]))
                for layer, values in given.items():
                    rows = np.asarray(values, dtype=np.float32).reshape(len(members), -1)
                    if layer not in out:
                        out[layer] = _room((len(names), rows.shape[1]))
                    for i, row in zip(members, rows):
                        out[layer][start + i] = row
                        if not np.isfinite(row).all():
                            bad[layer] = bad.get(layer, 0) + 1
        for layer, n in bad.items():
            self.work.note(
                f"{n} of {len(names)} {what} have features on layer '{layer}' that are not finite: "
                "two-way identification and accuracies count them as wrong, distances and cosines "
                "leave their trials out (n says how many are left), scores of sets are not computed."
            )
        return out

    # -- scores of pairs -----------------------------------------------------------------------
    def _paired(
        self,
        metric: str,
        layer: str,
        table: Callable[[Features, np.ndarray | None], np.ndarray],
        *,
        unit: str,
        better: bool = True,
        scopes: Sequence[str] = ("all",),
        note: str = "",
    ) -> list[Score]:
        """Rows of one score from its table by prompt source, images × references."""
        images = self.images
        image_class = np.zeros(len(images.image_ids), dtype=int)
        image_class[images.units.images] = images.units.classes
        scores = []
        for scope in scopes:
            groups = image_class if scope == "within-class" else None
            tables = {
                source: images.by_trial(table(features, groups), source)
                for source, features in self.by_source.items()
                if layer in features
            }
            row = {
                **images.base,
                "metric": metric,
                "scope": scope,
                "unit": unit,
                "higher_is_better": better,
                "features": self.name,
                "weights": self._weights(layer),
                "protocol": self._protocol(layer),
                "note": "; ".join(n for n in (note, images.remark) if n) or None,
            }
            score = images.table_score(row, tables, within=scope == "within-class")
            if score is None:
                self.work.missing.append(
                    f"{metric} within class: no class has two distinct references"
                )
            else:
                scores.append(score)
                scores += images.further_of_tables(row, tables)
        return scores

    def _protocol(self, layer: str) -> str:
        if getattr(self.network, "any_size", False):
            return "torch-fidelity" if layer.startswith("fid") else str(self.work.settings.protocol)
        return f"squashed to {self.size[1]}x{self.size[0]}"

    def _weights(self, layer: str) -> str | None:
        """Weights behind a layer, where the network can say which."""
        says = getattr(self.network, "weights_of", None)
        return str(says(layer)) if says is not None else None

    def _two_way(self, layer: str) -> list[Score]:
        return self._paired(
            f"two_way_{layer}",
            layer,
            lambda f, groups: two_way_table(self.references[layer], f[layer], classes=groups),
            unit="proportion",
            scopes=("within-class", "all") if self.work.known else ("all",),
        )

    def _distance(self, layer: str) -> list[Score]:
        return self._paired(
            f"{layer}_distance",
            layer,
            lambda f, _: 1 - feature_correlation(self.references[layer], f[layer]).T,
            unit="1 - r",
            better=False,
        )

    def _cosine(self, layer: str) -> list[Score]:
        return self._paired(
            f"{layer}_image_cosine",
            layer,
            lambda f, _: feature_cosine(self.references[layer], f[layer]).T,
            unit="cosine",
        )

    def _squared_distance(self, layer: str) -> list[Score]:
        return self._paired(
            layer,
            layer,
            lambda f, _: squared_distances(self.references[layer], f[layer]).T,
            unit="distance",
            better=False,
        )

    def _caption_score(self, layer: str) -> list[Score]:
        """CLIPScore with the reference image's own captions: mean over them of 100 max(cosine, 0)."""
        work, images = self.work, self.images.image_ids
        table = work.captions[work.captions["kind"].isin(work.config.kinds)]
        texts = table[table["image_id"].isin(set(images))].groupby("image_id")["text"].agg(list)
        absent = [image for image in images if image not in texts.index]
        if absent:
            work.missing.append(f"clip_score: {len(absent)} test images have no captions")
            return []
        every = sorted({text for of_image in texts for text in of_image})
        row = {text: i for i, text in enumerate(every)}
        embedded = self.network.embed_texts(every)
        own = np.zeros((len(every), len(images)))
        for column, image in enumerate(images):
            for text in texts[image]:
                own[row[text], column] += 1 / len(texts[image])

        def scored(features: Features, _groups: np.ndarray | None) -> np.ndarray:
            cosine = feature_cosine(embedded, features[layer]).T
            return 100 * np.maximum(cosine, 0) @ own

        work.note(
            "clip_score: 100 max(cosine, 0) of a generated image with the captions of the image seen, "
            "mean over its captions (CLIPScore as torchmetrics scales it)."
        )
        return self._paired("clip_score", layer, scored, unit="score")

    def _classes(self, layer: str) -> list[Score]:
        """What a classifier names in an image, against what it names in the reference."""
        n_classes = self.references[layer].shape[1]
        targets = np.argmax(np.asarray(self.references[layer]), axis=1)
        ways = min(50, n_classes)

        def by_target(
            score: Callable[[np.ndarray, np.ndarray], np.ndarray], of: np.ndarray
        ) -> Table:
            def table(rows: np.ndarray, _unused: np.ndarray) -> np.ndarray:
                out = np.empty((len(rows), len(of)))
                for target in np.unique(of):
                    out[:, of == target] = score(rows, np.full(len(rows), target))[:, None]
                return out

            return table

        n_way = by_target(lambda rows, t: n_way_accuracy(rows, t, n=ways, k=1), targets)
        strict = by_target(same_class, targets)
        self.work.note(
            f"What a classifier sees: the target is what it names in the reference; {ways}-way is exact "
            f"over all draws of {ways - 1} other classes"
            + (f", {n_classes}-way is its first among all." if ways < n_classes else ".")
        )
        scores = self._paired(
            f"{ways}_way_accuracy",
            layer,
            lambda f, _: n_way(f[layer], targets),
            unit="proportion",
        )
        if ways < n_classes:
            scores += self._paired(
                f"{n_classes}_way_accuracy",
                layer,
                lambda f, _: strict(f[layer], targets),
                unit="proportion",
            )
        return scores + self._dataset_classes(layer)

    def _dataset_classes(self, layer: str) -> list[Score]:
        """Accuracy against the true categories, among the classes that stand for them."""
        names = getattr(self.network, "class_names", None)
        if names is None:
            return []
        known = {_plain(name): i for i, name in reversed(list(enumerate(names)))}
        categories = sorted({str(c) for c in self.work.categories})
        lacking = [c for c in categories if _plain(c) not in known]
        if lacking:
            self.work.missing.append(
                f"dataset_way_accuracy: {len(lacking)} of {len(categories)} categories are not among "
                f"the classes of '{self.name}' (first: '{lacking[0]}')"
            )
            return []
        columns = [known[_plain(c)] for c in categories]
        of_image = dict(zip(self.work.images, self.work.categories))
        truth = np.array([categories.index(str(of_image[i])) for i in self.images.image_ids])

        def table(features: Features, _groups: np.ndarray | None) -> np.ndarray:
            rows = np.asarray(features[layer])[:, columns]
            by_class = np.stack(
                [same_class(rows, np.full(len(rows), c)) for c in range(len(categories))], axis=1
            )
            return by_class[:, truth]

        return self._paired(
            "dataset_way_accuracy",
            layer,
            table,
            unit="proportion",
        )

    # -- scores of sets ------------------------------------------------------------------------
    def _set_row(
        self, metric: str, layer: str, source: str, value: float, n: int, **more: Any
    ) -> Score:
        row = {
            **self.images.base,
            "metric": metric,
            "scope": "set",
            "source": source,
            "unit": "score",
            "features": self.name,
            "weights": self._weights(layer),
            "protocol": self._protocol(layer),
            "n": n,
            "n_trials": n,
            "value": number(value),
            **more,
        }
        return Score(row_of(**row))

    @staticmethod
    def _rows_of_sets(sets: dict[str, np.ndarray]) -> list[str]:
        """Sets that have a row of their own; floor and ceiling stand in that of prompt source eeg."""
        return [source for source in sets if source not in ("floor", "ceiling")]

    def _inception_score(self, layer: str) -> list[Score]:
        sets = {source: np.asarray(f[layer]) for source, f in self.by_source.items()} | {
            "reference": np.asarray(self.references[layer])
        }
        scores: dict[str, tuple[float, float, int]] = {}
        for source, logits in sets.items():
            splits = 10 if len(logits) >= 100 else 1
            scores[source] = (*inception_score(logits, splits=splits), splits)
        self.work.note(
            "The inception score asks how varied and clear-cut the images are, not whether they are "
            "the right ones; it grows with their number. Prompt source 'reference' is the test images' own; ten "
            "splits, or one below 100 images."
        )
        return [
            self._set_row(
                "inception_score",
                layer,
                source,
                scores[source][0],
                len(sets[source]),
                sd=scores[source][1] if scores[source][2] > 1 else None,
                floor=scores.get("floor", (None,))[0] if source == "eeg" else None,
                ceiling=scores.get("ceiling", (None,))[0] if source == "eeg" else None,
                note=(
                    f"± {scores[source][1]:.3g} over {scores[source][2]} splits; "
                    if scores[source][2] > 1
                    else ""
                )
                + f"at most {sets[source].shape[1]}",
            )
            for source in self._rows_of_sets(sets)
        ]

    def _distribution(self, layer: str) -> list[Score]:
        if not self.work.known:
            self.work.missing.append(
                "fid and kid: one image stands for each category, and that is no set of references"
            )
            return []
        references = np.asarray(self.references[layer])
        sets = {source: np.asarray(f[layer]) for source, f in self.by_source.items()}
        others = self._training_features(layer, len(references))
        if others is not None:
            sets["real"] = others
        scores = []
        for metric in ("fid", "kid"):
            values: dict[str, tuple[float, str, float | None]] = {}
            for source, features in sets.items():
                try:
                    if metric == "fid":
                        values[source] = (frechet_distance(features, references), "", None)
                    else:
                        mean, sd = kernel_distance(features, references)
                        # Up to 1000 images, every subset is the whole set.
                        spread = f"± {sd:.2g} over 100 subsets; " if sd > 1e-12 else ""
                        values[source] = (mean, f"{spread}raw scale", sd if spread else None)
                except InputError as problem:
                    self.work.missing.append(f"{metric} of prompt source '{source}': {problem}")
            scores += [
                self._set_row(
                    metric,
                    layer,
                    source,
                    values[source][0],
                    len(sets[source]),
                    sd=values[source][2],
                    higher_is_better=False,
                    unit="distance",
                    floor=values.get("floor", (None,))[0] if source == "eeg" else None,
                    ceiling=values.get("ceiling", (None,))[0] if source == "eeg" else None,
                    note=values[source][1] or None,
                )
                for source in self._rows_of_sets(sets)
                if source in values
            ]
        self.work.note(
            f"FID and KID compare sets with the {len(references)} references; they are biased or "
            "noisy where images are few, so prompt source 'real' holds training images against the same "
            "references, as many where there are so many. No intervals: drawing images twice shifts "
            "them."
        )
        return scores

    def _training_features(self, layer: str, n: int) -> np.ndarray | None:
        """Features of as many training images as there are references."""
        work = self.work
        image_ids = sorted(set(work.images[work.fold.train]) - set(self.images.image_ids))
        if len(image_ids) < 2:
            return None
        rng = np.random.default_rng(work.config.seed)
        chosen = rng.permutation(len(image_ids))[:n]
        names = [image_ids[i] for i in sorted(chosen)]
        return np.asarray(self._features(names, self.images.shown, "training images")[layer])


def _room(shape: tuple[int, int]) -> np.ndarray | FeatureFile:
    """Rows to write into: in memory, or in a file where there are many."""
    small = 4 * shape[0] * shape[1] <= _IN_MEMORY
    return np.empty(shape, dtype=np.float32) if small else FeatureFile(shape)


def _plain(name: str) -> str:
    """A class name without the ways of writing it."""
    return name.split(",")[0].strip().lower().replace("_", " ")
