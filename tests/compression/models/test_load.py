"""Every model of the catalogue is real: its facts are its module's, its file is looked for."""

from pathlib import Path

import pytest
import torch
from torchvision import models as tv

from compression.catalogue.cards import cards
from compression.errors import InvalidInput, ModelUnavailable
from compression.models.load import (
    build,
    count_macs,
    describe_weights,
    imagenet_card,
    load_model,
    parameter_bytes,
    weights_path,
)
from compression.models.parametrize import compressible, weight_of

BUNDLED = sorted(m for m, c in cards().items() if c.bundled)


def test_at_least_five_models_are_bundled() -> None:
    small = {"mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"}
    wanted = {"resnet18", "mobilenet_v2"} | small
    assert {f"fashion-mnist/{w}" for w in wanted} <= set(BUNDLED)


@pytest.mark.slow
@pytest.mark.parametrize("model_id", BUNDLED)
def test_a_bundled_models_card_is_true(model_id: str) -> None:
    card, model = cards()[model_id], load_model(model_id)
    assert card.parameters == sum(p.numel() for p in model.parameters())
    assert card.dense_bytes == parameter_bytes(model)
    assert card.macs == count_macs(model, card.input_shape)
    assert card.weights == describe_weights(model)
    assert card.test_top1 is not None and card.test_top1.n == 10_000
    assert not model.training


@pytest.mark.slow
@pytest.mark.parametrize("model_id", BUNDLED)
def test_stored_quantiles_give_the_sparsity_of_a_threshold(model_id: str) -> None:
    model, weights = load_model(model_id), cards()[model_id].weights
    assert weights is not None
    flat = torch.cat([weight_of(m).abs().flatten() for _, m in compressible(model)])
    for threshold in (0.0, 1e-3, 0.01, 0.03, 0.1, float(flat.max()) * 2):
        assert weights.sparsity(threshold) == pytest.approx(
            float((flat < threshold).float().mean()), abs=0.002
        )
    for sparsity in (0.1, 0.5, 0.9):
        assert weights.sparsity(weights.threshold(sparsity)) == pytest.approx(sparsity, abs=1e-6)
    name, top = min(weights.largest.items(), key=lambda item: item[1])
    assert name in weights.emptied(top * 1.01) and not weights.emptied(top)


def test_the_catalogue_lists_every_imagenet_classifier_of_torchvision() -> None:
    listed = {m.removeprefix("imagenet/") for m in cards() if m.startswith("imagenet/")}
    assert listed == set(tv.list_models(module=tv))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "vit_b_16", "googlenet"])
def test_the_written_catalogue_is_what_torchvision_says(name: str) -> None:
    assert imagenet_card(name) == cards()[f"imagenet/{name}"].model_dump(
        mode="json", exclude_defaults=True
    )


@pytest.mark.slow
def test_macs_of_networks_whose_count_is_published() -> None:
    assert count_macs(build("resnet18", 1000).to("meta"), (3, 224, 224)) == 1_814_073_344
    assert count_macs(build("vit_b_16", 1000).to("meta"), (3, 224, 224)) / 1e9 == pytest.approx(
        17.56, abs=0.02
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torchvision cache, and a network that refuses."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # kept by the first request for all later ones: not beyond this test
    monkeypatch.setattr("urllib.request._opener", None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


def test_a_file_in_torchvisions_cache_is_loaded(hub: Path) -> None:
    torch.manual_seed(1)
    made = build("squeezenet1_1", 1000)
    path = weights_path(cards()["imagenet/squeezenet1_1"])
    assert path.is_relative_to(hub)
    torch.save(made.state_dict(), path)
    loaded = load_model("imagenet/squeezenet1_1").state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in made.state_dict().items())


def test_auxiliary_heads_in_a_cached_file_are_left_out(hub: Path) -> None:
    made = tv.googlenet(weights=None, aux_logits=True, init_weights=False)
    torch.save(made.state_dict(), weights_path(cards()["imagenet/googlenet"]))
    loaded = load_model("imagenet/googlenet")
    assert not any(name.startswith("aux") for name, _ in loaded.named_parameters())


def test_without_a_network_the_person_is_told_what_to_do(
    hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        load_model("imagenet/resnet18")
    text = str(caught.value)
    path = weights_path(cards()["imagenet/resnet18"])
    assert "download" in text and str(path) in text and "fashion-mnist/resnet18" in text
    assert "\n" not in text and not path.exists()
    assert capsys.readouterr().out == ""


def test_a_damaged_or_foreign_cached_file_is_named(hub: Path) -> None:
    path = weights_path(cards()["imagenet/squeezenet1_1"])
    path.write_bytes(b"not weights")
    with pytest.raises(ModelUnavailable, match=r"damaged|failed") as caught:
        load_model("imagenet/squeezenet1_1")
    assert str(path) in str(caught.value)
    torch.save(build("squeezenet1_0", 10).state_dict(), path)
    with pytest.raises(ModelUnavailable, match="does not fit squeezenet1_1"):
        load_model("imagenet/squeezenet1_1")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"model: got 'fashion-mnist/resnet'.*resnet18"):
        load_model("fashion-mnist/resnet")
    with pytest.raises(InvalidInput, match="architecture: got 'nonsense'"):
        build("nonsense", 10)
