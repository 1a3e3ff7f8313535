"""Scores of generated images on the layers of a feature network.

Each paired score is computed as a table, images × references, so that permuting which reference a
image belongs to costs nothing more. Scores of whole sets (inception score, FID, KID) have no
permutation: the same scores of the references stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError, MissingDependencyError, ModelLoadError
from eegprompt.features.base import FeatureNetwork, load_features
from eegprompt.metrics.base import metric_of
from eegprompt.metrics.distributions import frechet_distance, inception_score, kernel_distance
from eegprompt.metrics.generation import n_way_accuracy, same_class
from eegprompt.metrics.identification import caption_score
from eegprompt.metrics.pixels import resized
from eegprompt.scores.feature_file import FeatureFile
from eegprompt.scores.image_scores import GeneratedImages
from eegprompt.scores.rows import Score, number, row_of
from eegprompt.sources import SOURCES

__all__ = ["feature_scores"]

_IN_MEMORY = 256 << 20  # bytes of one layer's features; larger ones lie in a temporary file

Features = dict[str, Any]  # by layer: an array, or a file of rows that is read like one


def feature_scores(images: GeneratedImages) -> list[Score]:
    """Rows for everything that the run's feature network serves; what it cannot serve is named."""
    work = images.work
    name = work.settings.features
    try:
        network = load_features(work.settings)
    except (ModelLoadError, MissingDependencyError) as problem:
        work.missing.append(f"image scores on features '{name}': {problem}")
        return []
    for what, why in network.missing.items():
        work.missing.append(f"image scores by network '{what}': {why}")
    return _FeatureScores(images, name, network).scores()


class _FeatureScores:
    """The features of all prompt sources and references while they are scored."""

    def __init__(self, images: GeneratedImages, name: str, network: FeatureNetwork):
        self.images = images
        self.work = images.work
        self.name = name
        self.network = network
        self.size = images.load([images.images["eeg"][int(images.trials[0])][0]])[0].shape
        self.references = self._features(images.image_ids, images.shown, "references")
        self.by_source = {
            source: self._features(paths, images.load, f"images of prompt source '{source}'")
            for source in SOURCES
            if (paths := images.files(source)[0])
        }

    def scores(self) -> list[Score]:
        """All rows."""
        work = self.work
        self._explain()
        scores: list[Score] = []
        if len(self.images.image_ids) < 2:
            work.missing.append("two-way identification: there is only one reference")
            return []
        of_their_own = {
            "{ways}_way_accuracy": self._classes,
            "clip_score": self._caption_score,
            "inception_score": self._inception_score,
            "fid": self._distribution,
        }
        for layer, metric in self.network.uses:
            score = f"score '{metric.replace('{features}', layer)}'"
            if layer not in self.references:
                if not self.network.missing:
                    work.missing.append(f"{score}: '{self.name}' has no layer '{layer}'")
                continue
            try:
                scores += of_their_own.get(metric, self._of_features)(layer, metric)
            except InputError as problem:  # such as a reference whose features are not finite
                work.missing.append(f"{score} on layer '{layer}': {problem}")
        return scores

    def _of_features(self, layer: str, metric: str) -> list[Score]:
        """A score that is a function of the features of images and references."""
        entry = metric_of(metric)
        if entry.function is None or entry.of != "features":
            raise InputError(f"'{metric}' is no metric of features")
        function, references = entry.function, self.references[layer]
        scopes = ("within-class", "all") if entry.within and self.work.known else ("all",)
        scores = []
        for scope in scopes:
            more = {"classes": self._image_class} if scope == "within-class" else {}
            table = partial(function, references, **more)
            scores += self._paired(metric.format(features=layer), layer, table, scope)
        return scores

    @property
    def _image_class(self) -> np.ndarray:
        units = self.images.units
        classes = np.zeros(len(self.images.image_ids), dtype=int)
        classes[units.images] = units.classes
        return classes

    def _explain(self) -> None:
        work = self.work
        if self.name.partition(":")[0] == "builtin":
            work.note(
                "Features 'builtin' are those of a small network trained on the built-in scenes: such "
                "scores cannot be compared with published ones, which use other networks."
            )
        elif self.network.revision:
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
            if not self.network.any_size:
                loaded = [resized(image, self.size) for image in loaded]
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
    def _facts(self, layer: str) -> dict[str, Any]:
        """What a row says of its features."""
        protocol = f"squashed to {self.size[1]}x{self.size[0]}"
        if self.network.any_size:
            of_set = layer.startswith("fid")
            protocol = "torch-fidelity" if of_set else str(self.work.settings.protocol)
        weights = self.network.weights_of(layer)
        return {"features": self.name, "weights": weights, "protocol": protocol}

    def _paired(
        self, metric: str, layer: str, table: Callable[[Any], np.ndarray], scope: str = "all"
    ) -> list[Score]:
        """Rows of one score from its table by prompt source, images × references."""
        images = self.images
        tables = {
            source: images.by_trial(table(features[layer]), source)
            for source, features in self.by_source.items()
            if layer in features
        }
        row = images.row(metric, scope, **self._facts(layer), note=images.remark or None)
        scores = images.of_tables(row, tables, within=scope == "within-class")
        if not scores:
            self.work.missing.append(f"{metric} within class: no class has two distinct references")
        return scores

    def _caption_score(self, layer: str, metric: str) -> list[Score]:
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

        work.note(
            "clip_score: 100 max(cosine, 0) of a generated image with the captions of the image seen, "
            "mean over its captions (CLIPScore as torchmetrics scales it)."
        )
        return self._paired(metric, layer, lambda rows: caption_score(embedded, rows) @ own)

    def _classes(self, layer: str, metric: str) -> list[Score]:
        """What a classifier names in an image, against what it names in the reference."""
        n_classes = self.references[layer].shape[1]
        targets = np.argmax(np.asarray(self.references[layer]), axis=1)
        ways = min(50, n_classes)

        def table(rows: np.ndarray, score: Callable[..., np.ndarray], **more: int) -> np.ndarray:
            out = np.empty((len(rows), len(targets)))
            for target in np.unique(targets):
                values = score(rows, np.full(len(rows), target), **more)
                out[:, targets == target] = values[:, None]
            return out

        self.work.note(
            f"What a classifier sees: the target is what it names in the reference; {ways}-way is exact "
            f"over all draws of {ways - 1} other classes"
            + (f", {n_classes}-way is its first among all." if ways < n_classes else ".")
        )
        scores = self._paired(
            metric.format(ways=ways), layer, lambda rows: table(rows, n_way_accuracy, n=ways, k=1)
        )
        if ways < n_classes:
            name = metric.format(ways=n_classes)
            scores += self._paired(name, layer, lambda rows: table(rows, same_class))
        return scores + self._dataset_classes(layer)

    def _dataset_classes(self, layer: str) -> list[Score]:
        """Accuracy against the true categories, among the classes that stand for them."""
        names = self.network.class_names
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

        def table(features: np.ndarray) -> np.ndarray:
            rows = np.asarray(features)[:, columns]
            by_class = np.stack(
                [same_class(rows, np.full(len(rows), c)) for c in range(len(categories))], axis=1
            )
            return by_class[:, truth]

        return self._paired("dataset_way_accuracy", layer, table)

    # -- scores of sets ------------------------------------------------------------------------
    def _set_rows(
        self, metric: str, layer: str, found: dict[str, tuple[int, float, float | None, str]]
    ) -> list[Score]:
        """A row a set – how many, value, spread, note –; floor and ceiling stand in that of eeg."""
        scores = []
        for source, (n, value, sd, note) in found.items():
            if source in ("floor", "ceiling"):
                continue
            sides = ("floor", "ceiling") if source == "eeg" else ()
            beside = {side: found[side][1] if side in found else None for side in sides}
            row = self.images.row(metric, "set", source=source, **self._facts(layer))
            row |= {"n": n, "n_trials": n, "value": number(value), "sd": sd}
            scores.append(Score(row_of(**row, **beside, note=note or None)))
        return scores

    def _inception_score(self, layer: str, metric: str) -> list[Score]:
        sets = {source: f[layer] for source, f in self.by_source.items()}
        found = {}
        for source, rows in {**sets, "reference": self.references[layer]}.items():
            logits = np.asarray(rows)
            splits = 10 if len(logits) >= 100 else 1
            value, sd = inception_score(logits, splits=splits)
            spread = f"± {sd:.3g} over {splits} splits; " if splits > 1 else ""
            note = f"{spread}at most {logits.shape[1]}"
            found[source] = (len(logits), value, sd if splits > 1 else None, note)
        self.work.note(
            "The inception score asks how varied and clear-cut the images are, not whether they are "
            "the right ones; it grows with their number. Prompt source 'reference' is the test images' own; ten "
            "splits, or one below 100 images."
        )
        return self._set_rows(metric, layer, found)

    def _distribution(self, layer: str, _metric: str) -> list[Score]:
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
            found: dict[str, tuple[int, float, float | None, str]] = {}
            for source, rows in sets.items():
                try:
                    if metric == "fid":
                        found[source] = (len(rows), frechet_distance(rows, references), None, "")
                    else:
                        mean, sd = kernel_distance(rows, references)
                        varies = sd > 1e-12  # up to 1000 images, every subset is the whole set
                        spread = f"± {sd:.2g} over 100 subsets; " if varies else ""
                        note = f"{spread}raw scale"
                        found[source] = (len(rows), mean, sd if varies else None, note)
                except InputError as problem:
                    self.work.missing.append(f"{metric} of prompt source '{source}': {problem}")
            scores += self._set_rows(metric, layer, found)
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
