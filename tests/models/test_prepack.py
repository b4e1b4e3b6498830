"""Weights laid out once give what the plain layers give, and never what the weights were before."""

import pytest
import torch
from tests.models.test_score import build

from pyrite.models import prepack
from pyrite.models.prepack import Prepacked, kernels
from pyrite.models.rows import RowReader, reader_of

pytestmark = pytest.mark.skipif(kernels() is None, reason="no oneDNN kernels for x86-64 in this build of PyTorch")

DTYPES = [
    torch.float32,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(not prepack.has_kernel(torch.bfloat16), reason="no bf16 products on this processor"),
    ),
]


def layer(dtype: torch.dtype = torch.float32, *, bias: bool = True) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(96, 160, bias=bias, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (7,), (300,), (2, 5), (0,)])
def test_same_as_the_plain_layer(dtype: torch.dtype, bias: bool, shape: tuple[int, ...]) -> None:
    model = layer(dtype, bias=bias)
    inputs = torch.randn(*shape, 96).to(dtype)
    wide = torch.randn(*shape, 192).to(dtype)[..., ::2]  # not contiguous
    packs = Prepacked(model)
    for tensor in (inputs, wide):
        with torch.inference_mode():
            plain = model(tensor)
            with packs.active():
                quick = model(tensor)
        assert (quick.dtype, quick.shape) == (plain.dtype, plain.shape)
        close = 1e-5 if dtype is torch.float32 else 1e-2
        torch.testing.assert_close(quick, plain, atol=close, rtol=close)
    assert bool(packs.laid) == bool(inputs.numel())


def test_autocast_lays_the_weights_out_in_its_own_format() -> None:
    if not prepack.has_kernel(torch.bfloat16):
        pytest.skip("no bf16 products on this processor")
    model, inputs = layer(), torch.randn(9, 96)
    packs = Prepacked(model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        plain = model(inputs)
        with packs.active():
            quick = model(inputs)
    assert quick.dtype is torch.bfloat16
    assert [packed.dtype for packed in packs.laid.values()] == [torch.bfloat16]
    torch.testing.assert_close(quick, plain, atol=1e-2, rtol=1e-2)
    with torch.inference_mode(), packs.active():  # and without it in the weights' own again
        assert model(inputs).dtype is torch.float32


def test_a_changed_weight_is_seen() -> None:
    model, inputs = layer(), torch.randn(9, 96)
    packs, inner = Prepacked(model), model[0]
    assert isinstance(inner, torch.nn.Linear)

    def both_ways() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            plain = model(inputs)
            with packs.active():
                return plain, model(inputs)

    torch.testing.assert_close(*both_ways())
    with torch.no_grad():
        inner.weight.mul_(3)
    torch.testing.assert_close(*both_ways())
    model(inputs).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    torch.testing.assert_close(*both_ways())
    model.zero_grad()
    model.load_state_dict({"0.weight": torch.ones(160, 96), "0.bias": torch.zeros(160)})
    torch.testing.assert_close(*both_ways())
    inner.weight = torch.nn.Parameter(torch.zeros(160, 96))
    torch.testing.assert_close(*both_ways())


def test_gradients_are_as_ever() -> None:
    model, inputs = layer(), torch.randn(9, 96)
    with Prepacked(model).active():
        model(inputs).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    with torch.no_grad(), Prepacked(model).active(), torch.enable_grad():
        assert model(inputs).requires_grad


def test_layers_are_their_own_again_after_an_error() -> None:
    model = layer()
    packs = Prepacked(model)
    with torch.inference_mode(), pytest.raises(RuntimeError), packs.active():
        model(torch.randn(9, 95))
    assert "forward" not in vars(model[0])


def test_within_one_another() -> None:
    model, inputs = layer(), torch.randn(9, 96)
    outer, inner = Prepacked(model), Prepacked(model)
    with torch.inference_mode(), outer.active():
        with inner.active():
            model(inputs)
        model(inputs)
    assert (len(outer.laid), len(inner.laid)) == (1, 0)
    assert "forward" not in vars(model[0])


def test_what_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(torch.nn.Linear):
        pass

    assert not Prepacked(torch.nn.Sequential(Own(4, 4))).layers
    assert not Prepacked(layer(torch.float16)).layers
    assert not Prepacked(layer().to("meta")).layers
    model = layer()
    assert model[0] in Prepacked(model)
    monkeypatch.setattr(prepack, "BYTES", 160 * 96 * 4 - 1)
    assert model[0] not in Prepacked(model)
    monkeypatch.setattr(prepack, "kernels", lambda: None)
    assert not Prepacked(layer()).layers


def test_readers_that_train_lay_nothing_out() -> None:
    model = build("llama")
    assert RowReader(model).layers is None
    assert getattr(reader_of(model, prepack=False), "layers", 0) is None
    read = reader_of(build("llama"))
    assert read is not None
    assert read.layers is not None
    assert len(read.layers.laid) == 2 * 7 + 1  # a first reading's check went through all of them
