"""Parameters of late fusion: what a user can set, checked once."""

from dataclasses import dataclass

from pipeline.errors import ConfigurationError
from pipeline.fusion.taxonomy import SAFETY, SHIPPED, load_labels, load_taxonomy
from schemas.records import Modality


@dataclass(frozen=True, slots=True, kw_only=True)
class LateFusionParams:
    """How to fuse; JSON-serialisable with :func:`dataclasses.asdict`.

    Attributes:
        labels: the user's own labels, ``None`` for none. They are tag candidates, and, from two
            labels on, a closed set to classify into.
        label_set_name: what that closed set is called in the results.
        taxonomy: the shipped taxonomy to classify into.
        tag_threshold: least fused score of a tag, 0-1.
        zero_shot_threshold: least probability, 0-1, for a vocabulary label that was neither in
            the picture model's classes nor said literally, but fits by meaning.
        max_tags_per_shot: the best this many are kept.
        visual_weight, audio_weight, text_weight, sound_weight: trust in what is seen, said,
            written and else heard, 0-1; at 0 it is ignored. That a thing is spoken of is weaker
            than that it is seen.
        text_languages: languages the text model understands, as they stand in cues; a cue in
            another language counts by its literal words (and for the joint embedding) only.

    Raises:
        ConfigurationError: a value out of its bounds, or labels that cannot be used.
    """

    labels: tuple[str, ...] | None = None
    label_set_name: str = "custom"
    taxonomy: str = SHIPPED
    tag_threshold: float = 0.2
    zero_shot_threshold: float = 0.5
    max_tags_per_shot: int = 20
    visual_weight: float = 1.0
    audio_weight: float = 0.6
    text_weight: float = 0.6
    sound_weight: float = 0.6
    text_languages: tuple[str, ...] = ("en", "eng")

    def __post_init__(self) -> None:
        if self.labels is not None:
            object.__setattr__(self, "labels", load_labels(self.labels).labels)
        object.__setattr__(
            self, "text_languages", tuple(language.casefold() for language in self.text_languages)
        )
        for name in (
            "tag_threshold",
            "zero_shot_threshold",
            "visual_weight",
            "audio_weight",
            "text_weight",
            "sound_weight",
        ):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigurationError(f"{name} is {value}: give a number from 0 to 1")
        if self.max_tags_per_shot < 1:
            raise ConfigurationError(
                f"max_tags_per_shot is {self.max_tags_per_shot}: give at least 1"
            )
        load_taxonomy(self.taxonomy)
        if self.label_set_name in ("", self.taxonomy, SAFETY):
            raise ConfigurationError(
                f'label_set_name is "{self.label_set_name}": give your own list a name other than '
                f"{self.taxonomy} and {SAFETY}, which are taken"
            )

    def weight(self, modality: Modality) -> float:
        """Trust in a modality, 0-1."""
        return {
            "visual": self.visual_weight,
            "audio": self.audio_weight,
            "text": self.text_weight,
            "sound": self.sound_weight,
        }[modality]
