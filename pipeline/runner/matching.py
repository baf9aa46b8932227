"""How well texts fit a picture, by the profile's picture model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigurationError, UnsupportedMediaError
from pipeline.fusion.zero_shot import ConseScorer, LabelSpace, probability
from pipeline.media import SplitParams, load_image, probe_media, split_media
from pipeline.models.base import ImageFeatures, LabelModel
from pipeline.plan.profiles import profile_named
from pipeline.runner.runtime import Runtime
from pipeline.storage.local import normalise_uri
from schemas.records import Image

MAX_TEXTS = 1000
MAX_TEXT = 1000

#: What a score means, by ``method``.
MEANINGS = {
    "sigmoid": "probability that the text belongs to the picture, as the model was trained; each "
    "text by itself",
    "softmax": "share of each text among those given; says nothing about a single one",
    "conse": "probability that the text names what is seen, through the model's own classes; no "
    "open vocabulary",
}


def match(runtime: Runtime, image: str, texts: Sequence[str]) -> dict[str, Any]:
    """Scores (0-1) of the texts for one picture, the best first; see :data:`MEANINGS`.

    ``image``: a path or uri. It is fetched and decoded as any hostile file is; of several pages
    the first counts. Nothing is stored. With a text tower in the role ``labels`` (CLIP, SigLIP),
    ``cosine`` is the bare similarity, and the text is taken as it is; without one, the classes of
    the picture model are read by ConSE (:mod:`pipeline.fusion.zero_shot`), and there is none.

    Raises:
        ConfigurationError: no text, an empty or too long one, or the profile's models cannot.
        SourceError, StoreUnavailableError: the picture cannot be read.
        InvalidMediaError: it is no picture.
    """
    texts = list(dict.fromkeys(" ".join(text.split()) for text in texts))
    if not texts or len(texts) > MAX_TEXTS or not all(0 < len(t) <= MAX_TEXT for t in texts):
        raise ConfigurationError(
            f"give 1 to {MAX_TEXTS} texts of 1 to {MAX_TEXT} characters to match with the picture"
        )
    uri = normalise_uri(image)
    pixels = _pixels(runtime, uri)
    models = profile_named(runtime.settings.profile, runtime.settings).models
    vision: Any = runtime.models.model(models["vision"])
    features: ImageFeatures = runtime.models.submit(models["vision"], [pixels])[0]
    cosines = None
    if "labels" in models:
        labels: Any = runtime.models.model(models["labels"])
        if labels.space != vision.space:
            raise ConfigurationError(
                f"{models['labels']} and {models['vision']} have no space in common: name both "
                "sides of one checkpoint in the profile"
            )
        cosines = np.stack(runtime.models.submit(models["labels"], texts)) @ features.embedding
        method, scores = _calibrated(labels, cosines)
    else:
        method, scores = "conse", _conse(runtime, models["text"], vision, features, texts)
    return {
        "uri": uri,
        "model": vision.info.name,
        "model_revision": vision.info.revision,
        "method": method,
        "meaning": MEANINGS[method],
        "matches": [
            {
                "text": texts[place],
                "score": round(float(scores[place]), 4),
                "cosine": None if cosines is None else round(float(cosines[place]), 4),
            }
            for place in np.argsort(-scores, kind="stable").tolist()
        ],
    }


def _pixels(runtime: Runtime, uri: str) -> Image:
    limits, max_bytes = runtime.limits, runtime.settings.media.max_file_bytes
    with (
        runtime.scratch.temporary_folder() as work_dir,
        runtime.fetcher.of_place(uri, work_dir, max_bytes=max_bytes) as fetched,
    ):
        info = probe_media(fetched.path, work_dir=work_dir, limits=limits).info
        if info.kind != "image":
            raise UnsupportedMediaError(f"{uri} is no picture ({info.kind}, {info.container})")
        split = split_media(
            fetched.path,
            info=info,
            params=SplitParams(),
            sidecars=(),
            work_dir=work_dir,
            limits=limits,
        )
        return load_image(split.keyframes[0].path)


def _calibrated(
    model: LabelModel, cosines: npt.NDArray[np.float32]
) -> tuple[str, npt.NDArray[np.float64]]:
    calibration = model.calibration
    logits = calibration.scale * cosines.astype(np.float64) + calibration.bias
    if calibration.kind == "sigmoid":
        return "sigmoid", 1.0 / (1.0 + np.exp(-logits))
    exponents = np.exp(logits - logits.max())
    return "softmax", exponents / exponents.sum()


def _conse(
    runtime: Runtime, text_model: str, vision: Any, features: ImageFeatures, texts: list[str]
) -> npt.NDArray[np.float64]:
    if not vision.class_names:
        raise ConfigurationError(
            f"{vision.info.name} says nothing about texts without its other half: name it in the "
            "profile as models.labels"
        )
    text: Any = runtime.models.model(text_model)
    space = LabelSpace(
        text.space, lambda names: np.stack(runtime.models.submit(text_model, list(names)))
    )
    scorer = ConseScorer(vision.class_names, space)
    return probability(scorer.fit(features, scorer.vectors([(text,) for text in texts])))
