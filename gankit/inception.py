"""The Inception v3 features of the published FID, for those who have the weights."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _checks


class InceptionFeatures(nn.Module):
    """Images (N, C, H, W) in [-1, 1], C 1 or 3, to the 2,048 features before Inception v3's classes.

    torchvision's network, with the state dictionary in the file ``weights``, else torchvision's own, which is fetched
    only if ``download``. Images are resized to 299 x 299 bilinearly, as the reference implementation does, without
    antialiasing. It stays in evaluation mode. The reference's weights are others: values come close to published ones
    and do not equal them. Raises ``FileNotFoundError`` with the remedy where there are no weights, and ``ValueError``
    for images that are out of range (Szegedy et al., 2016, arXiv:1512.00567; Heusel et al., 2017, arXiv:1706.08500).
    """

    def __init__(self, weights: str | Path | None = None, *, download: bool = False) -> None:
        super().__init__()
        from torchvision.models import Inception_V3_Weights, inception_v3

        published = Inception_V3_Weights.IMAGENET1K_V1
        path = Path(weights or Path(torch.hub.get_dir()) / "checkpoints" / published.url.rsplit("/", 1)[1])
        if download and weights is None:
            state = published.get_state_dict(progress=True, check_hash=True)
        elif path.is_file():
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            remedy = "InceptionFeatures(download=True) fetches torchvision's, or name a file that you have"
            raise FileNotFoundError(f"weights: no file {path}: {remedy}")
        self.network = inception_v3(weights=None, transform_input=False, init_weights=False)
        self.network.load_state_dict(state)
        self.network.fc = nn.Identity()
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "InceptionFeatures":
        """No change: in training mode the features of an image would depend on the batch."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """The features (N, 2048)."""
        if _checks.tensor("images", images).ndim != 4 or images.shape[1] not in (1, 3):
            _checks.fail("images", "shape (N, C, H, W) with C of 1 or 3", f"shape {tuple(images.shape)}")
        if images.min() < -1 or images.max() > 1:
            span = f"{images.min().item():.3g} to {images.max().item():.3g}"
            _checks.fail("images", "values from -1 to 1", span)
        colors = images.expand(-1, 3, -1, -1)
        features: Tensor = self.network(F.interpolate(colors, size=(299, 299), mode="bilinear", align_corners=False))
        return features
