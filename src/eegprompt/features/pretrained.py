"""Features of the field's own networks, each from a weights file that is checked by its hash.

A score is comparable with a published one only if the network, its weights and the preparation of
the images are the same. So nothing is replaced here: a weights file that is missing, or that is
not the published one, takes its scores with it, and the reason names the file.

============  ===========================================  ==========================
layer         network                                      serves
============  ===========================================  ==========================
``alex2``     AlexNet ``features.4``, flattened            two-way identification
``alex5``     AlexNet ``features.11``, flattened           two-way identification
``inception`` Inception v3 ``avgpool`` (2,048)             two-way identification
``classes``   Inception v3 logits (1,000 ImageNet classes) n-way, strict and data set's classes
``clip``      CLIP image embedding                         two-way identification, cosine
``effnet``    EfficientNet-B1 ``avgpool``                  correlation distance
``swav``      SwAV ResNet-50 ``avgpool``                   correlation distance
``lpips``     AlexNet, five weighted layers                squared distance (LPIPS)
``fid_pool``  Inception of torch-fidelity, pool (2,048)    FID, KID
``fid_logits`` the same, ``logits_unbiased`` (1,008)       inception score
============  ===========================================  ==========================

Preparation follows the named protocol (see :mod:`eegprompt.metrics.pixels`): ``mindeye`` resizes to
256 × 256 first and then to each network's size (AlexNet 256, Inception 342, CLIP 224, EfficientNet
255, SwAV 224) and takes the second release of EfficientNet's weights; ``brain-diffuser`` squashes
to 224 × 224 with Pillow's bilinear filter for all and takes the first release. The Inception of
torch-fidelity resizes for itself, as TensorFlow 1 did, and gets the 8-bit image.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import (
    InputError,
    MissingDependencyError,
    ModelLoadError,
    UnknownNameError,
)
from eegprompt.features.base import FeatureNetwork
from eegprompt.metrics.pixels import PROTOCOLS

if TYPE_CHECKING:
    import torch

__all__ = ["CLIP_NAME", "WEIGHTS", "PretrainedFeatures", "WeightsFile", "find_weights"]

CLIP_NAME = "openai/clip-vit-large-patch14"
"""The CLIP of the field's scores; another one may be named."""


@dataclass(frozen=True)
class WeightsFile:
    """One published file of weights.

    Parameters
    ----------
    file : str
        Its name, as published.
    url : str
        Where it is published.
    sha256 : str
        The first digits of its hash, as its publisher states them in the name; empty where the
        publisher states none, and then the hash is only recorded.
    """

    file: str
    url: str
    sha256: str


_TORCHVISION = "https://download.pytorch.org/models/"
WEIGHTS: dict[str, WeightsFile] = {
    name: WeightsFile(file, base + file, digits)
    for name, base, file, digits in (
        ("alexnet", _TORCHVISION, "alexnet-owt-7be5be79.pth", "7be5be79"),
        ("inception", _TORCHVISION, "inception_v3_google-0cc3c7bd.pth", "0cc3c7bd"),
        ("effnet-v1", _TORCHVISION, "efficientnet_b1_rwightman-bac287d4.pth", "bac287d4"),
        ("effnet-v2", _TORCHVISION, "efficientnet_b1-c27df63c.pth", "c27df63c"),
        (
            "swav",
            "https://dl.fbaipublicfiles.com/deepcluster/",
            "swav_800ep_pretrain.pth.tar",
            "",
        ),
        (
            "fid",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/",
            "weights-inception-2015-12-05-6726825d.pth",
            "6726825d",
        ),
    )
}
"""Files by network; torchvision states the first eight digits of each SHA-256 in the name."""

# Layer -> its file in WEIGHTS; EfficientNet's follows the protocol, the CLIP is named.
_FILE_OF = {
    "alex2": "alexnet", "alex5": "alexnet", "lpips": "alexnet", "inception": "inception",
    "classes": "inception", "swav": "swav", "fid_pool": "fid", "fid_logits": "fid",
}  # fmt: skip

_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_SD = (0.26862954, 0.26130258, 0.27577711)
_SIZES = {"alexnet": 256, "inception": 342, "clip": 224, "effnet": 255, "swav": 224, "lpips": 256}


def find_weights(name: str, folder: str | Path | None = None) -> tuple[Path, str]:
    """Find a weights file and check its hash.

    Parameters
    ----------
    name : str
        One of :data:`WEIGHTS`.
    folder : path-like, optional
        Looked into first; then the cache of ``torch.hub`` (``$TORCH_HOME/hub/checkpoints``).

    Returns
    -------
    path : pathlib.Path
    sha256 : str

    Raises
    ------
    ModelLoadError
        If the file is in neither place, or its hash is not the published one.
    """
    import torch

    if name not in WEIGHTS:
        raise UnknownNameError("weights", name, sorted(WEIGHTS))
    wanted = WEIGHTS[name]
    places = [Path(folder)] if folder is not None else []
    places.append(Path(torch.hub.get_dir()) / "checkpoints")
    for place in places:
        path = place / wanted.file
        if path.is_file():
            digest = hashlib.sha256()
            with path.open("rb") as stream:
                while block := stream.read(1 << 22):
                    digest.update(block)
            found = digest.hexdigest()
            if not found.startswith(wanted.sha256):
                raise ModelLoadError(
                    f"{path} is not the published file: its SHA-256 begins with {found[:8]}, not "
                    f"{wanted.sha256}; get it again from {wanted.url}"
                )
            return path, found
    raise ModelLoadError(
        f"the weights file {wanted.file} is not in {' nor in '.join(map(str, places))}; get it from "
        f"{wanted.url}, or name its folder with evaluation.weights=DIR"
    )


class PretrainedFeatures(FeatureNetwork):
    """The field's feature networks, each loaded when first needed; frozen.

    Parameters
    ----------
    argument : str, optional
        Name or folder of the CLIP, where it is not :data:`CLIP_NAME`.
    weights : path-like, optional
        Folder of weights files, looked into before the cache.
    protocol : str
        ``"mindeye"`` or ``"brain-diffuser"``.
    device : str
        As for :func:`eegprompt.core.model_hub.choose_device`.
    only : sequence of str, optional
        Networks to use: ``alexnet inception clip effnet swav lpips fid``; all where not given.

    Attributes
    ----------
    missing : dict of str to str
        Why a network's scores cannot be computed, by network.
    hashes : dict of str to str
        SHA-256 of each weights file used, or the revision of the CLIP.

    Raises
    ------
    MissingDependencyError
        If torchvision is absent.
    """

    name = "pretrained"
    any_size = True
    uses = (
        *((layer, "two_way_{features}") for layer in ("alex2", "alex5", "inception", "clip")),
        ("clip", "{features}_image_cosine"),
        ("clip", "clip_score"),
        ("effnet", "{features}_distance"),
        ("swav", "{features}_distance"),
        ("lpips", "lpips"),
        ("classes", "{ways}_way_accuracy"),
        ("fid_logits", "inception_score"),
        ("fid_pool", "fid"),
    )
    networks = ("alexnet", "lpips", "inception", "clip", "effnet", "swav", "fid")

    def __init__(
        self,
        argument: str | None = None,
        *,
        weights: str | Path | None = None,
        protocol: str = "mindeye",
        device: str = "auto",
        only: Sequence[str] | None = None,
    ):
        from eegprompt.core.model_hub import choose_device

        if protocol not in PROTOCOLS:
            raise UnknownNameError("protocol", protocol, PROTOCOLS)
        for name in only or ():
            if name not in self.networks:
                raise UnknownNameError("feature network", name, self.networks)
        try:
            import torchvision  # noqa: F401
        except (ImportError, RuntimeError) as problem:
            # a wheel of another build of torch is there but cannot be imported
            raise MissingDependencyError("torchvision", "eval") from problem
        self.clip_name = argument or CLIP_NAME
        self.weights = Path(weights) if weights is not None else None
        self.protocol = protocol
        self.device = choose_device(device)
        self.missing: dict[str, str] = {}
        self.hashes: dict[str, str] = {}
        self._runners: dict[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {}
        loaders = {
            "alexnet": self._alexnet,
            "lpips": self._lpips,
            "inception": self._inception,
            "clip": self._clip,
            "effnet": self._effnet,
            "swav": self._swav,
            "fid": self._fid,
        }
        for name in self.networks:
            if only is not None and name not in only:
                continue
            try:
                self._runners[name] = loaders[name]()
            except (ModelLoadError, MissingDependencyError) as problem:
                self.missing[name] = str(problem)

    @property
    def revision(self) -> str:
        """The hashes of the weights in use, shortened."""
        return " ".join(f"{name}:{value[:8]}" for name, value in sorted(self.hashes.items()))

    def weights_of(self, layer: str) -> str:
        """Weights that a layer's features come from: name, and first digits of hash or revision.

        Parameters
        ----------
        layer : str
            One of the layers listed in this module.

        Returns
        -------
        str
        """
        if layer == "clip":
            return f"{self.clip_name} {self.hashes.get('clip', '')[:8]}".strip()
        own = "effnet-v2" if self.protocol == "mindeye" else "effnet-v1"
        name = _FILE_OF.get(layer, own)
        return f"{WEIGHTS[name].file} {self.hashes.get(name, '')[:8]}".strip()

    @property
    def class_names(self) -> list[str]:
        """Names of the 1,000 classes of ``classes``."""
        from torchvision.models import Inception_V3_Weights

        return list(Inception_V3_Weights.IMAGENET1K_V1.meta["categories"])

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Map uint8 images (n, height, width, 3) to float32 features (n, n_dims), by layer."""
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise InputError(
                "images must be uint8 of shape (n, height, width, 3), "
                f"got {images.dtype} of shape {images.shape}"
            )
        out: dict[str, np.ndarray] = {}
        for run in self._runners.values():
            parts = [run(images[start : start + 16]) for start in range(0, len(images), 16)]
            for layer in parts[0] if parts else ():
                out[layer] = np.concatenate([part[layer] for part in parts])
        return out

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed captions with the same CLIP.

        Parameters
        ----------
        texts : sequence of str
            What is past 77 tokens is cut.

        Returns
        -------
        array of float32, shape (n_texts, n_dims)
            Rows of unit length.

        Raises
        ------
        ModelLoadError
            If the CLIP could not be loaded.
        """
        import torch

        if "clip" not in self._runners:
            raise ModelLoadError(self.missing.get("clip", "the CLIP was not asked for"))
        parts = []
        for start in range(0, len(texts), 64):
            batch = self._clip_tokenizer(
                list(texts[start : start + 64]), padding=True, truncation=True, return_tensors="pt"
            ).to(self.device)
            with torch.inference_mode():
                given = self._clip_model.get_text_features(**batch)
            parts.append(_values(getattr(given, "pooler_output", given)))
        rows = np.concatenate(parts)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    # -- preparation ---------------------------------------------------------------------------
    def _prepared(
        self, images: np.ndarray, network: str, mean: Sequence[float], sd: Sequence[float]
    ) -> torch.Tensor:
        import torch
        from torch.nn.functional import interpolate

        if self.protocol == "brain-diffuser":
            from PIL import Image

            squashed = [
                np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR))
                for image in images
            ]
            pixels = torch.from_numpy(np.stack(squashed)).permute(0, 3, 1, 2).float() / 255
        else:
            pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
            for side in (256, _SIZES[network]):
                if pixels.shape[2:] != (side, side):
                    pixels = interpolate(
                        pixels,
                        size=(side, side),
                        mode="bilinear",
                        align_corners=False,
                        antialias=True,
                    )
        center = torch.tensor(mean).reshape(1, 3, 1, 1)
        scale = torch.tensor(sd).reshape(1, 3, 1, 1)
        return ((pixels - center) / scale).to(self.device)

    def _state(self, name: str) -> dict[str, Any]:
        import torch

        path, self.hashes[name] = find_weights(name, self.weights)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as problem:
            raise ModelLoadError(
                f"{path} cannot be read as weights ({type(problem).__name__}); get it again from "
                f"{WEIGHTS[name].url}"
            ) from problem
        return dict(state)

    def _ready(self, network: Any, state: dict[str, Any], name: str) -> Any:
        try:
            network.load_state_dict(state)
        except RuntimeError as problem:
            raise ModelLoadError(
                f"the weights {WEIGHTS[name].file} do not fit their network "
                f"({str(problem).splitlines()[0]}); get them again from {WEIGHTS[name].url}"
            ) from problem
        return network.eval().requires_grad_(False).to(self.device)

    # -- networks ------------------------------------------------------------------------------
    def _alexnet(self) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        import torch
        from torchvision.models import alexnet

        layers = self._ready(alexnet(weights=None), self._state("alexnet"), "alexnet").features

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            with torch.inference_mode():
                x = layers[:5](self._prepared(images, "alexnet", _MEAN, _SD))
                return {"alex2": _values(x), "alex5": _values(layers[5:12](x))}

        return run

    def _lpips(self) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        """LPIPS as a squared distance: each layer's unit-length features times the root of its weights.

        Zhang et al. (2018), The unreasonable effectiveness of deep features as a perceptual metric,
        CVPR; version 0.1, AlexNet. The five vectors of weights are those that torchmetrics carries.
        """
        import torch
        from torchvision.models import alexnet

        try:
            import torchmetrics.functional.image as carrier
        except ImportError as problem:
            raise MissingDependencyError("torchmetrics", "eval") from problem
        found = Path(str(carrier.__file__)).parent / "lpips_models" / "alex.pth"
        if not found.exists():
            raise ModelLoadError(f"LPIPS: {found} is missing; install torchmetrics again")
        linear = torch.load(found, map_location="cpu", weights_only=True)
        roots = [
            linear[f"lin{i}.model.1.weight"].clamp(min=0).sqrt().to(self.device) for i in range(5)
        ]
        layers = self._ready(alexnet(weights=None), self._state("alexnet"), "alexnet").features
        # the reference shifts and scales images in [-1, 1] with these rounded constants
        mean = [(1 + m) / 2 for m in (-0.030, -0.088, -0.188)]
        sd = [s / 2 for s in (0.458, 0.448, 0.450)]

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            parts = []
            with torch.inference_mode():
                x = self._prepared(images, "lpips", mean, sd)
                for (start, stop), root in zip(((0, 2), (2, 5), (5, 8), (8, 10), (10, 12)), roots):
                    x = layers[start:stop](x)
                    length = torch.sqrt(1e-8 + (x**2).sum(dim=1, keepdim=True))
                    places = x.shape[2] * x.shape[3]
                    parts.append(_values(x / length * root / places**0.5))
            return {"lpips": np.concatenate(parts, axis=1)}

        return run

    def _inception(self) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        import torch
        from torchvision.models import inception_v3

        network = self._ready(
            inception_v3(weights=None, init_weights=False, aux_logits=True, transform_input=True),
            self._state("inception"),
            "inception",
        )
        pooled: list[torch.Tensor] = []
        network.avgpool.register_forward_hook(lambda _m, _i, output: pooled.append(output))

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            pooled.clear()
            with torch.inference_mode():
                logits = network(self._prepared(images, "inception", _MEAN, _SD))
            return {"inception": _values(pooled.pop()), "classes": _values(logits)}

        return run

    def _effnet(self) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        import torch
        from torchvision.models import efficientnet_b1

        name = "effnet-v2" if self.protocol == "mindeye" else "effnet-v1"
        network = self._ready(efficientnet_b1(weights=None), self._state(name), name)

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            with torch.inference_mode():
                x = network.features(self._prepared(images, "effnet", _MEAN, _SD))
                return {"effnet": _values(network.avgpool(x))}

        return run

    def _swav(self) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        import torch
        from torchvision.models import resnet50

        state = {key.removeprefix("module."): value for key, value in self._state("swav").items()}
        network = resnet50(weights=None)
        network.fc = torch.nn.Identity()
        own = network.state_dict()
        # the file also holds SwAV's projection and prototypes, which no score uses
        network = self._ready(network, {k: v for k, v in state.items() if k in own}, "swav")

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            with torch.inference_mode():
                return {"swav": _values(network(self._prepared(images, "swav", _MEAN, _SD)))}

        return run

    def _clip(self) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        import torch

        from eegprompt.core.model_hub import fetch, load_errors, locate, quiet

        source = locate(self.clip_name, "CLIP of the scores")
        patterns = ("*.json", "*.txt", "*.safetensors")
        source = fetch(source, "CLIP of the scores", patterns)
        with load_errors(self.clip_name, "CLIP of the scores"), quiet():
            from transformers import AutoTokenizer, CLIPModel

            self._clip_model = CLIPModel.from_pretrained(str(source.folder), dtype=torch.float32)
            self._clip_tokenizer = AutoTokenizer.from_pretrained(str(source.folder))
        self._clip_model.eval().requires_grad_(False).to(self.device)
        self.hashes["clip"] = str(source.revision)
        vision: Any = self._clip_model.config.vision_config
        side = int(vision.image_size)

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            pixels = self._prepared(images, "clip", _CLIP_MEAN, _CLIP_SD)
            if pixels.shape[-1] != side:  # a CLIP of another size than ViT-L/14
                pixels = torch.nn.functional.interpolate(
                    pixels, size=(side, side), mode="bilinear", align_corners=False, antialias=True
                )
            with torch.inference_mode():
                given = self._clip_model.get_image_features(pixel_values=pixels)
            return {"clip": _values(getattr(given, "pooler_output", given))}

        return run

    def _fid(self) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        import torch

        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as problem:
            raise MissingDependencyError("torch-fidelity", "eval") from problem
        # torch-fidelity unpickles whatever its file holds, so it is given one that was read safely
        state = self._state("fid")
        with tempfile.TemporaryDirectory() as folder:
            safe = Path(folder) / "weights.pth"
            torch.save(state, safe)
            try:
                network = FeatureExtractorInceptionV3(
                    "inception-v3-compat",
                    ["2048", "logits_unbiased"],
                    feature_extractor_weights_path=str(safe),
                )
            except RuntimeError as problem:
                raise ModelLoadError(
                    f"the weights {WEIGHTS['fid'].file} do not fit their network "
                    f"({str(problem).splitlines()[0]}); get them again from {WEIGHTS['fid'].url}"
                ) from problem
        network.eval().to(self.device)

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(self.device)
            with torch.inference_mode():
                pool, logits = network(pixels)
            return {"fid_pool": _values(pool), "fid_logits": _values(logits)}

        return run


def _values(x: torch.Tensor) -> np.ndarray:
    return x.flatten(1).float().cpu().numpy()
