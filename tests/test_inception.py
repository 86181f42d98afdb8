"""Inception's features with random weights: what goes in, what comes out, and what does not change."""

import pytest
import torch
from torchvision.models import inception_v3

from gankit.inception import InceptionFeatures
from gankit.metrics import fid


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.manual_seed(0)
    torch.save(inception_v3(weights=None, init_weights=False).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def features(weights):
    return InceptionFeatures(weights)


def test_features_of_gray_and_color_images_of_any_size(features):
    gray = 2 * torch.rand(2, 1, 28, 28) - 1
    found = features(gray)
    assert found.shape == (2, 2048) and not found.requires_grad
    torch.testing.assert_close(features(gray.expand(-1, 3, -1, -1)), found)
    assert features(2 * torch.rand(1, 3, 40, 33) - 1).shape == (1, 2048)


def test_training_mode_is_refused_quietly_and_a_single_image_equals_its_row(features):
    images = 2 * torch.rand(3, 1, 16, 16) - 1
    assert not features.train().training and not features.network.training
    torch.testing.assert_close(features(images)[:1], features(images[:1]), rtol=1e-3, atol=1e-5)
    assert fid([images], [images], features) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("images", "expected"),
    [(torch.full((1, 1, 8, 8), 1.5), "values from -1 to 1"), (255 * torch.rand(1, 3, 8, 8), "values from -1 to 1"),
     (torch.zeros(1, 2, 8, 8), "shape"), (torch.zeros(3, 8, 8), "shape"), (torch.zeros(1, 1, 8, 8).byte(), "floating")],
)  # fmt: skip
def test_images_out_of_range_are_named(features, images, expected):
    with pytest.raises(ValueError, match=rf"^images: expected.*{expected}"):
        features(images)


def test_missing_weights_come_with_the_remedy(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"^weights: no file .*download=True"):
        InceptionFeatures(tmp_path / "none.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"^weights: no file .*inception_v3"):
        InceptionFeatures()
